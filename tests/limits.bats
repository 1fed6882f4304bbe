#!/usr/bin/env bats
# Every limit, from the program's side and from the result's.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

setup() { requires root; }

@test "exactly 32 MiB: the peak is that, and at most 2 MiB more" {
	"$CGSHIM" --fd 3 -- "$PROG" clock 3>/dev/null >/dev/null
	shim --mem 64M -- "$PROG" touch $((32 * MIB))
	is verdict ok
	holds ".peak_memory_bytes >= $((32 * MIB)) and .peak_memory_bytes <= $((34 * MIB))"
}

@test "four children of 16 MiB at once: 64 MiB, within 4" {
	shim --mem 128M -- "$PROG" family 4 $((16 * MIB))
	is verdict ok
	holds ".peak_memory_bytes >= $((64 * MIB)) and .peak_memory_bytes <= $((68 * MIB))"
	holds '.pids_peak == 5'
}

@test "a caller of 300 MB changes none of it" {
	requires python3
	"$CGSHIM" --fd 3 -- "$NOOP" 3>/dev/null
	python3 - "$CGSHIM" "$NOOP" "$PROG" >"$BATS_TEST_TMPDIR/all" <<-'EOF'
		import os, subprocess, sys
		ballast = bytearray(os.urandom(1 << 20)) * 300
		cgshim, noop, prog = sys.argv[1:]
		for mem, pids, argv in [("64M", "1", [noop]), ("64M", "1", [prog, "touch", str(32 << 20)]),
		                        ("128M", "5", [prog, "family", "4", str(16 << 20)])]:
		    run = subprocess.run([cgshim, "--mem", mem, "--pids", pids, "--", *argv],
		                         stderr=subprocess.PIPE, stdout=subprocess.PIPE, check=True)
		    sys.stdout.write(run.stderr.decode())
		    sys.stderr.write(run.stdout.decode())
	EOF
	jq -es '.[0].peak_memory_bytes <= 786432 and .[0].pids_peak == 1' "$BATS_TEST_TMPDIR/all"
	jq -es ".[1].peak_memory_bytes >= $((32 * MIB)) and .[1].peak_memory_bytes <= $((34 * MIB))" "$BATS_TEST_TMPDIR/all"
	jq -es ".[2].peak_memory_bytes >= $((64 * MIB)) and .[2].peak_memory_bytes <= $((68 * MIB))" "$BATS_TEST_TMPDIR/all"
	jq -es '.[2].pids_peak == 5' "$BATS_TEST_TMPDIR/all"
}

