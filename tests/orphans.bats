#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has variables of its own
# What a program leaves behind is waited for, also in a container whose first process waits for nobody: see programs/careless.c.

load helpers

HOSTILE=$TOP/build/programs/hostile
# For "orphans 60": as many as 20 processes allow, and then a pause, for a machine on which cgshim may be late.
PAUSE=0
has real_cpu || PAUSE=300

setup() { requires root; }

# contained COMMAND [ARG...]: runs it in such a container. Sets $zombies, how many there are after it.
contained() {
	local code=0
	unshare --pid --fork --kill-child --mount-proc "$TOP/build/programs/careless" "$BATS_TEST_TMPDIR/zombies" "$@" || code=$?
	zombies=$(<"$BATS_TEST_TMPDIR/zombies")
	return $code
}

# shim_contained ARG...: shim ARG... there; afterwards there are no zombies.
shim_contained() {
	VIA=contained shim "$@"
	[ "$zombies" = 0 ] || { echo "$zombies zombies are left: $result" >&2; return 1; }
}

@test "no zombies are left of programs that outlive their parents" {
	shim_contained -- sh -c 'sleep 9 & sleep 9 & exit 0'
	is verdict ok leftover_killed 2 error null
	shim_contained --best-effort -- sh -c 'sleep 9 & sleep 9 & exit 0'
	is verdict ok leftover_killed 2 error null
	shim_contained --wait-all -- sh -c 'sleep 0.2 & (sleep 0.1 & sleep 0.1 &) & exit 0'
	is verdict ok leftover_killed 0 error null
}

@test "… nor of a fork bomb" {
	for i in 1 2 3; do
		shim_contained --pids 40 --wall-time 1 -- "$HOSTILE" bomb 100 1000
		is verdict wall-time-limit limits_hit '["pids","wall_time"]' error null
	done
}

@test "dead orphans do not count against the limit of processes" {
	for flag in "" --wait-all; do
		# shellcheck disable=SC2086
		shim_contained $flag --pids 20 -- "$HOSTILE" orphans 60 $PAUSE
		is verdict ok pids_denied 0 error null
		[ "$output" = "denied 0" ]
	done
}

@test "… also when they end late, in a run that has nothing else to do" {
	shim_contained --pids 20 -- sh -c 'for i in 1 2 3 4 5 6; do (sleep 0.05 & sleep 0.05 & sleep 0.05 &); sleep 0.3; done; echo done'
	is verdict ok pids_denied 0 error null
	[ "$output" = "done" ]
	# Of the program, one that it waits for, and the three.
	holds '.pids_peak <= 8'
}

@test "… and behind a program that has ended, with --wait-all" {
	# shellcheck disable=SC2016
	shim_contained --wait-all --pids 20 -- sh -c '(sleep 0.2; exec "$0" orphans 60 "$1") & exit 3' "$HOSTILE" $PAUSE
	is verdict nonzero-exit exit_code 3 pids_denied 0 error null
	[ "$output" = "denied 0" ]
}

@test "… and behind a guardian that somebody has killed" {
	# shellcheck disable=SC2016
	shim_contained --pids 20 -- sh -c 'kill -KILL $(pgrep -P $PPID -x cg-guardian); exec "$0" orphans 60 "$1"' "$HOSTILE" $PAUSE
	is verdict ok pids_denied 0 error null
	[ "$output" = "denied 0" ]
}

@test "a batch leaves no zombies, and its jobs' orphans do not count against their limits" {
	local id=0 answers=$BATS_TEST_TMPDIR/answers
	{
		for _ in 1 2 3; do
			echo '{"id":'$((id += 1))',"argv":["sh","-c","sleep 9 & sleep 9 & exit 0"]}'
			echo '{"id":'$((id += 1))',"argv":["'"$HOSTILE"'","bomb","100","1000"],"pids":40,"wall-time":1}'
			echo '{"id":'$((id += 1))',"argv":["'"$HOSTILE"'","orphans","60","'$PAUSE'"],"pids":20,"stdout":"'"$BATS_TEST_TMPDIR/out.$id"'"}'
		done
	} >"$BATS_TEST_TMPDIR/requests"
	contained "$CGSHIM" batch --jobs 2 <"$BATS_TEST_TMPDIR/requests" >"$answers"
	[ "$zombies" = 0 ]
	[ "$(wc -l <"$answers")" = 9 ]
	while IFS= read -r result; do
		case $(field id) in
		1 | 4 | 7) is verdict ok leftover_killed 2 error null ;;
		2 | 5 | 8) is verdict wall-time-limit error null ;;
		*) is verdict ok pids_denied 0 error null ;;
		esac
	done <"$answers"
	for id in 3 6 9; do [ "$(<"$BATS_TEST_TMPDIR/out.$id")" = "denied 0" ]; done
}

