#!/usr/bin/env bats
# --best-effort: what is done without cgroups, and that the result says so.

load helpers

setup() {
	requires root setpriv
	export WHO=65533 # without processes
}

# as_user ARG...: cgshim as a user who can make no cgroup.
as_user() {
	local file=$BATS_TEST_TMPDIR/result out=$BATS_TEST_TMPDIR/stdout
	status=0
	setpriv --reuid "$WHO" --regid "$WHO" --clear-groups "$CGSHIM" --fd 3 "$@" 3>"$file" >"$out" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	# shellcheck disable=SC2034 # for the tests
	output=$(cat "$out")
	take_result "$file"
}

@test "without it, a limit that can't be enforced is an error with a remedy" {
	as_user --mem 64M -- true
	exits 125
	is verdict error error.step cgroup error.errno EACCES
	[[ $(field error.hint) == *--best-effort* ]]
	as_user -- true # what it is for is the cgroup
	exits 125
}

# bats test_tags=native
@test "memory: the address space that is in use" {
	as_user --best-effort --mem 64M -- "$PROG" touch $((16 * MIB))
	is verdict ok enforced.mem rlimit cgroup null sources.peak_memory_bytes wait4
	holds ".peak_memory_bytes >= $((16 * MIB)) and .peak_memory_bytes <= $((19 * MIB))"
	as_user --best-effort --mem 64M -- "$PROG" touch $((128 * MIB))
	exits 99
	is verdict nonzero-exit
	grep -q 'Cannot allocate memory' "$BATS_TEST_TMPDIR/stderr"
}

# bats test_tags=native
@test "processes: those of the user" {
	# cgshim's own threads are the user's, too, and on a busy machine their number changes meanwhile, now and then by more.
	for _ in 1 2 3; do
		as_user --best-effort --pids 5 -- "$PROG" forks 10
		is verdict ok enforced.pids rlimit pids_peak null pids_denied null
		echo "$output"
		[[ $output != [2-6]" EAGAIN" ]] || break
	done
	[[ $output == [2-6]" EAGAIN" ]]
	# For root there is no such limit, unless the program runs as somebody else.
	mask_cgroups --best-effort --pids 5 -- "$PROG" forks 10
	is verdict ok enforced.pids none cgroup_version null
	[ "$output" = "10 -" ]
	mask_cgroups --best-effort --pids 5 --user "$WHO:$WHO" -- "$PROG" forks 10
	is verdict ok enforced.pids rlimit
	[ "$output" = "4 EAGAIN" ]
}

# mask_cgroups ARG...: cgshim as root on a host without cgroups: all that are mounted are hidden.
mask_cgroups() {
	local file=$BATS_TEST_TMPDIR/result
	status=0
	unshare --mount bash -c 'mounts=$(awk "\$3 ~ /^cgroup/ { print \$2 }" /proc/self/mounts | tac); for m in $mounts; do umount -l "$m"; done; exec "$@"' \
		mask "$CGSHIM" --fd 3 "$@" 3>"$file" >"$BATS_TEST_TMPDIR/stdout" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	# shellcheck disable=SC2034 # for the tests
	output=$(cat "$BATS_TEST_TMPDIR/stdout")
	take_result "$file"
}

# bats test_tags=native
@test "CPU time: the program's by the clock, what it starts by an rlimit" {
	local _
	for _ in 1 2 3 4 5; do # a busy machine is late sometimes
		as_user --best-effort --cpu-time 0.5 -- "$PROG" spin 2 10
		! holds '.cpu_seconds <= 0.6' || break
	done
	exits 137
	is verdict cpu-time-limit enforced.cpu_time rlimit sources.cpu_seconds wait4
	holds '.cpu_seconds >= 0.5 and .cpu_seconds <= 0.6'
	as_user --best-effort --cpu-time 0.5 -- sh -c '"$0" spin 1 10; echo $?' "$PROG"
	[ "$output" = 137 ] # the limit of each process, a second later; the kernel looks at it when a tick comes
	exits 124
	is verdict cpu-time-limit exit_code 0 limits_hit '["cpu_time"]' # it had more than it might, all the same
	holds ".cpu_seconds <= $(has real_cpu && echo 2.6 || echo 5)"
}

# bats test_tags=native
@test "timers, output, rlimits and descriptors work as ever" {
	as_user --best-effort --wall-time 0.3 -- sleep 100
	exits 137
	is verdict wall-time-limit enforced.wall_time timer
	as_user --best-effort --output-limit 100 -- yes
	is verdict output-limit enforced.output relay output_bytes 100
	as_user --best-effort --ulimit nofile=7 --chdir / -- sh -c 'ulimit -n; pwd'
	is verdict ok
	[ "$output" = $'7\n/' ]
}