# bats test_tags=slow
@test "128 MiB in 64 MiB: memory-limit, every time" {
	local all=$BATS_TEST_TMPDIR/all code
	local want
	want=$(times 50 8 | tail -n 1)
	for _ in $(seq "$want"); do
		code=0
		"$CGSHIM" --mem 64M --fd 3 -- "$PROG" touch $((128 * MIB)) 3>>"$all" || code=$?
		[ "$code" = 137 ]
	done
	# memory.peak of 6.1 can be a page above memory.max.
	jq -es "map(select(.verdict == \"memory-limit\" and .signal == 9 and .signal_name == \"SIGKILL\" and
		.limits_hit == [\"memory\"] and .oom_kills >= 1 and .peak_memory_bytes <= $((64 * MIB + 4096)))) | length == $want" "$all"
}

@test "a limit too small to start with is a memory limit, too" {
	local size
	for size in 1 4K 64K; do
		shim --mem "$size" -- "$NOOP"
		exits 137
		is verdict memory-limit signal 9
	done
}

@test "an OOM of a limit above, which kills in another run, is not this one's" {
	local dir=/sys/fs/cgroup/memory/cgshim-bats-shared limit=memory.limit_in_bytes
	has cgroups_v1 || { dir=/sys/fs/cgroup/cgshim-bats-shared limit=memory.max; echo +memory >/sys/fs/cgroup/cgroup.subtree_control; }
	mkdir "$dir"
	echo 120M >"$dir/$limit"
	"$CGSHIM" --parent /cgshim-bats-shared --mem 90M --output "$BATS_TEST_TMPDIR/innocent" -- sh -c 'echo started; sleep 4' >"$BATS_TEST_TMPDIR/out" 3>&- &
	eventually [ -s "$BATS_TEST_TMPDIR/out" ]
	shim --parent /cgshim-bats-shared --mem 400M -- "$PROG" touch $((300 * MIB))
	blamed /cgshim-bats-shared $((120 * MIB))
	wait $!
	take_result "$BATS_TEST_TMPDIR/innocent"
	is verdict ok oom_kills 0 warnings '[]'
	rmdir "$dir"
}

# memory_group PATH [LIMIT]: makes a group for memory, with a limit.
memory_group() {
	local dir
	dir=$(cgroup_file memory "" "" "$1")
	has cgroups_v1 || echo +memory >"${dir%/*/}/cgroup.subtree_control" # the path ends in a slash
	mkdir "$dir"
	[ -z "${2:-}" ] || echo "$2" >"$(cgroup_file memory memory.limit_in_bytes memory.max "$1")"
}

# blamed PATH BYTES: a run that the kernel has killed for that limit, which is not its own.
blamed() {
	is verdict signaled signal 9 error null limits_hit '[]'
	holds '.oom_kills >= 1'
	holds ".warnings | length == 1 and (.[0] | contains(\"\\\"$1\\\" ($2 bytes)\"))"
}

@test "an OOM of a limit above is not the program's: a warning says whose it was" {
	local up=/cgshim-bats-above
	memory_group $up 48M
	for _ in $(times 5 2); do
		shim --parent $up/a/b --mem 256M -- "$PROG" touch $((100 * MIB))
		exits 137
		blamed $up $((48 * MIB))
	done
	shim --parent $up -- "$PROG" touch $((100 * MIB))
	blamed $up $((48 * MIB))
	# The program goes on, where it can: how it ends is the verdict. v2 kills all of a run.
	shim --parent $up --mem 256M -- sh -c '"$0" touch "$1"; exit 7' "$PROG" $((100 * MIB))
	if has cgroups_v2; then blamed $up $((48 * MIB)); else is verdict nonzero-exit exit_code 7 limits_hit '[]' oom_kills 1; fi
	# Its own limit is its own, also there.
	for _ in $(times 5 2); do
		shim --parent $up --mem 16M -- "$PROG" touch $((100 * MIB))
		is verdict memory-limit limits_hit '["memory"]' warnings '[]'
	done
	result=$(echo '{"argv":["'"$PROG"'","touch","104857600"],"mem":"256M"}' | "$CGSHIM" batch --parent $up)
	result=${result/\"id\":null,/}
	blamed $up $((48 * MIB))
	rmdir "$(cgroup_file memory "" "" $up)"
}

@test "… also if it can't be seen from the container" {
	requires root
	local box=/cgshim-bats-box mounts=/sys/fs/cgroup type="cgroup2 cgroup2"
	! has cgroups_v1 || mounts=/sys/fs/cgroup/memory type="cgroup -o memory memory"
	memory_group $box 48M
	memory_group $box/inside
	# shellcheck disable=SC2329 # $VIA
	in_box() {
		(echo "$BASHPID" >"$(cgroup_file memory "" "" $box/inside)/cgroup.procs" &&
			exec unshare --cgroup --mount sh -c "umount -l $mounts && mount -t $type $mounts"' && exec "$@"' sh "$@")
	}
	VIA=in_box shim --mem 256M -- "$PROG" touch $((100 * MIB))
	is verdict signaled signal 9 limits_hit '[]'
	holds '.warnings | length == 1 and (.[0] | contains("seen from here"))'
	rmdir "$(cgroup_file memory "" "" $box/inside)" "$(cgroup_file memory "" "" $box)"
}

@test "an OOM of a limit that the program has set below its own is its own doing" {
	local group
	group=$(cgroup_file memory "" "" /cgshim/cgshim-bats-low)
	cat >"$BATS_TEST_TMPDIR/below" <<-'EOF'
		cd "$1" && mkdir low || exit 90
		if [ -e cgroup.type ]; then # v2: a group with processes limits none below it
			mkdir rest && echo $$ >rest/cgroup.procs && echo +memory >cgroup.subtree_control || exit 91
			echo 16M >low/memory.max
		else
			echo 16M >low/memory.limit_in_bytes
		fi || exit 92
		sh -c 'echo $$ >low/cgroup.procs && exec "$0" touch 67108864' "$2"
		[ $? = 137 ] && exit 7
	EOF
	shim --name cgshim-bats-low --mem 256M -- sh "$BATS_TEST_TMPDIR/below" "$group" "$PROG"
	is verdict nonzero-exit exit_code 7 oom_kills 1 limits_hit '[]' warnings '[]'
}

@test "a grandchild's OOM is the run's, whatever the main program exits with" {
	for _ in $(times 10 3); do
		shim --mem 32M -- "$PROG" grandchild $((64 * MIB))
		is verdict memory-limit
		holds '.oom_kills >= 1'
	done
}

@test "swap is none unless it is asked for" {
	requires swap_accounting
	shim --mem 32M --swap 16M --name swap -- cat "$(cgroup_file memory memory.memsw.limit_in_bytes memory.swap.max /cgshim/swap)"
	if has cgroups_v2; then [ "$output" = $((16 * MIB)) ]; else [ "$output" = $((48 * MIB)) ]; fi
	shim --mem 32M --name swap -- cat "$(cgroup_file memory memory.memsw.limit_in_bytes memory.swap.max /cgshim/swap)"
	if has cgroups_v2; then [ "$output" = 0 ]; else [ "$output" = $((32 * MIB)) ]; fi
}

@test "above --mem-high the run is slowed down, and not killed" {
	requires cgroups_v2 psi
	shim --mem 64M -- "$PROG" touch $((18 * MIB))
	is verdict ok limits_hit '[]'
	local free
	free=$(field pressure_memory_full_seconds)
	shim --mem 64M --mem-high 16M -- "$PROG" touch $((18 * MIB))
	exits 0
	is verdict ok oom_kills 0 limits.mem_high_bytes $((16 * MIB)) enforced.mem_high cgroup limits_hit '["mem_high"]' warnings '[]'
	# All that it wants, and what it waited for is memory.
	holds ".peak_memory_bytes >= $((18 * MIB))"
	holds ".pressure_memory_full_seconds > 10 * $free and .pressure_memory_full_seconds > .cpu_seconds"
	# What stays below it is not, nor is what a limit that is reached earlier ends.
	shim --mem-high 64M -- "$PROG" touch $((18 * MIB))
	is verdict ok limits_hit '[]'
	enforced_is '{"mem_high":"cgroup"}'
	shim --mem 16M --mem-high 64M -- "$PROG" touch $((32 * MIB))
	is verdict memory-limit limits_hit '["memory"]'
}

@test "… it can be ended all the same, however far above --mem-high it is" {
	requires cgroups_v2
	# Nobody gets far in 64 KiB: every step is a sleep, that before the first instruction, too.
	local size
	for size in 1 64K 2M; do
		shim --mem-high "$size" --wall-time 2 -- "$PROG" family 4 $((64 * MIB))
		is verdict wall-time-limit signal 9 oom_kills 0 limits_hit '["mem_high","wall_time"]'
	done
}

@test "… a --mem-high that the program sets below its own is its own doing" {
	requires cgroups_v2
	cat >"$BATS_TEST_TMPDIR/below" <<-'EOF'
		cd "$1" && mkdir low rest && echo $$ >rest/cgroup.procs && echo +memory >cgroup.subtree_control &&
			echo 4M >low/memory.high || exit 90
		sh -c 'echo $$ >low/cgroup.procs && exec "$0" touch 4194304' "$2" || exit 91
		read -r _ high <<-END
			$(grep ^high memory.events)
		END
		[ "$high" -gt 0 ] && exit 7
	EOF
	shim --name cgshim-bats-high --mem-high 256M -- sh "$BATS_TEST_TMPDIR/below" /sys/fs/cgroup/cgshim/cgshim-bats-high "$PROG"
	is verdict nonzero-exit exit_code 7 limits_hit '[]' warnings '[]'
	# Nor can somebody without privileges raise it.
	shim --name cgshim-bats-high --mem-high 64M --user 65534:65534 -- sh -c 'echo max >"$0"' /sys/fs/cgroup/cgshim/cgshim-bats-high/memory.high
	is verdict nonzero-exit
	grep -qi 'permission denied' "$BATS_TEST_TMPDIR/stderr"
}

@test "--mem-high on cgroup v1 is refused before anything runs or is limited" {
	requires cgroups_v1
	shim --mem 64M --mem-high 48M -- sh -c 'echo started'
	exits 125
	[ -z "$output" ]
	is verdict error error.step limit error.errno null error.message 'limit: set "memory.high": cgroup v1 has no such limit' enforced '{}'
	[[ $(field error.hint) == *'cgroup v2 alone'*'--best-effort'* ]]
}

@test "at the process limit fork fails, is counted, and the run goes on" {
	shim --pids 5 -- "$PROG" forks 10
	exits 0
	[ "$output" = "4 EAGAIN" ]
	is verdict ok pids_peak 5 pids_denied 1
	holds '.limits_hit == ["pids"]'
	is leftover_killed 4
}

# What may be used of one second before the kill. Emulated machines take the CPU from each other.
overshoot() { if has real_cpu; then echo 1.05; else echo 1.2; fi; }

@test "two threads that burn 3 CPU seconds pass with 3.2, and not with 1" {
	shim --cpu-time 3.2 -- "$PROG" spin 2 3
	is verdict ok
	holds '.cpu_seconds >= 2.9 and .cpu_seconds <= 3.2'
	holds '(.cpu_user_seconds + .cpu_system_seconds - .cpu_seconds) | fabs < 0.00001'
	once_of 5 ".cpu_seconds <= $(overshoot)" --cpu-time 1 -- "$PROG" spin 2 3
	exits 137
	is verdict cpu-time-limit signal 9
	holds '.cpu_seconds >= 1 and .limits_hit == ["cpu_time"]'
}

@test "… also when they may use one CPU only, a period's share at once" {
	once_of 5 ".cpu_seconds <= $(overshoot)" --cpus 1 --cpu-time 1 -- "$PROG" spin 2 3
	is verdict cpu-time-limit
	holds '.cpu_seconds >= 1'
}

@test "the CPU time of all processes counts" {
	once_of 5 '.cpu_seconds <= 0.55' --cpu-time 500ms -- sh -c '"$0" spin 1 10 & "$0" spin 1 10 & wait' "$PROG"
	is verdict cpu-time-limit
	holds '.cpu_seconds >= 0.5'
}

@test "the wall time ends a sleep" {
	once_of 5 '.wall_seconds <= 0.6' --wall-time 0.5 -- sleep 10
	exits 137
	is verdict wall-time-limit signal 9
	holds '.wall_seconds >= 0.5 and .cpu_seconds < 0.4'
}

# asleep READY WAIT ARG...: runs cgshim ARG..., whose program prints its pid, reads a line and ends. While it reads and ends
# cgshim is stopped. The command READY is run before cgshim is stopped, and WAIT, with "before" and "after", around the line.
asleep() {
	local before=$1 after=$2 dir=$BATS_TEST_TMPDIR pid
	shift 2
	rm -f "$dir/go" && mkfifo "$dir/go"
	: >"$dir/out"
	PROG=$PROG "$CGSHIM" --fd 3 --stdin "$dir/go" --stdout "$dir/out" "$@" 3>"$dir/result" 2>"$dir/stderr" 4<>"$dir/go" &
	pid=$!
	exec 4>"$dir/go"
	eventually test -s "$dir/out"
	$before
	kill -STOP $pid
	$after before
	echo >&4
	exec 4>&-
	eventually gone "$(<"$dir/out")"
	$after after
	kill -CONT $pid
	status=0
	wait $pid || status=$?
	take_result "$dir/result"
}
nothing() { :; }
# late: the limit of three seconds is over when the program ends; soon: only when cgshim looks.
late() { [ "$1" = after ] || sleep 3.1; }
soon() { [ "$1" = before ] || sleep 3.1; }

@test "a program that ends by itself, over a limit, while nobody looks: it is over it" {
	asleep nothing nothing --cpu-time 1 -- sh -c 'echo $$; read -r go; exec "$PROG" spin 1 1.5'
	exits 124
	is verdict cpu-time-limit exit_code 0 limits_hit '["cpu_time"]'
	holds '.cpu_seconds >= 1.49' # by another clock than the program's
	asleep nothing nothing --best-effort --cpu-time 1 -- sh -c 'echo $$; read -r go; "$PROG" spin 1 1.5; exit 7'
	exits 7
	is verdict cpu-time-limit limits_hit '["cpu_time"]'
	asleep nothing late --wall-time 3 -- sh -c 'echo $$; read -r go'
	exits 124
	is verdict wall-time-limit exit_code 0 limits_hit '["wall_time"]'
	holds '.wall_seconds > 3'
}

# bats test_tags=native
@test "… and one that was done in time is not, however late that is seen" {
	asleep "sleep 0.3" soon --wall-time 3 -- sh -c 'echo $$; read -r go; exit 3'
	exits 3
	is verdict nonzero-exit limits_hit '[]'
	holds '.wall_seconds > 0.3 and .wall_seconds <= 3'
}

# bats test_tags=native
@test "a resource limit that ends the program is named where that is proved" {
	shim --ulimit cpu=1 -- "$PROG" spin 1 10
	exits 137
	is verdict signaled signal_name SIGKILL limits_hit '["ulimit_cpu"]' warnings '[]'
	shim --ulimit cpu=1:5 -- "$PROG" spin 2 10
	exits 152
	is verdict signaled signal_name SIGXCPU limits_hit '["ulimit_cpu"]'
	shim --ulimit fsize=10 -- sh -c 'exec head -c 20 /dev/zero >"$0"' "$BATS_TEST_TMPDIR/file"
	exits 153
	is verdict signaled signal_name SIGXFSZ limits_hit '["ulimit_fsize"]'
	shim --best-effort --ulimit cpu=1 -- "$PROG" spin 1 10
	is verdict signaled limits_hit '["ulimit_cpu"]'
}

# bats test_tags=native
@test "… and nowhere else" {
	# Somebody's SIGKILL, and the CPU time of children.
	shim --ulimit cpu=100 -- sh -c 'kill -9 $$'
	is verdict signaled signal 9 limits_hit '[]' warnings '[]'
	shim --ulimit cpu=2 -- sh -c '"$0" spin 1 1.5; "$0" spin 1 1.5; kill -9 $$' "$PROG"
	is verdict signaled signal 9 limits_hit '[]' warnings '[]'
	# What the program has set itself.
	shim --ulimit cpu=100 -- sh -c 'ulimit -t 1; exec "$0" spin 1 10' "$PROG"
	is verdict signaled signal 9 limits_hit '[]' warnings '[]'
	shim -- sh -c 'ulimit -f 1; exec head -c 2000 /dev/zero >"$0"' "$BATS_TEST_TMPDIR/file"
	is verdict signaled signal_name SIGXFSZ limits_hit '[]' warnings '[]'
	# What cgshim's caller has set: not the run's, but worth a word.
	result=$( (ulimit -t 1; exec "$CGSHIM" --fd 1 --stdout /dev/null -- "$PROG" spin 1 10) ) || true
	is verdict signaled signal 9 limits_hit '[]'
	holds '.warnings | length == 1 and (.[0] | contains("resource limit cpu"))'
	# shellcheck disable=SC2034 # for is
	result=$( (ulimit -f 1; exec "$CGSHIM" --fd 4 -- sh -c 'exec head -c 2000 /dev/zero >"$0"' "$BATS_TEST_TMPDIR/file") 4>&1 >/dev/null) || true
	is verdict signaled signal_name SIGXFSZ limits_hit '[]'
	holds '.warnings | length == 1 and (.[0] | contains("resource limit fsize"))'
}

@test "half a CPU halves a spinner's speed, and shows" {
	shim -- "$PROG" spin 1 1
	local free
	free=$(field wall_seconds)
	# Whom others leave less than half of a CPU, needs no throttling for that.
	once_of 10 ".wall_seconds <= 3 * $free and .cpu_throttled_seconds >= 0.1" --cpus 0.5 --cpu-weight 10000 -- "$PROG" spin 1 1
	is verdict ok
	holds '.wall_seconds >= 1.6 * .cpu_seconds' # by itself it is nearly the same, where nobody else wants the CPU
	holds '.limits_hit == ["cpus"]'
}

@test "a CPU share is written in the unit of the kernel's version" {
	local file
	file=$(cgroup_file cpu cpu.shares cpu.weight /cgshim/share)
	shim --name share --cpu-weight 100 -- cat "$file"
	if has cgroups_v2; then [ "$output" = 100 ]; else [ "$output" = 1024 ]; fi
	shim --name share --cpu-weight 1 -- cat "$file"
	if has cgroups_v2; then [ "$output" = 1 ]; else [ "$output" = 2 ]; fi
	shim --name share --cpu-shares 1024 -- cat "$file"
	if has cgroups_v2; then [ "$output" = 100 ]; else [ "$output" = 1024 ]; fi
	shim --name share --cpu-shares 262144 -- cat "$file"
	if has cgroups_v2; then [ "$output" = 10000 ]; else [ "$output" = 262144 ]; fi
}

@test "every limit at once, and what the result says of them" {
	shim --mem 64M --swap 8M --pids 8 --cpus 1.5 --cpu-weight 50 --cpu-time 10s --wall-time 1m -- true
	is verdict ok
	holds '.limits == {"mem_bytes":67108864,"swap_bytes":8388608,"pids":8,"cpus":1.5,"cpu_weight":50,"cpu_time_seconds":10,"wall_time_seconds":60}'
	enforced_is '{"cpu_time":"timer","cpu_weight":"cgroup","cpus":"cgroup","mem":"cgroup","pids":"cgroup","swap":"cgroup","wall_time":"timer"}'
}

# median FILE: of the first column.
median() { awk '{print $1}' "$1" | sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }

@test "the program's CPU clock and peak memory start with nothing of the launcher's" {
	local with=$BATS_TEST_TMPDIR/with without=$BATS_TEST_TMPDIR/without memory=$BATS_TEST_TMPDIR/memory
	for _ in $(times 21 9); do
		"$CGSHIM" --mem 64M --pids 1 --fd 3 -- "$TOP/build/programs/first" 3>/dev/null >>"$with"
		"$TOP/build/programs/first" >>"$without"
		"$CGSHIM" --mem 64M --pids 1 --fd 3 -- "$PROG" clock 3>/dev/null >>"$memory"
	done
	# Microseconds; the median, for single runs are hit by whatever else the machine does.
	echo "with $(median "$with"), without $(median "$without")" >&2
	if has real_cpu; then
		[ "$(median "$with")" -lt $((1000 + $(median "$without"))) ] # a busy machine takes more for both
	else
		[ "$(median "$with")" -lt $((10 * $(median "$without"))) ]
	fi
	# ru_maxrss, in KiB: a static program's own is about 1 MiB.
	[ "$(awk '{print $2}' "$memory" | sort -n | tail -n 1)" -le 2048 ]
}

# bats test_tags=slow
@test "an idle kernel does not stall a run: no RCU grace period" {
	requires python3
	# Run after run, and one every 60 ms, in turns: the medians of the whole process's time.
	python3 - "$CGSHIM" "$NOOP" "$(times 5 1 | tail -n 1)" <<-'EOF'
		import os, statistics, subprocess, sys, time
		argv = [sys.argv[1], "--mem", "64M", "--pids", "1", "--fd", "2", "--", sys.argv[2]]
		def once():
		    begin = time.perf_counter()
		    subprocess.run(argv, stderr=subprocess.DEVNULL, check=True)
		    return time.perf_counter() - begin
		packed, spaced = [], []
		for _ in range(int(sys.argv[3])):
		    packed += [once() for _ in range(20)]
		    for _ in range(10):
		        time.sleep(0.06)
		        spaced.append(once())
		packed, spaced = statistics.median(packed), statistics.median(spaced)
		print("back to back %.1f ms, every 60 ms %.1f ms" % (packed * 1e3, spaced * 1e3), file=sys.stderr)
		sys.exit(spaced >= 2 * packed)
	EOF
}

# --- who is killed first ----------------------------------------------------------------------------

# scores: oom_score_adj of the program, of its cgshim, and of that one's other children, each once.
scores() {
	# shellcheck disable=SC2016 # for the program's shell
	shim "$@" -- sh -c 'cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj; for p in $(pgrep -P $PPID); do [ $p = $$ ] || cat /proc/$p/oom_score_adj; done'
	got=$(tr '\n' ' ' <<<"$output")
	got=${got% }
}

# bats test_tags=native
@test "the kernel kills the program before cgshim and its guardian: oom_score_adj" {
	scores
	[ "$got" = "500 0 0" ]
	scores --oom-score-adj 7 --user 65534:65534
	[ "$got" = "7 0 0" ]
	scores --oom-score-adj 0 --best-effort
	[ "$got" = "0 0 0" ]
	echo 300 >/proc/self/oom_score_adj
	scores --user 65534:65534
	[ "$got" = "650 300 300" ]
	# In a batch, one job after the other, by the same guardian.
	local request='{"argv":["sh","-c","cat /proc/self/oom_score_adj; for p in $(pgrep -P $PPID); do [ $p = $$ ] || cat /proc/$p/oom_score_adj; done | uniq"],"stdout":"'$BATS_TEST_TMPDIR'/scores"'
	printf '%s}\n' "${request/scores/one}" "${request/scores/two},\"oom-score-adj\":1000" "${request/scores/three}" |
		"$CGSHIM" batch --jobs 1 >"$BATS_TEST_TMPDIR/answers"
	[ "$(cat "$BATS_TEST_TMPDIR"/{one,two,three} | tr '\n' ' ')" = "650 300 1000 300 650 300 " ]
	shim --oom-score-adj -1000 -- true
	is verdict error error.step usage
}

# bats test_tags=native
@test "what lowers it without the right is an error if it was asked for, and else not tried" {
	requires setpriv
	VIA="setpriv --reuid 65534 --regid 65534 --clear-groups" shim --best-effort --oom-score-adj -5 -- "$NOOP"
	is verdict error error.step oom-score-adj error.errno EACCES
	VIA="setpriv --reuid 65534 --regid 65534 --clear-groups" shim --best-effort -- cat /proc/self/oom_score_adj
	is verdict ok
	[ "$output" = 500 ]
}

@test "a caller that is never killed does not pass that on: the memory limit ends the run" {
	requires sys_resource
	echo -1000 >/proc/self/oom_score_adj
	scores
	[ "$got" = "500 -1000 -1000" ]
	shim --mem 32M --wall-time 100 -- "$PROG" touch $((64 * MIB))
	is verdict memory-limit signal 9
	shim --mem 32M --wall-time 100 --oom-score-adj -999 -- "$PROG" touch $((64 * MIB))
	is verdict memory-limit signal 9
	echo '{"argv":["'"$PROG"'","touch","67108864"],"mem":"32M","wall-time":100}' | "$CGSHIM" batch >"$BATS_TEST_TMPDIR/answers"
	grep -q '"verdict":"memory-limit"' "$BATS_TEST_TMPDIR/answers"
}

@test "at a limit above that cgshim is in, too, many small processes die, and not cgshim" {
	local dir
	dir=$(dirname "$(cgroup_file memory x x /cgshim-bats-box)")
	mkdir "$dir"
	if has cgroups_v2; then
		mkdir "$dir/shell"
		echo $((48 * MIB)) >"$dir/memory.max"
		echo 0 >"$dir/memory.swap.max"
	else
		echo $((48 * MIB)) >"$dir/memory.limit_in_bytes"
	fi
	local joins="$dir/cgroup.procs"
	! has cgroups_v2 || joins="$dir/shell/cgroup.procs"
	bash -c 'echo 0 >"$1"; shift; exec "$@"' bash "$joins" "$CGSHIM" --parent /cgshim-bats-box --wall-time 5 --output "$BATS_TEST_TMPDIR/result" -- \
		"$PROG" family 100 "$MIB" 3>&- || true
	find "$dir" -depth -type d -exec rmdir {} +
	take_result "$BATS_TEST_TMPDIR/result"
	is error null
	[[ $(field verdict) =~ ^(wall-time-limit|nonzero-exit|signaled)$ ]]
}
