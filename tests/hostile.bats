#!/usr/bin/env bats
# Programs that try to outlive, hang, stop or misinform cgshim: see programs/hostile.c.

load helpers

HOSTILE=$TOP/build/programs/hostile

setup() { requires root; }

@test "a process whose first thread has ended is killed, too" {
	shim --wall-time 0.5 -- "$HOSTILE" leaderless
	is verdict wall-time-limit signal 9 error null
	shim -- "$HOSTILE" orphan
	is verdict ok leftover_killed 1 error null
	run -1 pgrep -x hostile-lives
}

@test "… in a threaded group, too, which lists threads" {
	requires cgroups_v2
	# shellcheck disable=SC2016
	shim --wall-time 2 -- sh -c 'group=/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)/below
		mkdir "$group" && echo threaded >"$group/cgroup.type" && exec "$0" leaderless "$group/cgroup.threads"' "$HOSTILE"
	is verdict wall-time-limit signal 9 error null
	run -1 pgrep -x hostile-lives
}

# bats test_tags=native
@test "a program that has cgshim trace it runs on, and gets its signals" {
	shim --wall-time 100 -- "$HOSTILE" traceme
	is verdict signaled signal 12 error null
	holds '.wall_seconds >= 0.2'
}

@test "a program whose end its tracer keeps is an error, and no hang" {
	local victim
	# shellcheck disable=SC2016
	"$CGSHIM" --wall-time 2 --output "$BATS_TEST_TMPDIR/traced" -- sh -c 'echo $$ >"$BATS_TEST_TMPDIR/pid"; exec sleep 1000' 3>&- &
	eventually [ -s "$BATS_TEST_TMPDIR/pid" ]
	victim=$(cat "$BATS_TEST_TMPDIR/pid")
	"$HOSTILE" seize "$victim" 3>&- &
	eventually [ -s "$BATS_TEST_TMPDIR/traced" ]
	kill $!
	take_result "$BATS_TEST_TMPDIR/traced"
	is verdict error error.step wait
	eventually gone "$victim"
}

# bats test_tags=native
@test "a pipe that the program fills behind our back, and nobody reads, holds nothing up" {
	mkfifo "$BATS_TEST_TMPDIR/pipe"
	sh -c 'exec sleep 1000' <"$BATS_TEST_TMPDIR/pipe" 3>&- &
	# shellcheck disable=SC2016,SC2094
	timeout 100 "$CGSHIM" --events --sample 1ms --wall-time 5 --fd 3 -- sh -c 'exec "$0" fillpipe >"$1"' "$HOSTILE" "$BATS_TEST_TMPDIR/pipe" \
		3>"$BATS_TEST_TMPDIR/pipe" 2>"$BATS_TEST_TMPDIR/stderr" || [ $? = 125 ]
	kill $!
	grep -q 'nobody reads it' "$BATS_TEST_TMPDIR/stderr"
}

@test "a program that has taken all processes of a limit above costs neither the result nor the clean-up" {
	shim --pids 100 --wall-time 100 -- "$CGSHIM" --wall-time 1 --output-limit 1M --output "$BATS_TEST_TMPDIR/inner" -- "$HOSTILE" bomb 30
	is verdict nonzero-exit exit_code 137 pids_peak 100
	take_result "$BATS_TEST_TMPDIR/inner"
	is verdict wall-time-limit error null
	# Killed, too: then its last process is the one that cleans up. An emulated CPU has to have time for the others.
	# shellcheck disable=SC2016
	"$CGSHIM" --name cgshim-bats-outer --wait-all --pids 100 --cpu-weight 1 --wall-time 300 --output "$BATS_TEST_TMPDIR/outer" -- \
		sh -c 'echo $$ >"$2/pid"; exec "$0" --output /dev/null -- "$1" bomb 400' "$CGSHIM" "$HOSTILE" "$BATS_TEST_TMPDIR" 3>&- &
	eventually [ -s "$BATS_TEST_TMPDIR/pid" ]
	eventually full
	kill -9 "$(cat "$BATS_TEST_TMPDIR/pid")"
	eventually [ -s "$BATS_TEST_TMPDIR/outer" ]
	take_result "$BATS_TEST_TMPDIR/outer"
	is verdict signaled signal 9 leftover_killed 0
}

