#!/usr/bin/env bats
# docs/composition.md, "Containers" and "Slurm". That a run works in each kind of container is in docs/hosts.md.

load helpers
load systemd
load containers

setup() { requires root systemd alice podman; }

# of_result EXPRESSION: of the results in $output.
of_result() { grep '^{' <<<"$output" | jq -r "select(.type == \"result\") | $1"; }

@test "in a container's shell --nest is needed, once" {
	# shellcheck disable=SC2016 # for the container's shell
	run podman_alice "${WRITABLE[@]}" -- sh -c '"$0" --mem 64M --fd 1 --stdout /dev/null -- "$1"; "$0" --nest --mem 64M --fd 1 --stdout /dev/null -- "$1" &&
		"$0" --mem 64M --events --fd 1 --stdout /dev/null -- "$1"; "$0" doctor --json; cat /proc/self/cgroup' "$CGSHIM" "$NOOP" 3>&-
	[ "$(of_result .verdict)" = $'error\nok\nok' ]
	[[ $(grep '^{' <<<"$output" | jq -r 'select(.type == "started") | .placement') == *container* ]]
	[ "$(grep '^{' <<<"$output" | jq -c 'select(.type == "doctor") | .ok')" = true ]
	[[ $output == *$'\n0::/nested'* ]]
}

@test "a container that cgshim starts is not in its run, unless it has no cgroup of its own" {
	local dir
	dir=$(rootfs root)
	run "$CGSHIM" --mem 32M -- podman run --rm --network=none --rootfs "$dir" "$PROG" touch $((64 * MIB)) 3>&-
	[ "$(of_result .verdict)" = ok ]
	run "$CGSHIM" --mem 32M -- podman run --rm --network=none --cgroups=disabled --rootfs "$dir" "$PROG" touch $((64 * MIB)) 3>&-
	[ "$(of_result .verdict)" = memory-limit ]
}

@test "Docker: in a container's shell, by docker exec, and around a container" {
	requires docker
	local where
	# shellcheck disable=SC2016 # for the container's shell
	run docker_root "${DOCKER_WRITABLE[@]}" -- sh -c '"$0" --mem 64M --fd 1 --stdout /dev/null -- "$1"; "$0" --nest --mem 64M --events --fd 1 --stdout /dev/null -- "$1"' "$CGSHIM" "$NOOP" 3>&-
	[ "$(of_result .verdict)" = $'error\nok' ]
	# Without a cgroup namespace of its own, it is in the host's.
	run docker_root --privileged --cgroupns=host -- "$CGSHIM" --mem 64M --fd 1 --stdout /dev/null -- "$NOOP" 3>&-
	[[ $(of_result '.verdict, .cgroup') == $'ok\n/system.slice/docker-'*'.scope/cgshim/'* ]]
	run docker_root -- "$CGSHIM" --best-effort --mem 64M --fd 1 --stdout /dev/null -- "$NOOP" 3>&-
	[ "$(of_result '.verdict, .enforced.mem')" = $'ok\nrlimit' ]
	docker run --detach --name exec --network=none "${DOCKER_WRITABLE[@]}" cgshim-test sleep 1000 3>&-
	for where in 1 2; do
		run docker exec exec "$CGSHIM" --nest --mem 64M --fd 1 --stdout /dev/null -- "$NOOP" 3>&-
		[ "$(of_result .verdict)" = ok ] || { echo "$where: $output"; docker rm --force exec; return 1; }
	done
	docker rm --force exec
	# dockerd starts it, who is not in the run.
	run "$CGSHIM" --mem 32M -- docker run --rm --network=none cgshim-test "$PROG" touch $((64 * MIB)) 3>&-
	[ "$(of_result .verdict)" = ok ]
}

# slurm: starts its daemons, on an address that is not the loopback's, which it does not take.
slurm() {
	local name daemon
	name=$(hostname)
	busybox ip addr show dev lo | grep -qF 192.0.2.1 || busybox ip addr add 192.0.2.1/32 dev lo # or it is tried once more
	echo "192.0.2.1 $name" >>/etc/hosts
	mkdir -p /etc/slurm /var/spool/slurm{ctld,d}
	printf '%s\n' ClusterName=test "SlurmctldHost=$name" SlurmUser=root ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup \
		StateSaveLocation=/var/spool/slurmctld SlurmdSpoolDir=/var/spool/slurmd SelectType=select/cons_tres \
		SelectTypeParameters=CR_Core_Memory "NodeName=$name CPUs=2 RealMemory=1000" "PartitionName=all Nodes=ALL Default=YES" \
		>/etc/slurm/slurm.conf
	printf '%s\n' CgroupPlugin=cgroup/v2 ConstrainRAMSpace=yes ConstrainCores=yes >/etc/slurm/cgroup.conf
	head -c 1024 /dev/urandom >/etc/munge/munge.key
	chown munge: /etc/munge/munge.key
	chmod 400 /etc/munge/munge.key
	for daemon in munge slurmctld slurmd; do systemctl start $daemon 3>&-; done
	eventually idle
}

idle() { [ "$(sinfo --noheader --format=%T)" = idle ]; }

@test "in a Slurm job the run is in the job, and within its limits" {
	requires slurmd
	slurm
	run -0 srun --mem=300 "$CGSHIM" --mem 64M --pids 1 --events --fd 1 --stdout /dev/null -- "$NOOP" 3>&-
	[ "$(of_result '.verdict, .pids_peak')" = $'ok\n1' ]
	[[ $(of_result .cgroup) =~ ^/system.slice/.*slurmstepd.scope/job_[0-9]+/step_0/.*/cgshim/ ]]
	# The job's limit, from inside of a run with a larger one.
	run srun --mem=100 "$CGSHIM" --mem 1G --fd 1 --stdout /dev/null -- "$PROG" touch $((200 * MIB)) 3>&-
	[[ $output == *oom* || $(of_result .verdict) = memory-limit ]]
	# alice's job is in a cgroup that is not hers.
	run --separate-stderr session srun --mem=300 "$CGSHIM" --mem 64M --fd 1 --stdout /dev/null -- "$NOOP" 3>&- # srun mixes the two within lines
	[[ $(of_result .error.hint) == *'--best-effort'* ]]
	run -0 session srun --mem=300 "$CGSHIM" --best-effort --mem 64M --fd 1 --stdout /dev/null -- "$NOOP" 3>&-
	[ "$(of_result '.verdict, .enforced.mem')" = $'ok\nrlimit' ]
}
