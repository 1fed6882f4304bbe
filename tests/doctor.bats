#!/usr/bin/env bats
# cgshim doctor: what works here, and what to do about the rest.

load helpers

setup() { requires root; }

# doctor: sets $status and $result.
doctor() {
	status=0
	result=$("${AS[@]}" "$CGSHIM" doctor --json 2>"$BATS_TEST_TMPDIR/stderr") || status=$?
	[ -z "${CGSHIM_RESULTS:-}" ] || echo "$result" >>"$CGSHIM_RESULTS"
	[ "$(wc -l <<<"$result")" = 1 ] || { cat "$BATS_TEST_TMPDIR/stderr" >&2; return 1; }
}

AS=()

# check NAME STATUS: and a check that is not ok has something to do about it.
check() {
	holds "[.checks[] | select(.name == \"$1\")] | length == 1 and .[0].status == \"$2\" and
		(.[0].status == \"ok\" or (.[0].remedy | length) > 10)"
}

@test "all is well here: root, with every controller" {
	doctor
	exits 0
	holds '.type == "doctor" and .ok and .version != "" and .placement.parent == "/cgshim"'
	holds '[.checks[] | select(.status != "ok")] == []'
	local test
	for test in oom pids wall-time cpu-time; do check self-test-$test ok; done
	run -0 "$CGSHIM" doctor
	[[ ${lines[0]} == cgshim\ *\ on\ Linux\ * && $output == *'ok  self-test-oom '* ]]
}

@test "a user without a place: what is missing, and what to do" {
	requires setpriv
	AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	doctor
	exits 1
	check permission fail
	holds '.ok == false and ([.checks[] | select(.name == "permission") | .remedy] | .[0] | test("sudo"))'
	# The run's own hint says where to look.
	"${AS[@]}" "$CGSHIM" --mem 64M --fd 1 -- "$NOOP" >"$BATS_TEST_TMPDIR/result" 2>/dev/null || true
	take_result "$BATS_TEST_TMPDIR/result"
	holds '.error.hint | test("cgshim doctor: permission")'
	run -1 "${AS[@]}" "$CGSHIM" doctor
	[[ $output == *$'\nfail: permission:\n  '*sudo* ]]
}

@test "a read-only cgroup file system, as in most containers" {
	requires mount
	# shellcheck disable=SC2016 # for awk
	AS=(unshare -m sh -c 'for m in $(awk "\$3 ~ /^cgroup/ {print \$2}" /proc/self/mounts); do mount -o remount,bind,ro "$m" || exit 99; done; exec "$@"' sh)
	doctor
	exits 1
	check permission fail
	holds '[.checks[] | select(.name == "permission") | .remedy] | .[0] | test("docker run")'
}

@test "no cgroup file system, and no /proc" {
	requires mount
	# shellcheck disable=SC2016
	AS=(unshare -m sh -c 'for m in $(awk "\$3 ~ /^cgroup/ {print \$2}" /proc/self/mounts); do umount "$m" || exit 99; done; exec "$@"' sh)
	doctor
	exits 1
	check cgroup-mount fail
	AS=(unshare -m sh -c 'umount -R /proc && exec "$@"' sh)
	doctor
	exits 1
	check cgroup-mount fail
}

@test "another place can be asked for; what it can't have is a warning or a failure" {
	requires cgroups_v2
	mkdir /sys/fs/cgroup/cgshim-bats-poor
	echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
	AS=(sh -c 'echo 0 >/sys/fs/cgroup/cgshim-bats-poor/cgroup.procs && exec unshare --cgroup --mount sh -c "umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"\$@\"" sh "$@"' sh)
	# In a container that was not given every controller.
	echo "-cpuset -io" >/sys/fs/cgroup/cgroup.subtree_control
	doctor
	rmdir /sys/fs/cgroup/cgshim-bats-poor
	exits 0
	check controller-cpuset warn
	check controller-io warn
	check self-test-oom ok
	holds '.placement.reason | test("container")'
	run -125 "$CGSHIM" doctor --all
	[[ $output == *'no such flag'* ]]
}