@test "what can't be had says none, and why" {
	requires loop
	local disk
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	disk=$(losetup --find --show "$BATS_TEST_TMPDIR/disk")
	as_user --best-effort --mem 64M --swap 1M --cpus 1 --cpu-weight 10 --cpuset-cpus 0 --cpuset-mems 0 --device-read-bps "$disk:1M" -- true
	losetup -d "$disk"
	is verdict ok enforced.mem rlimit enforced.swap none enforced.cpus none enforced.cpu_weight none enforced.cpuset_cpus none \
		enforced.cpuset_mems none enforced.device_read_bps none
	holds '(.warnings | length >= 2) and (.warnings[0] | test("no cgroup: .*permission denied"))'
}

@test "--mem-high: without a cgroup nothing stands in for it, nor on v1" {
	as_user --best-effort --mem-high 1M -- "$PROG" touch $((4 * MIB))
	is verdict ok cgroup null enforced.mem_high none limits_hit '[]'
	holds '.warnings[0] | test("no cgroup: .*permission denied")'
	shim --best-effort --mem 64M --mem-high 4M --pids 3 -- "$PROG" touch $((4 * MIB))
	is verdict ok limits.mem_high_bytes $((4 * MIB)) enforced.mem cgroup enforced.pids cgroup
	if has cgroups_v1; then
		is enforced.mem_high none limits_hit '[]'
		holds '.warnings == ["mem_high: set \"memory.high\": cgroup v1 has no such limit"]'
	else
		is enforced.mem_high cgroup limits_hit '["mem_high"]' warnings '[]'
	fi
}

@test "what the program leaves behind is killed, and counted" {
	as_user --best-effort -- sh -c 'setsid sleep 1000 & setsid sh -c "sleep 1000 & wait" & sleep 0.3; echo $!; exit 4'
	exits 4
	is verdict nonzero-exit leftover_killed 3
	gone "$output"
	as_user --best-effort --wall-time 0.5 -- sh -c 'setsid sh -c "(setsid sleep 1000 &); sleep 1000" & echo $!; wait'
	is verdict wall-time-limit
	gone "$output"
	as_user --best-effort --wait-all -- sh -c 'setsid sh -c "sleep 0.7; echo late" & exit 3'
	exits 3
	[ "$output" = late ]
}

@test "as root, with cgroups, it changes nothing" {
	shim --best-effort --mem 64M --pids 3 --cpus 1 --cpu-time 10 -- true
	is verdict ok warnings '[]'
	enforced_is '{"cpu_time":"timer","cpus":"cgroup","mem":"cgroup","pids":"cgroup"}'
	holds '.cgroup != null and .sources.peak_memory_bytes != "wait4"'
	shim --best-effort --mem 16M -- "$PROG" touch $((64 * MIB))
	is verdict memory-limit
}

@test "limits that the parent can't enforce are left out, one by one" {
	requires cgroups_v2
	mkdir /sys/fs/cgroup/cgshim-bats-busy
	sleep 1000 3>&- &
	local pid=$!
	echo "$pid" >/sys/fs/cgroup/cgshim-bats-busy/cgroup.procs
	shim --best-effort --parent /cgshim-bats-busy --mem 64M --cpu-time 10 --cpus 1 -- true
	kill "$pid"
	eventually rmdir /sys/fs/cgroup/cgshim-bats-busy 2>/dev/null
	is verdict ok enforced.mem rlimit enforced.cpu_time timer enforced.cpus none sources.cpu_seconds cpu.stat
	holds '.cgroup != null and .leftover_killed == 0'
}

@test "a user in a delegated cgroup has all limits" {
	requires cgroups_v2
	local top=/sys/fs/cgroup/cgshim-bats-delegated
	echo '+memory +pids +cpu' >/sys/fs/cgroup/cgroup.subtree_control
	mkdir "$top" "$top/caller"
	echo '+memory +pids +cpu' >"$top/cgroup.subtree_control"
	chown "$WHO" "$top" "$top/cgroup.procs" "$top/cgroup.subtree_control" "$top/caller/cgroup.procs"
	status=0
	bash -c 'echo 0 >"$0/caller/cgroup.procs"; shift 0; exec setpriv --reuid "$WHO" --regid "$WHO" --clear-groups "$@"' "$top" \
		"$CGSHIM" --fd 3 --parent /cgshim-bats-delegated/runs --mem 64M --pids 5 --cpus 1 -- "$PROG" forks 10 \
		3>"$BATS_TEST_TMPDIR/result" >"$BATS_TEST_TMPDIR/stdout" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	eventually rmdir "$top/caller" 2>/dev/null
	rmdir "$top"
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict ok pids_peak 5 pids_denied 1
	enforced_is '{"cpus":"cgroup","mem":"cgroup","pids":"cgroup"}'
	[ "$(cat "$BATS_TEST_TMPDIR/stdout")" = "4 EAGAIN" ]
}