# zombies_of PID: how many children of that process are zombies.
zombies_of() { cat "/proc/$1"/task/*/children | tr ' ' '\n' | while read -r child; do grep -s '^State:.*Z' "/proc/$child/status" || true; done | wc -l; }

@test "what a job has left behind is reaped before its answer is there, while the batch goes on" {
	cd "$BATS_TEST_TMPDIR"
	mkfifo requests answers
	"$CGSHIM" batch --jobs 2 <requests >answers 3>&- &
	local shim=$!
	exec 7>requests 8<answers
	echo '{"id":"other","argv":["sh","-c","while :; do (sleep 0 &); done"],"wall-time":100}' >&7
	for i in $(times 20 5); do
		echo '{"id":'"$i"',"argv":["sh","-c","for i in 1 2 3 4 5 6 7 8; do (sleep 9 &); done; exit 0"]}' >&7
		IFS= read -r result <&8
		is id "$i" verdict ok leftover_killed 8
	done
	echo '{"cancel":"other"}' >&7
	IFS= read -r result <&8
	is id other verdict cancelled
	[ "$(zombies_of "$shim")" = 0 ]
	exec 7>&-
	wait "$shim"
}

@test "somebody who kills the process that a batch waits with does not end that" {
	cd "$BATS_TEST_TMPDIR"
	mkfifo requests answers
	"$CGSHIM" batch --jobs 1 <requests >answers 3>&- &
	local shim=$!
	exec 7>requests 8<answers
	echo '{"argv":["true"]}' >&7
	IFS= read -r result <&8
	for _ in 1 2 3; do
		eventually [ -n "$(cat "/proc/$shim/task/$shim/children")" ]
		# shellcheck disable=SC2046
		kill -KILL $(cat "/proc/$shim/task/$shim/children")
		echo '{"argv":["sh","-c","(sleep 9 &); (sleep 0.01 &); sleep 0.1"]}' >&7
		IFS= read -r result <&8
		is verdict ok leftover_killed 1
	done
	eventually eval '[ "$(zombies_of "$shim")" = 0 ]'
	exec 7>&-
	wait "$shim"
}

@test "an orphan's parent is cgshim" {
	# shellcheck disable=SC2016
	shim -- sh -c 'echo $PPID; (sh -c '\''sleep 0.2; read -r _ _ _ parent _ </proc/self/stat; grep PPid /proc/$$/status | tr -dc "0-9\n"'\'' &); sleep 0.5'
	is verdict ok
	[ "$(head -1 <<<"$output")" = "$(tail -1 <<<"$output")" ]
	[ "$(wc -l <<<"$output")" = 2 ]
}

@test "an inner cgshim's orphans are its own, and none are left" {
	# shellcheck disable=SC2016
	shim_contained --pids 100 -- "$CGSHIM" --pids 20 --fd 1 --stdout /dev/null -- "$HOSTILE" orphans 60 $PAUSE
	is verdict ok leftover_killed 0 error null
	result=$output
	is verdict ok pids_denied 0 leftover_killed 0
}

@test "after kill -9 of cgshim the orphans are the next reaper's" {
	# shellcheck disable=SC2016
	unshare --pid --fork --kill-child --mount-proc sh -c '"$0" --fd 1 -- sh -c "(sleep 99 &); (sleep 99 &); exec sleep 99" & sleep 1; kill -9 $!
		for i in $(seq 100); do pgrep -x sleep -f "sleep 99" >/dev/null || exit 0; sleep 0.1; done; exit 1' "$CGSHIM" >/dev/null
}

@test "wait4 figures are those of what the program has waited for, as before" {
	shim -- sh -c '(sh -c "i=0; while [ \$i -lt 20000 ]; do i=\$((i + 1)); done" &); sleep 1'
	is verdict ok voluntary_context_switches null
	shim -- sh -c 'sh -c "i=0; while [ \$i -lt 20000 ]; do i=\$((i + 1)); done"'
	is verdict ok
	holds '.voluntary_context_switches > 0'
}

# told COMMAND: how many signals cgshim's first thread gets of children, while a shell executes that.
told() {
	local trace=$BATS_TEST_TMPDIR/trace
	strace -f -qq -e trace=execve -o "$trace" "$CGSHIM" --fd 3 -- sh -c "$1" 3>/dev/null
	awk 'NR == 1 { first = $1 } $1 == first && /--- SIGCHLD/' "$trace" | wc -l
}

# bats test_tags=native
@test "a program that makes no orphans wakes nobody up" {
	requires strace
	# What ends is the program, and the guardian. Its own children tell the program.
	[ "$(told 'for i in 1 2 3 4 5; do sleep 0.1; done')" -le 2 ]
	[ "$(told 'for i in 1 2 3 4 5; do (sleep 0.05 &); sleep 0.1; done')" -ge 5 ]
}
