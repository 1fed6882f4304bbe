#!/usr/bin/env bats
# System calls that fail: one result all the same, and nothing left.

load helpers

setup() { requires root strace python3; }

@test "every system call from the first mkdir on fails once" {
	# Under emulation a sample, another one than last time: strace and emulation are slow together.
	if has real_cpu; then
		run "$TOP/tests/faults"
	else
		run "$TOP/tests/faults" 6 "$RANDOM"
	fi
	echo "${output:0:4000}"
	[ "$status" = 0 ]
}

# interrupted CALL…: a run in which each of them is interrupted twice in every thread.
@test "a storm of EINTR is no error" {
	local call
	# Under emulation in all of them, by one run.
	for call in $(if has real_cpu; then echo read write openat wait4 waitid; else echo read,write,openat,wait4,waitid; fi); do
		status=0
		strace -f -qq -o /dev/null -e inject="$call":error=EINTR:when=2..9+3 "$CGSHIM" --mem 64M --output-limit 1M --fd 3 -- "$PROG" usage sleeps 3 \
			3>"$BATS_TEST_TMPDIR/result" >"$BATS_TEST_TMPDIR/stdout" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
		head -c 2000 "$BATS_TEST_TMPDIR/stderr" >&2
		take_result "$BATS_TEST_TMPDIR/result"
		# The program is traced, too; what it makes of it is its own affair.
		holds '.error == null' || { echo "$call" >&2; return 1; }
	done
}

@test "too few descriptors are an error with its step, or enough" {
	local limit
	for limit in $(seq 6 "$(if has real_cpu; then echo 3; else echo 7; fi)" 34); do
		status=0
		(ulimit -n "$limit" && exec "$CGSHIM" --mem 64M --output-limit 1M --fd 3 -- "$NOOP") 3>"$BATS_TEST_TMPDIR/result" >/dev/null 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
		[ -s "$BATS_TEST_TMPDIR/result" ] || cp "$BATS_TEST_TMPDIR/stderr" "$BATS_TEST_TMPDIR/result"
		take_result "$BATS_TEST_TMPDIR/result" || { echo "limit $limit" >&2; return 1; }
		holds 'if .verdict == "ok" then .error == null else .verdict == "error" and .error.step != "" and .error.errno == "EMFILE" end'
		[ "$status" = 0 ] || [ "$status" = 125 ]
		nothing_left
	done
	is verdict ok
}

@test "a cgroup file system that is read-only is an error with a hint" {
	requires mount
	status=0
	unshare -m sh -c 'for m in $(awk "\$3 ~ /^cgroup/ {print \$2}" /proc/self/mounts); do mount -o remount,bind,ro "$m" || exit 99; done; exec "$@"' sh \
		"$CGSHIM" --mem 64M --fd 3 -- "$NOOP" 3>"$BATS_TEST_TMPDIR/result" || status=$?
	exits 125
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict error error.step cgroup error.errno EROFS
	holds '.error.hint != null'
}

@test "a group that is removed under the run's feet is an error, and the run ends" {
	# The program, root, leaves all its groups, and removes them.
	shim --name cgshim-bats-gone --mem 64M -- sh -c '
		for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
			[ ! -e "$d/cgroup.procs" ] || echo 0 >"$d/cgroup.procs"
		done
		rmdir /sys/fs/cgroup/cgshim/cgshim-bats-gone /sys/fs/cgroup/*/cgshim/cgshim-bats-gone 2>/dev/null
		exit 7'
	# What the kernel counted is gone with the group.
	is exit_code 7 peak_memory_bytes null
	nothing_left
}

@test "a controller that vanishes leaves its figures unknown" {
	requires cgroups_v2
	shim --name cgshim-bats-less --pids 10 -- sh -c 'echo -pids >/sys/fs/cgroup/cgshim/cgroup.subtree_control'
	is pids_peak null
	nothing_left
}
