#!/usr/bin/env bats
# The main job: a program runs in its cgroups, and the result is true.

load helpers

setup() { requires root; }

@test "a static no-op, again and again: ok, one task, no launcher memory" {
	"$CGSHIM" --fd 3 -- "$NOOP" 3>/dev/null # its pages are in the page cache from here on
	local all=$BATS_TEST_TMPDIR/all
	for _ in $(times 1000 60); do
		"$CGSHIM" --mem 64M --pids 1 --fd 3 -- "$NOOP" 3>>"$all"
	done
	local want
	want=$(times 1000 60 | tail -n 1)
	[ "$(wc -l <"$all")" = "$want" ]
	jq -es "map(select(.verdict == \"ok\" and .pids_peak == 1 and .peak_memory_bytes <= 786432 and .error == null)) | length == $want" "$all"
}

@test "the program is in its cgroups from its first instruction" {
	shim --name cgshim-bats-born --mem 64M --pids 1 -- "$PROG" cgroup
	is verdict ok cgroup /cgshim/cgshim-bats-born
	if has cgroups_v2; then
		[ "$output" = "0::/cgshim/cgshim-bats-born" ]
	else
		grep -qE '[:,]memory(,[a-z,]+)?:/cgshim/cgshim-bats-born$' <<<"$output"
		grep -qE '[:,]pids(,[a-z,]+)?:/cgshim/cgshim-bats-born$' <<<"$output"
		# On a hybrid host the cgroup2 directory accounts for the CPU time.
		grep -qE '(^0:|[:,]cpuacct(,[a-z,]+)?):/cgshim/cgshim-bats-born$' <<<"$output"
	fi
}

# many I N: N runs, one after the other, with the program's view of its groups in a file of their own.
many() {
	local _
	for _ in $(seq "$2"); do
		"$CGSHIM" --name "p$1" --mem 64M --pids 1 --cpus 1 --fd 3 -- "$PROG" cgroup \
			3>>"$BATS_TEST_TMPDIR/$1.json" >>"$BATS_TEST_TMPDIR/$1.cgroup" || return 1
	done
}

@test "… also under a load of parallel runs" {
	local i n pids=()
	n=$(times 25 3 | tail -n 1)
	for i in $(seq 8); do
		many "$i" "$n" &
		pids+=($!)
	done
	wait "${pids[@]}" # not for all: bats has a timer in the background
	for i in $(seq 8); do
		[ "$(jq -s 'map(select(.verdict == "ok")) | length' "$BATS_TEST_TMPDIR/$i.json")" = "$n" ]
		if has cgroups_v2; then
			[ "$(grep -c "^0::/cgshim/p$i\$" "$BATS_TEST_TMPDIR/$i.cgroup")" = "$n" ]
		else
			[ "$(grep -cE '[:,](memory|pids|cpu)[a-z,]*:/cgshim/p'"$i"'$' "$BATS_TEST_TMPDIR/$i.cgroup")" = $((3 * n)) ]
		fi
	done
}

# bats test_tags=native
@test "stdin, stdout and stderr are the caller's own" {
	run --separate-stderr bash -c 'echo in | "$CGSHIM" --fd 3 -- sh -c "cat; echo err >&2" 3>/dev/null'
	[ "$output" = in ]
	[ "$stderr" = err ]
}

# bats test_tags=native
@test "no other descriptor reaches the program, the result's least of all" {
	exec 7</dev/null 8>"$BATS_TEST_TMPDIR/leak"
	# ls itself opens one, on the directory that it lists.
	shim -- ls /proc/self/fd
	exec 7<&- 8>&-
	[ "$output" = $'0\n1\n2\n3' ]
	shim -- sh -c 'echo forged >&3'
	holds '.verdict == "nonzero-exit"'
}

# bats test_tags=native
@test "what follows the program belongs to it" {
	shim -- echo --mem -x -- y
	[ "$output" = "--mem -x -- y" ]
	shim echo --fd 9
	[ "$output" = "--fd 9" ]
	# A program called like a subcommand is a program after a flag or --.
	printf '#!/bin/sh\necho program "$@"\n' >"$BATS_TEST_TMPDIR/version"
	chmod +x "$BATS_TEST_TMPDIR/version"
	PATH=$BATS_TEST_TMPDIR:$PATH shim -- version --help
	[ "$output" = "program --help" ]
	run "$CGSHIM" run -- true
	[ "$status" = 0 ]
}

