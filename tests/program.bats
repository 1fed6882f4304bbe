#!/usr/bin/env bats
# What the program is given: files, descriptors, a user, resource limits, a network.

load helpers

setup() { requires root; }

NOBODY=65534

# bats test_tags=native
@test "--stdin, --stdout and --stderr are files" {
	echo hello >"$BATS_TEST_TMPDIR/in"
	echo old >"$BATS_TEST_TMPDIR/out"
	shim --stdin "$BATS_TEST_TMPDIR/in" --stdout "$BATS_TEST_TMPDIR/out" --stderr "$BATS_TEST_TMPDIR/err" -- sh -c 'cat; echo no >&2'
	is verdict ok
	[ "$(cat "$BATS_TEST_TMPDIR/out")" = hello ]
	[ "$(cat "$BATS_TEST_TMPDIR/err")" = no ]
	[ -z "$output" ]
	# The same file for both: as with 2>&1, nothing overwrites anything.
	shim --stdout "$BATS_TEST_TMPDIR/both" --stderr "$BATS_TEST_TMPDIR/both" -- sh -c 'echo a; echo b >&2; echo c'
	[ "$(cat "$BATS_TEST_TMPDIR/both")" = $'a\nb\nc' ]
}

# bats test_tags=native
@test "their paths are the caller's, not --chdir's, and so are the rights" {
	mkdir "$BATS_TEST_TMPDIR/dir"
	cd "$BATS_TEST_TMPDIR"
	echo mine >secret
	chmod 600 secret
	shim --chdir dir --user "$NOBODY:$NOBODY" --stdin secret --stdout out -- cat
	is verdict ok
	[ "$(cat "$BATS_TEST_TMPDIR/out")" = mine ]
	[ "$(stat -c %u "$BATS_TEST_TMPDIR/out")" = 0 ]
}

# Regression: nothing ended the wait, and there was no result.
# bats test_tags=native
@test "a FIFO that nobody opens at the other end: the wall time is for that, too, and cgshim can be told to stop" {
	local fifo=$BATS_TEST_TMPDIR/fifo stream name
	mkfifo "$fifo"
	for stream in stdin stdout stderr; do
		shim --mem 64M --wall-time 1 --$stream "$fifo" -- true
		exits 125
		is verdict error error.step open error.errno ETIMEDOUT wall_seconds null pid null
		holds '.error.hint | test("FIFO")'
	done
	for name in TERM INT HUP QUIT KILL; do
		env --default-signal=HUP,INT,QUIT "$CGSHIM" --mem 64M --stdin "$fifo" --output "$BATS_TEST_TMPDIR/$name" -- true 2>/dev/null 3>&- &
		sleep 0.5
		kill -s USR1 $! # is for a program, which there is not
		kill -s "$name" $!
		status=0
		wait $! || status=$?
		nothing_left
		if [ "$name" = KILL ]; then
			exits 137
			[ ! -e "$BATS_TEST_TMPDIR/KILL" ]
		else
			exits 125
			take_result "$BATS_TEST_TMPDIR/$name"
			is verdict cancelled error.step cancelled wall_seconds null
		fi
	done
	eventually run -1 pgrep -f -- "--stdin $fifo" # the stage goes, too
}

# bats test_tags=native
@test "a signal that comes while a FIFO is waited for is the program's" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	"$CGSHIM" --wall-time 30 --stdin "$BATS_TEST_TMPDIR/fifo" --output "$BATS_TEST_TMPDIR/result" -- sleep 1000 3>&- &
	sleep 0.5
	kill -s USR1 $!
	: >"$BATS_TEST_TMPDIR/fifo"
	status=0
	wait $! || status=$?
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict signaled signal_name SIGUSR1
}

# bats test_tags=native
@test "a FIFO as standard input is one that waits" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	(sleep 0.2; echo late) >"$BATS_TEST_TMPDIR/fifo" 3>&- &
	shim --stdin "$BATS_TEST_TMPDIR/fifo" -- cat
	is verdict ok
	[ "$output" = late ]
}