@test "… nor the other answers of a batch" {
	local jobs
	for jobs in 1 2; do
		{
			echo "{\"id\":0,\"argv\":[\"$HOSTILE\",\"bomb\",\"30\",\"1000\"],\"wall-time\":\"1s\"}"
			for i in 1 2 3 4 5 6 7 8; do echo "{\"id\":$i,\"argv\":[\"$NOOP\"],\"pids\":1}"; done
		} >"$BATS_TEST_TMPDIR/requests"
		shim --pids $((25 + 15 * jobs)) --wall-time 200 --stdin "$BATS_TEST_TMPDIR/requests" --stdout "$BATS_TEST_TMPDIR/answers" -- \
			"$CGSHIM" batch --jobs $jobs
		is verdict ok exit_code 0
		[ "$(jq -r .id "$BATS_TEST_TMPDIR/answers" | sort -n | tr '\n' ' ')" = '0 1 2 3 4 5 6 7 8 ' ]
	done
	# Fewer than its threads: that is said before anything is run.
	shim --pids 12 --stdin /dev/null --stderr "$BATS_TEST_TMPDIR/stderr" -- "$CGSHIM" batch --jobs 4
	is verdict nonzero-exit exit_code 125
	grep -q 'make threads.*temporarily unavailable' "$BATS_TEST_TMPDIR/stderr"
	grep -q 'hint: raise the limit of tasks' "$BATS_TEST_TMPDIR/stderr"
}

# bats test_tags=native
@test "a neighbour that takes all processes of a limit above costs no result" {
	cd "$BATS_TEST_TMPDIR"
	# shellcheck disable=SC2016
	shim --pids 90 --wall-time 60 -- sh -c '
		for i in 1 2 3 4; do
			"$0" --pids 4 --wall-time 4 --output result$i -- sh -c "echo >>started; exec sleep 100" &
		done
		until [ "$(wc -l <started)" = 4 ]; do sleep 0.1; done 2>/dev/null
		sleep 1
		"$1" bomb 3 &
		wait' "$CGSHIM" "$HOSTILE"
	for i in 1 2 3 4; do
		take_result result$i
		is verdict wall-time-limit error null
	done
}

# full: the run cgshim-bats-outer has all that it may have.
full() { [ "$("$CGSHIM" stat --json cgshim-bats-outer | jq .pids)" -ge 99 ]; }

# bats test_tags=native
@test "a program of another user has nobody hung up" {
	requires setpriv
	install -m 755 "$HOSTILE" "$BATS_TEST_TMPDIR/hostile"
	chmod 755 "$BATS_RUN_TMPDIR" "$BATS_TEST_TMPDIR"
	# shellcheck disable=SC2016
	run -0 setsid --wait sh -c '"$0" --user 65534:65534 --wall-time 20 --output "$2/result" -- "$1" orphaned; echo survived' \
		"$CGSHIM" "$BATS_TEST_TMPDIR/hostile" "$BATS_TEST_TMPDIR" 3>&-
	[ "$output" = survived ]
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict ok exit_code 0
}

# bats test_tags=native
@test "descriptors that are left in sockets keep nobody's pipe open" {
	requires system_python3
	"$CGSHIM" --output "$BATS_TEST_TMPDIR/result" -- /usr/bin/python3 -c '
import socket, os
a, b = socket.socketpair()
for s in a, b:
	socket.send_fds(s, [b"x"], [1, 2, a.fileno(), b.fileno()])
os._exit(0)' 3>&- | timeout 30 cat
	[ "${PIPESTATUS[1]}" = 0 ]
}

# bats test_tags=native
@test "lines that the program forges in a file that both write to do not stand behind the result" {
	requires system_python3
	status=0
	"$CGSHIM" --mem 64M -- /usr/bin/python3 -c '
import os
os.write(2, b"{\"type\":\"result\",\"exit_code\":0}\n" * 1000)
os.lseek(2, 0, os.SEEK_SET)
os._exit(3)' 2>"$BATS_TEST_TMPDIR/both" || status=$?
	exits 3
	[ "$(wc -l <"$BATS_TEST_TMPDIR/both")" = 1001 ]
	tail -n 1 "$BATS_TEST_TMPDIR/both" >"$BATS_TEST_TMPDIR/last"
	take_result "$BATS_TEST_TMPDIR/last"
	is verdict nonzero-exit exit_code 3
}

@test "groups deeper than a path can be long go with the run" {
	requires system_python3
	# shellcheck disable=SC2016
	shim --parent /cgshim-bats-deep --mem 64M -- /usr/bin/python3 -c '
import glob, os, subprocess
for top in glob.glob("/sys/fs/cgroup/cgshim-bats-deep/*/") + glob.glob("/sys/fs/cgroup/*/cgshim-bats-deep/*/"):
	os.chdir(top)
	for _ in range(30):
		os.mkdir("d" * 200)
		os.chdir("d" * 200)
	subprocess.Popen(["sleep", "1000"], start_new_session=True)
	open("cgroup.procs", "w").write(str(os.getpid()))
'
	is verdict ok error null
	holds '.leftover_killed > 0'
}