# bats test_tags=native
@test "the program is looked up in its own PATH, from its own directory" {
	mkdir "$BATS_TEST_TMPDIR/bin"
	cp "$PROG" "$BATS_TEST_TMPDIR/bin/only-there"
	shim --env "PATH=$BATS_TEST_TMPDIR/bin" -- only-there cgroup
	is verdict ok
	shim --chdir "$BATS_TEST_TMPDIR" -- bin/only-there cgroup
	is verdict ok
	shim --chdir "$BATS_TEST_TMPDIR" -- pwd
	[ "$output" = "$BATS_TEST_TMPDIR" ]
}

# bats test_tags=native
@test "bytes that are no UTF-8 are the program's, and the result tells them" {
	cd "$BATS_TEST_TMPDIR" || return 1
	printf '#!/bin/sh\necho right "$1"\n' >$'p\xff'
	printf '#!/bin/sh\necho wrong\n' >$'p\xef\xbf\xbd'
	chmod +x p*
	shim --stdout $' out\xfe ' $'./p\xff' $' \xc3 '
	is verdict ok
	cmp $' out\xfe ' <(printf 'right  \xc3 \n')
	holds '.argv == ["./p\ufffd", " \ufffd "] and (.argv_base64 == ["Li9w/w==", "IMMg"])'
	shim -- true $'\xc3\xa4'
	holds '.argv == ["true", "ä"] and (has("argv_base64") | not)'
	shim $'./nosuch\xff'
	holds '.error.message == "exec \"./nosuch\\xff\": no such file or directory"'
}

@test "… and so are those of a parent" {
	shim --parent $'/cgshim-bats\xff' -- true
	is verdict ok
	holds '(.cgroup | startswith("/cgshim-bats\ufffd/")) and (.cgroup_base64 | startswith("L2Nnc2hpbS1iYXRz/y"))'
}

# bats test_tags=native
@test "the environment: inherited, added to, replaced, or empty" {
	export CGSHIM_BATS_A=old CGSHIM_BATS_B=b
	shim --env CGSHIM_BATS_A=new,1 --env C=c=d -- sh -c 'echo "$CGSHIM_BATS_A $CGSHIM_BATS_B $C"'
	[ "$output" = "new,1 b c=d" ]
	shim --clear-env --env ONLY=1 -- /usr/bin/env
	[ "$output" = "ONLY=1" ]
	shim --clear-env --env $'A= x\t\xff ' --env=$' B=\xc2\xa0,1 ' -- /usr/bin/env # every byte counts
	cmp "$BATS_TEST_TMPDIR/stdout" <(printf 'A= x\t\xff \n B=\xc2\xa0,1 \n')
	CGSHIM_FD=3 shim -- env
	[ "$(grep -c 'CGSHIM_FD\|CGSHIM_STAGE\|GOGC\|GODEBUG' <<<"$output")" = 0 ]
}

