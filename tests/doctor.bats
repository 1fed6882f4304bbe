#!/usr/bin/env bats
# cgshim doctor: what works here, and what to do about the rest.

load helpers
load doctor

setup() { requires root; }

@test "all is well here: root, with every controller" {
	doctor
	exits 0
	holds '.type == "doctor" and .ok and .version != "" and .placement.parent == "/cgshim"'
	all_but
	local test
	for test in oom pids wall-time cpu-time; do check self-test-$test ok; done
	run -0 "$CGSHIM" doctor
	[[ ${lines[0]} == cgshim\ *\ on\ Linux\ * && $output =~ $'\n'\ *ok\ +self-test-oom\  ]]
}

@test "a user without a place: what is missing, and what to do" {
	requires setpriv
	AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	doctor
	exits 1
	check permission fail
	holds '.ok == false and ([.checks[] | select(.name == "permission") | .remedy] | .[0] | test("sudo"))'
	# The run's own hint says where to look.
	"${AS[@]}" "$CGSHIM" --mem 64M --fd 1 --stdout /dev/null -- "$NOOP" >"$BATS_TEST_TMPDIR/result" 2>/dev/null || true
	take_result "$BATS_TEST_TMPDIR/result"
	holds '.error.hint | test("cgshim doctor: permission")'
	run -1 "${AS[@]}" "$CGSHIM" doctor
	[[ $output == *$'\nfail: permission:\n  '*sudo* ]]
}

# bats test_tags=native
@test "a user who may make no namespaces: a warning, also without a place, and --net none is what it is about" {
	requires setpriv user_namespaces
	AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	doctor
	check net-namespace ok
	AS+=(--no-new-privs "$TOP/build/programs/filter" 1 unshare --)
	doctor
	check net-namespace warn
	holds '.checks[] | select(.name == "net-namespace") | .found == "net: operation not permitted"'
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
	AS=(unshare -m sh -c 'while umount -R /proc 2>/dev/null; do :; done; exec "$@"' sh)
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

# bats test_tags=native
@test "the man page has every check, and no other" {
	requires real_cpu # the same everywhere
	doctor
	local checks documented
	checks=$(jq -r '.checks[].name' <<<"$result" | sort)
	documented=$(sed -n '/^.Sh DIAGNOSTICS/,/^.Sh SEE ALSO/s/^.It Cm //p' "$TOP/docs/cgshim.1" | sed 's/ , /\n/g' | sort)
	diff <(echo "$checks") <(echo "$documented")
}

# As nobody, whose group in the remedies is then cgshim-bats-doctor.
NOBODY="setpriv --reuid=65534 --regid=65534 --clear-groups"

@test "a user without a place: what is to be pasted gives one" {
	requires setpriv
	local remedies
	# shellcheck disable=SC2086
	remedies=$(remedy permission $NOBODY)
	paste_as "$NOBODY" "$remedies"
	echo "$output"
	jq -c ".checks[]|select(.status != \"ok\")" "$BATS_TEST_TMPDIR/pasted.json"
	[[ ${lines[0]} == 1:\ doctor && ${lines[1]} == 0:\ doctor* && ${lines[2]} == 12[67]:\ --best-effort* ]]
	# shellcheck disable=SC2034 # for check
	result=$(cat "$BATS_TEST_TMPDIR/pasted.json")
	holds '.placement.parent | startswith("/cgshim-bats-doctor")'
	check self-test-oom ok
	check change-user warn
}

@test "a parent with processes of its own is no place: v2" {
	requires cgroups_v2
	mkdir /sys/fs/cgroup/cgshim-bats-poor
	AS=(sh -c 'echo 0 >/sys/fs/cgroup/cgshim-bats-poor/cgroup.procs && exec "$@"' sh)
	doctor --parent /cgshim-bats-poor
	rmdir /sys/fs/cgroup/cgshim-bats-poor
	exits 1
	check placement fail
	check permission ok
	holds '.checks | map(.name | select(startswith("controller-memory"))) == []'
}

no_parent() { [ -z "$(find /sys/fs/cgroup -type d -name cgshim-bats-doctor 2>/dev/null)" ]; }

@test "killed, or stopped by Ctrl-C, it leaves nothing" {
	local _ pid
	for _ in $(times 20 3); do
		timeout --foreground -s KILL "0.$((RANDOM % 5))$((RANDOM % 10))" "$CGSHIM" doctor --parent /cgshim-bats-doctor >/dev/null || true
	done
	eventually no_parent
	for _ in $(times 20 3); do
		setsid "$CGSHIM" doctor --parent /cgshim-bats-doctor >/dev/null 2>"$BATS_TEST_TMPDIR/stderr" 3>&- &
		pid=$!
		sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
		kill -INT -- "-$pid" || true
		wait "$pid" || true
		no_parent
	done
}

teardown() {
	local dir
	for dir in /sys/fs/cgroup/cgshim-bats-doctor /sys/fs/cgroup/*/cgshim-bats-doctor; do
		[ ! -d "$dir" ] || [ -n "${BATS_TEST_COMPLETED:-}" ] || find "$dir" -depth -type d -exec rmdir {} +
	done
	nothing_left
}