# bats test_tags=native
@test "--user: the ids and the groups, and no others" {
	shim --user "$NOBODY:12345" -- cat /proc/self/status
	is verdict ok
	[ "$(awk '/^(Uid|Gid|Groups):/ { $1 = $1; print }' <<<"$output")" = "Uid: 65534 65534 65534 65534
Gid: 12345 12345 12345 12345
Groups:" ]
	shim --user nobody -- id -un
	[ "$output" = nobody ]
	shim --user nobody:daemon -- id -gn
	[ "$output" = daemon ]
	# A name comes with its supplementary groups.
	local member
	member=$(awk -F: '$4 != "" { split($4, users, ","); print users[1]; exit }' /etc/group)
	if [ -n "$member" ]; then
		shim --user "$member" -- id -G
		[ "$(tr ' ' '\n' <<<"$output" | sort)" = "$(id -G "$member" | tr ' ' '\n' | sort)" ]
	fi
}

# bats test_tags=native
@test "--user: no capability of the caller's is left" {
	requires setpriv
	local caps="--inh-caps +setuid,+setgid --ambient-caps +setuid,+setgid"
	local who
	for who in "" "--securebits +no_setuid_fixup" "--reuid 1000 --regid 1000 --clear-groups"; do
		VIA="setpriv $who $caps" shim --best-effort --user "$NOBODY:$NOBODY" -- cat /proc/self/status
		is verdict ok
		[ "$(grep -cE '^Cap(Inh|Prm|Eff|Amb):[[:space:]]+0+$' <<<"$output")" = 4 ] || { echo "$who: $output" >&2; return 1; }
	done
	# Without --user they are as without cgshim.
	VIA="setpriv $caps" shim -- grep CapAmb /proc/self/status
	[[ $output == *c0 ]]
}

# bats test_tags=native
@test "no signal is blocked, and none ignored but SIGHUP and SIGINT" {
	local call="--block-signal=ALRM,TERM,PIPE,USR1 --ignore-signal=QUIT,PIPE,TSTP,TTOU,CONT,CHLD,34"
	VIA="env --default-signal=INT --ignore-signal=HUP $call" shim -- cat /proc/self/status
	is verdict ok
	[ "$(grep -oE '^Sig(Blk|Ign|Cgt):.*' <<<"$output" | tr -d '\n\t')" = "SigBlk:0000000000000000SigIgn:0000000000000001SigCgt:0000000000000000" ] ||
		{ echo "$output" >&2; return 1; }
	echo '{"argv":["cat","/proc/self/status"],"stdout":"'"$BATS_TEST_TMPDIR"'/out"}' |
		eval "env --default-signal=INT,HUP $call" '"$CGSHIM" batch' >"$BATS_TEST_TMPDIR/answers"
	grep -qE '^SigBlk:[[:space:]]+0+$' "$BATS_TEST_TMPDIR/out"
	grep -qE '^SigIgn:[[:space:]]+0+$' "$BATS_TEST_TMPDIR/out"
	# An alarm ends who waits for it.
	VIA="env $call" shim --wall-time 30 -- timeout 0.1 sleep 1000
	is verdict nonzero-exit exit_code 124
}

@test "another user's program can't signal cgshim, nor write to its groups" {
	shim --user "$NOBODY:$NOBODY" --mem 64M --name cgshim-bats-user -- sh -c 'kill -0 $PPID 2>/dev/null && echo signalled; echo -1 >"$0" && echo wrote' \
		"$(cgroup_file memory memory.limit_in_bytes memory.max /cgshim/cgshim-bats-user)" 2>/dev/null
	[ -z "$output" ]
}

# bats test_tags=native
@test "--keep-fd: these descriptors, under their numbers, and no others" {
	exec 4<<<four 7>"$BATS_TEST_TMPDIR/seven" 9</dev/null
	shim --keep-fd 4 --keep-fd 7 -- sh -c 'cat <&4; echo out >&7; ls /proc/self/fd | tr "\n" " "'
	exec 4<&- 7>&- 9<&-
	is verdict ok
	[ "$output" = "four
0 1 2 3 4 7 " ] # ls has opened 3
	[ "$(cat "$BATS_TEST_TMPDIR/seven")" = out ]
	# cgshim's own descriptors have low numbers, too.
	run bash -c 'exec 3<<<three 5<<<five; "$CGSHIM" --fd 2 --keep-fd 3 --keep-fd 5 -- sh -c "cat <&3 <&5; cat <&3" 2>/dev/null'
	[ "$output" = "five
three" ]
}

# bats test_tags=native
@test "make's jobserver goes through" {
	requires make
	printf 'all: a b\na b:\n\t+@"$$CGSHIM" --fd 2 $$(echo "$$MAKEFLAGS" | sed -n "s/.*jobserver-[a-z]*=\\([0-9]*\\),\\([0-9]*\\).*/--keep-fd \\1 --keep-fd \\2/p") -- $(MAKE) -s -f $$DIR/inner 2>/dev/null\n' >"$BATS_TEST_TMPDIR/outer"
	printf 'all: x y\nx y:\n\t@echo $@\n' >"$BATS_TEST_TMPDIR/inner"
	DIR=$BATS_TEST_TMPDIR run make -s -j2 -f "$BATS_TEST_TMPDIR/outer" 3>&-
	[ "$status" = 0 ]
	[ "$(sort <<<"$output" | tr '\n' ' ')" = "x x y y " ]
	[[ $output != *jobserver* ]]
}

# bats test_tags=native
@test "--ulimit: every name, soft and hard" {
	local name
	shim --ulimit nofile=10:20 --ulimit core=0 --ulimit stack=4M:unlimited --ulimit cpu=7 --ulimit fsize=1M:2M \
		--ulimit data=unlimited --ulimit nproc=50:60 --ulimit as=1G:2G --ulimit memlock=65536 --ulimit locks=3 \
		--ulimit sigpending=4 --ulimit msgqueue=5 --ulimit nice=0 --ulimit rtprio=0 --ulimit rttime=8:9 --ulimit rss=-1 \
		-- cat /proc/self/limits
	is verdict ok enforced.ulimit rlimit limits.ulimits.nofile '{"soft":10,"hard":20}' limits.ulimits.data '{"soft":null,"hard":null}'
	for name in "open files 10 20" "core file size 0 0" "stack size 4194304 unlimited" "cpu time 7 7" "file size 1048576 2097152" \
		"data size unlimited unlimited" "processes 50 60" "address space 1073741824 2147483648" "locked memory 65536 65536" \
		"file locks 3 3" "pending signals 4 4" "msgqueue size 5 5" "nice priority 0 0" "realtime priority 0 0" \
		"realtime timeout 8 9" "resident set unlimited unlimited"; do
		grep -q "^Max $name " <(tr -s ' ' <<<"$output") || { echo "not there: $name in $output" >&2; return 1; }
	done
}

# bats test_tags=native
@test "a limit that would break the launcher does not break the launch" {
	shim --ulimit as=1M -- "$NOOP"
	is verdict ok
	shim --ulimit nproc=1 -- "$NOOP"
	is verdict ok
	shim --ulimit nofile=0 -- "$NOOP"
	is verdict ok
	# … also not that of a user with processes; but it is in force.
	setpriv --reuid "$NOBODY" --regid "$NOBODY" --clear-groups sleep 1000 3>&- &
	local pid=$!
	shim --user "$NOBODY:$NOBODY" --ulimit nproc=1 -- "$PROG" forks 1
	kill "$pid"
	is verdict ok
	[ "$output" = "0 EAGAIN" ]
	shim --ulimit fsize=4096 -- sh -c 'exec head -c 5000 /dev/zero >"$0"' "$BATS_TEST_TMPDIR/file"
	is signal_name SIGXFSZ
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/file")" = 4096 ]
}

# bats test_tags=native
@test "--net none: loopback, which works, and nothing else" {
	only_loopback shim
	shim --net host -- readlink /proc/self/ns/net
	[ "$output" = "$(readlink /proc/self/ns/net)" ]
}

@test "--cpuset-cpus: the program runs there, also when cgshim itself was pinned elsewhere" {
	requires two_cpus
	shim --cpuset-cpus 1 -- sh -c 'grep Cpus_allowed_list /proc/self/status'
	is verdict ok enforced.cpuset_cpus cgroup limits.cpuset_cpus 1
	[ "${output##*[[:space:]]}" = 1 ]
	run bash -c 'taskset -c 0 "$CGSHIM" --cpuset-cpus 1 --fd 2 -- grep Cpus_allowed_list /proc/self/status 2>/dev/null'
	[ "${output##*[[:space:]]}" = 1 ]
	run bash -c 'taskset -c 0 "$CGSHIM" --cpuset-cpus 0-1 --fd 2 -- grep Cpus_allowed_list /proc/self/status 2>/dev/null'
	[ "${output##*[[:space:]]}" = 0-1 ]
	# It can't get out, and without the flag the caller's mask is the program's.
	shim --cpuset-cpus 1 -- sh -c 'taskset -pc 0 $$ >/dev/null 2>&1; grep Cpus_allowed_list /proc/self/status'
	[ "${output##*[[:space:]]}" = 1 ]
	run bash -c 'taskset -c 0 "$CGSHIM" --fd 2 -- grep Cpus_allowed_list /proc/self/status 2>/dev/null'
	[ "${output##*[[:space:]]}" = 0 ]
}

@test "--cpuset-mems" {
	shim --cpuset-mems 0 -- grep Mems_allowed_list /proc/self/status
	is verdict ok enforced.cpuset_mems cgroup
	[ "${output##*[[:space:]]}" = 0 ]
}

# bats test_tags=native
@test "--grace: SIGTERM first, and the program may take its time" {
	shim --wall-time 0.3 --grace 30s -- sh -c 'trap "echo bye; exit 4" TERM; while :; do sleep 0.05; done'
	exits 4
	is verdict wall-time-limit exit_code 4
	[ "$output" = bye ]
	shim --wall-time 0.3 --grace 0.3 -- "$PROG" deaf
	exits 137
	is verdict wall-time-limit signal 9
	holds '.wall_seconds >= 0.6'
	shim --cpu-time 0.3 --grace 30s -- sh -c 'trap "exit 6" TERM; while :; do :; done'
	is verdict cpu-time-limit exit_code 6
	# The program's own 0 is no success of the run's: as timeout(1) has it.
	shim --wall-time 0.3 --grace 30s -- sh -c 'trap "exit 0" TERM; while :; do sleep 0.05; done'
	exits 124
	is verdict wall-time-limit exit_code 0
}

@test "--wait-all: the run ends with its last process" {
	shim --wait-all -- sh -c 'setsid sh -c "sleep 0.7; echo late" & exit 3'
	exits 3
	is verdict nonzero-exit leftover_killed 0
	[ "$output" = late ]
	holds '.wall_seconds >= 0.7'
	# Its limits hold until then.
	shim --wait-all --wall-time 0.5 -- sh -c 'setsid sleep 1000 & exit 0'
	exits 124
	is verdict wall-time-limit exit_code 0
	shim --wait-all --mem 32M -- sh -c 'setsid "$0" touch 67108864 & exit 0' "$PROG"
	is verdict memory-limit
}