# bats test_tags=native
@test "limits, signals and privileges of the process itself are as without cgshim" {
	shim -- cat /proc/self/status # not grep, which has a signal handler of its own
	local lines have own
	lines=$(grep -E '^(SigBlk|SigCgt|Threads|NoNewPrivs):' <<<"$output" | tr -d '[:space:]')
	[ "$lines" = "Threads:1SigBlk:0000000000000000SigCgt:0000000000000000NoNewPrivs:1" ]
	# Of the signals that have names, SIGHUP and SIGINT stay ignored where the caller ignores them, as in the
	# background of a script. (make ignores two that are libc's own.)
	have=$((0x$(awk '/^SigIgn/ {print $2}' <<<"$output") & 0x7fffffff))
	own=$((0x$(awk '/^SigIgn/ {print $2}' /proc/self/status) & 3))
	[ "$have" = "$own" ]
	shim --allow-new-privs -- grep NoNewPrivs /proc/self/status
	[ "${output: -1}" = 0 ]
	# Go raises the soft limit for itself.
	run bash -c 'ulimit -Sn 300; "$CGSHIM" --fd 3 -- sh -c "ulimit -Sn" 3>/dev/null'
	[ "$output" = 300 ]
	requires nohup
	run bash -c 'nohup "$CGSHIM" --fd 3 -- grep SigIgn /proc/self/status 3>/dev/null </dev/null 2>/dev/null'
	[ $((0x${output##*[[:space:]]} & 1)) = 1 ]
}

# bats test_tags=native
@test "what a program has from its parent is its caller's, in a batch too" {
	# cgshim itself has another timer slack, and a Go runtime raises a limit.
	local caller='ulimit -Sn 321; ulimit -Sc 7; umask 027; exec nice -n 3 "$PROG" bequeath 123456'
	run -0 bash -c "$caller"' taskset 1 "$PROG" inherited'
	local want=$output
	[[ $want == "slack=123456 nice=3 cpus=1 policy=0 umask=027 huge=1 dumpable=1 "* ]]
	run -0 bash -c "$caller"' taskset 1 "$CGSHIM" --fd 3 --mem 64M --pids 1 -- "$PROG" inherited 3>/dev/null'
	[ "$output" = "$want" ] || { diff <(echo "$want") <(echo "$output") >&2; return 1; }
	run -0 bash -c "$caller"' taskset 1 "$CGSHIM" batch --jobs 1 <<<"{\"argv\":[\"$PROG\",\"inherited\"],\"stdout\":\"$BATS_TEST_TMPDIR/have\"}" >/dev/null'
	diff <(echo "$want") "$BATS_TEST_TMPDIR/have"
}

# bats test_tags=native
@test "a caller's low limit on the size of files is the program's, and no obstacle" {
	local kib
	for kib in 64 4 1; do
		run -0 bash -c "ulimit -Sf $kib"'; exec "$CGSHIM" --fd 3 --mem 64M -- bash -c "ulimit -f" 3>/dev/null'
		[ "$output" = "$kib" ]
		run -0 bash -c "ulimit -Sf $kib"'; exec "$CGSHIM" batch <<<"{\"argv\":[\"bash\",\"-c\",\"ulimit -f >&2\"]}" 2>&1 >/dev/null'
		[ "$output" = "$kib" ]
	done
}

# bats test_tags=native
@test "a caller that ignores SIGCHLD gets its result all the same" {
	run bash -c 'trap "" CHLD; exec "$CGSHIM" -- sh -c "exit 3"'
	[ "$status" = 3 ]
	[ "$(jq -r .verdict <<<"$output")" = nonzero-exit ]
}

@test "a run has the name and the parent that it was given, and the parent goes with it" {
	shim --name cgshim-bats-n1 --parent /cgshim-bats/a/b -- "$PROG" cgroup
	is verdict ok cgroup /cgshim-bats/a/b/cgshim-bats-n1
	grep -q ':/cgshim-bats/a/b/cgshim-bats-n1$' <<<"$output"
}

@test "a parent that was there before stays" {
	local made=() dir
	for dir in /sys/fs/cgroup /sys/fs/cgroup/{memory,pids,cpuacct}; do
		if [ -e "$dir/cgroup.procs" ] && ! [ -d "$dir/cgshim-bats-kept" ]; then
			mkdir "$dir/cgshim-bats-kept"
			made+=("$dir/cgshim-bats-kept")
		fi
	done
	shim --parent /cgshim-bats-kept -- true
	is verdict ok
	for dir in "${made[@]}"; do
		rmdir "$dir" # fails if it is gone, or not empty
	done
}

# removed DIR: it is gone, or others on the machine have something in it.
removed() { rmdir "$1" 2>/dev/null || [ ! -e "$1" ] || compgen -G "$1/*/" >/dev/null; }

@test "a group that exists is somebody else's: refused, and left alone" {
	local dir=/sys/fs/cgroup/memory
	has cgroups_v1 || dir=/sys/fs/cgroup
	mkdir -p "$dir/cgshim/taken"
	shim --name taken -- true
	exits 125
	is verdict error error.errno EEXIST
	[ -d "$dir/cgshim/taken" ]
	rmdir "$dir/cgshim/taken"
	eventually removed "$dir/cgshim"
	# In a hierarchy that the run has no use for, too.
	! has cgroups_v1 || [ ! -d /sys/fs/cgroup/cpuset ] || {
		mkdir -p /sys/fs/cgroup/cpuset/cgshim-bats-taken/foo
		shim --parent /cgshim-bats-taken --name foo -- true
		is verdict error error.errno EEXIST
		rmdir /sys/fs/cgroup/cpuset/cgshim-bats-taken/foo /sys/fs/cgroup/cpuset/cgshim-bats-taken
	}
}

@test "what outlives the program is killed, and counted" {
	shim -- sh -c 'setsid sleep 1000 & setsid sh -c "sleep 1000 & wait" & sleep 0.2; echo $!; exit 4'
	exits 4
	is verdict nonzero-exit
	holds '.leftover_killed == 3'
	gone "$output"
}

# terminate PID: ends a cgshim, and sets $status and $result. Not by INT: bash ignores that for what runs in the background.
terminate() {
	kill -TERM "$1"
	status=0
	wait "$1" || status=$?
	take_result "$BATS_TEST_TMPDIR/out"
}

@test "SIGTERM reaches the program; the verdict is cancelled" {
	"$CGSHIM" --output "$BATS_TEST_TMPDIR/out" -- sh -c 'trap "echo got >&2; exit 5" TERM; echo ready; while :; do sleep 0.05; done' >"$BATS_TEST_TMPDIR/ready" 2>"$BATS_TEST_TMPDIR/stderr" 3>&- &
	local pid=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/ready"
	terminate "$pid"
	exits 5
	is verdict cancelled exit_code 5
	grep -q got "$BATS_TEST_TMPDIR/stderr"
}

# bats test_tags=native
@test "… and is no success, even if the program's exit status is 0" {
	"$CGSHIM" --output "$BATS_TEST_TMPDIR/out" -- sh -c 'trap "exit 0" TERM; echo ready; while :; do sleep 0.05; done' >"$BATS_TEST_TMPDIR/ready" 3>&- &
	local pid=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/ready"
	terminate "$pid"
	exits 124
	is verdict cancelled exit_code 0
}

# early WANT TIMES ARG...: signals in the first milliseconds of cgshim ARG... end it as they should.
early() {
	local wrong want=$1 times=$2
	shift 2
	wrong=$(timeout -s KILL 150 python3 "$BATS_TEST_DIRNAME/early.py" "$want" "$times" "$CGSHIM" "$@" 2>"$BATS_TEST_TMPDIR/stderr")
	[ -z "$wrong" ] || { echo "$wrong" >&2; return 1; }
}

# bats test_tags=native
@test "SIGTERM in the first milliseconds cancels the run, too" {
	requires real_cpu python3
	early cancelled 100 --fd 3 -- sleep 1000
	early ignored 20 --fd 3 -- sleep 0.02
}

# bats test_tags=native
@test "… and ends a batch" {
	requires real_cpu python3
	early death 20 batch
}

# bats test_tags=native
@test "a program that ignores it is killed after the stop timeout" {
	"$CGSHIM" --stop-timeout 300ms --output "$BATS_TEST_TMPDIR/out" -- "$PROG" deaf >"$BATS_TEST_TMPDIR/ready" 3>&- &
	local pid=$!
	eventually grep -q deaf "$BATS_TEST_TMPDIR/ready"
	terminate "$pid"
	exits 137
	is verdict cancelled signal 9
}

# bats test_tags=native
@test "SIGUSR1 reaches the program and cancels nothing" {
	"$CGSHIM" --output "$BATS_TEST_TMPDIR/out" -- sh -c 'trap "exit 0" USR1; echo ready; while :; do sleep 0.05; done' >"$BATS_TEST_TMPDIR/ready" 3>&- &
	local pid=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/ready"
	kill -USR1 "$pid"
	wait "$pid"
	take_result "$BATS_TEST_TMPDIR/out"
	is verdict ok
}

# started ARG...: a run of that name in the background, with its cgshim's pid in $pid, whose program says "ready" and sleeps.
started() {
	"$CGSHIM" --name cgshim-bats-list --output "$BATS_TEST_TMPDIR/result" "$@" -- sh -c 'echo ready; exec sleep 1000' >"$BATS_TEST_TMPDIR/ready" 2>/dev/null 3>&- &
	pid=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/ready"
}

# bats test_tags=native
@test "the binary is executed once more, as stage and guardian, and that is no second cgshim in the list" {
	requires strace
	local trace=$BATS_TEST_TMPDIR/trace pid stage
	strace -f -qq -e trace=execve -e signal=none -o "$trace" "$CGSHIM" --mem 64M --pids 1 --fd 3 -- "$NOOP" 3>/dev/null
	[ "$(grep -c 'execve(.*) = 0$' "$trace")" = 3 ]
	[ "$(grep -c 'execve("/proc/self/exe", \["cg-guardian"\]' "$trace")" = 1 ]
	# Another process than cgshim, and than the program.
	[ "$(awk '/execve\(/ {print $1}' "$trace" | sort -u | wc -l)" = 3 ]
	started --mem 64M --pids 1
	[ "$(ps -eo pid=,args= | awk '/--name cgshim-bats-list/ && !/awk/ {print $1}')" = "$pid" ]
	[ "$(ps -o comm= --ppid "$pid" | sort | tr '\n' ' ')" = "cg-guardian sleep " ]
	stage=$(pgrep -P "$pid" -x cg-guardian)
	[ "$(ps -Lo comm=,args= -p "$stage")" = "cg-guardian     cg-guardian" ] # one thread
	kill "$pid"
	wait "$pid" || true
	gone "$stage"
}

# What its guardian is told then is more than a pipe takes before somebody reads it: the run hung for good once.
@test "a parent of many long names: ok, and all of it goes with the run" {
	local part parent=
	part=cgshim-bats-$(printf '%0168d' 0)
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do parent+=/$part; done
	VIA="timeout -s KILL 60" shim --parent "$parent" --mem 64M --pids 1 -- "$NOOP"
	is verdict ok error null
	holds '.cgroup | length > 2172'
	nothing_left
	result=$(printf '{"argv":["true"],"mem":"64M","parent":"%s"}\n' "$parent" "$parent" | timeout -s KILL 60 "$CGSHIM" batch --jobs 2)
	[ "$(jq -r .verdict <<<"$result" | tr '\n' ' ')" = 'ok ok ' ]
}

# stopping CALL COMMAND...: whoever makes that system call for the first time is stopped in it.
stopping() { timeout -s KILL 60 strace -f -qq -o /dev/null -e "trace=$1" -e "inject=$1:signal=SIGSTOP:when=1" "${@:2}"; }

@test "a stage that somebody stops in a launch goes on" {
	requires strace
	local call
	for call in dup3 recvmsg clone3; do # before its execve, for the order, and for the program
		# Under emulation one of them each: strace is slow there.
		if has real_cpu || [ $call != recvmsg ]; then
			VIA="stopping $call" shim --mem 64M -- "$NOOP"
			is verdict ok error null
		fi
		if has real_cpu || [ $call = recvmsg ]; then
			result=$(printf '{"argv":["true"],"mem":"64M"}\n%.0s' 1 2 3 | stopping $call "$CGSHIM" batch --jobs 2)
			[ "$(jq -r .verdict <<<"$result" | tr '\n' ' ')" = 'ok ok ok ' ]
		fi
	done
}

@test "kill -9 of cgshim kills the program" { killed_with_cgshim; }

# setresuid(2) clears the parent-death signal.
@test "… also one of another user" { killed_with_cgshim --user 65534:65534; }

killed_with_cgshim() {
	"$CGSHIM" --name killed9 --fd 2 "$@" -- "$PROG" deaf >"$BATS_TEST_TMPDIR/ready" 2>/dev/null 3>&- &
	local shim=$! group
	eventually grep -q deaf "$BATS_TEST_TMPDIR/ready"
	group=$(cgroup_file memory cgroup.procs cgroup.procs /cgshim/killed9)
	grep -q . "$group"
	kill -9 "$shim"
	wait "$shim" || true
	eventually bash -c '! grep -q . "$0"' "$group"
	# Nobody is left to remove the groups.
	local root
	for root in $(roots); do # and not below all of them: there others' groups come and go
		[ ! -d "$root/cgshim" ] || find "$root/cgshim" -depth -type d -exec rmdir {} +
	done
}