# greedy: takes all inotify instances that the user may have, until $! is killed.
greedy() {
	/usr/bin/python3 -c '
import ctypes, time
libc = ctypes.CDLL(None)
while libc.inotify_init1(0) >= 0: pass
print("ready", flush=True)
time.sleep(1000)' >"$BATS_TEST_TMPDIR/greedy" 3>&- &
	eventually grep -q ready "$BATS_TEST_TMPDIR/greedy"
}

@test "--wait-all waits also for a user who has no inotify instance left" {
	requires system_python3
	greedy
	shim --wait-all -- sh -c '(sleep 1; echo behind) & exit 0'
	kill $!
	is verdict ok leftover_killed 0
	[ "$output" = behind ]
}

@test "… and --mem is enforced, without one" {
	requires system_python3
	greedy
	shim --mem 64M -- "$NOOP"
	is verdict ok error null warnings '[]'
	shim --mem 16M -- sh -c '"$0" touch 67108864; sleep 1000' "$PROG"
	is verdict memory-limit error null
	shim --best-effort --mem 16M -- "$PROG" touch 67108864
	is verdict memory-limit error null warnings '[]'
	result=$(echo '{"argv":["'"$NOOP"'"],"mem":"64M"}' | "$CGSHIM" batch)
	is verdict ok error null
	kill $!
}

@test "where pidfd calls are refused, everything is killed and removed all the same" {
	local errno
	for errno in 1 38; do # EPERM, ENOSYS
		export VIA="$TOP/build/programs/refuse $errno"
		shim --wall-time 0.5 -- "$HOSTILE" leaderless
		is verdict wall-time-limit signal 9 error null
		shim -- "$HOSTILE" orphan
		is verdict ok leftover_killed 1 error null
		if [ $errno = 1 ] && ! has real_cpu; then # the rest is slow under emulation
			nothing_left
			continue
		fi
		shim --mem 32M --wall-time 1 -- sh -c 'trap "" TERM; sleep 1000 & sleep 1000'
		is verdict wall-time-limit error null
		shim --wait-all -- sh -c '(sleep 0.5; echo behind) & exit 3'
		is verdict nonzero-exit exit_code 3 leftover_killed 0
		[ "$output" = behind ]
		# In a directory of the group's other than the one in which processes are looked up.
		if has cgroups_v1; then
			shim -- sh -c 'sleep 1000 & echo $! >/sys/fs/cgroup/unified/cgroup.procs'
			is verdict ok error null
		fi
		# shellcheck disable=SC2034 # for is
		result=$(echo '{"argv":["'"$HOSTILE"'","orphan"]}' | $VIA "$CGSHIM" batch)
		is verdict ok leftover_killed 1 error null
		nothing_left
	done
	run -1 pgrep -x hostile-lives
	"$CGSHIM" --name cgshim-bats-term --output "$BATS_TEST_TMPDIR/term" -- sh -c 'trap "echo asked; exit 4" TERM; echo ready; while :; do sleep 0.1; done' >"$BATS_TEST_TMPDIR/said" 3>&- &
	eventually grep -q ready "$BATS_TEST_TMPDIR/said"
	$VIA "$CGSHIM" kill --signal TERM cgshim-bats-term
	wait $! || true
	take_result "$BATS_TEST_TMPDIR/term"
	is verdict cancelled exit_code 4
}

# Regression: each zombie cost a millisecond.
# bats test_tags=native
@test "ten thousand zombies that are cgshim's take no time of their own" {
	requires real_cpu # to make them takes a minute under emulation
	local flags begin
	for flags in "" --best-effort; do
		begin=$EPOCHREALTIME
		# shellcheck disable=SC2086
		shim $flags --pids 20000 --wall-time 100 -- "$HOSTILE" zombies 10000 0
		is verdict ok limits_hit '[]'
		holds '.pids_peak < 10000' # they are waited for meanwhile
		# All that was not the program's, of which the old pauses alone were ten seconds.
		holds "($EPOCHREALTIME - $begin - .wall_seconds) < 5"
	done
}

# While cgshim is stopped, nobody waits for them.
# bats test_tags=native
@test "… nor do those that it finds in the end" {
	requires real_cpu
	"$CGSHIM" --pids 20000 --output "$BATS_TEST_TMPDIR/result" -- sh -c 'echo $$; sleep 0.5; "$0" zombies 5000 0; echo done; exec sleep 1000' "$HOSTILE" >"$BATS_TEST_TMPDIR/out" 3>&- &
	local shim=$! begin
	eventually [ -s "$BATS_TEST_TMPDIR/out" ]
	kill -STOP "$shim"
	eventually grep -q "done" "$BATS_TEST_TMPDIR/out"
	kill "$shim"
	kill -KILL "$(head -1 "$BATS_TEST_TMPDIR/out")"
	begin=$EPOCHREALTIME
	kill -CONT "$shim"
	wait "$shim" || true
	less "$(took "$begin")" 5
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict cancelled error null
}
