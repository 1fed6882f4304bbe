#!/usr/bin/env bats
# Runs that are under way: ps, stat, kill, freeze, thaw.

load helpers

PARENT=/cgshim-bats-control

setup() { requires root; }

# A test that failed leaves its runs to nobody.
teardown() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] ||
		"$CGSHIM" ps --parent $PARENT --json | jq -r .cgroup | xargs -r "$CGSHIM" kill --signal KILL
	nothing_left
}

# start NAME ARG...: a run in the background that says when it is ready; its cgshim's pid is in $shim.
start() {
	local name=$1
	shift
	rm -f "$BATS_TEST_TMPDIR/$name.out"
	"$CGSHIM" --parent $PARENT --name "$name" --output "$BATS_TEST_TMPDIR/$name" "$@" >"$BATS_TEST_TMPDIR/$name.out" 2>&1 3>&- &
	shim=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/$name.out"
}

# ended NAME: sets $result.
ended() {
	eventually [ -s "$BATS_TEST_TMPDIR/$1" ]
	take_result "$BATS_TEST_TMPDIR/$1"
	rm "$BATS_TEST_TMPDIR/$1"
}

# runs ARG...: what ps --json says, in $result of the first, and checked with the schema.
runs() {
	run -0 "$CGSHIM" ps --parent $PARENT --json
	result=${lines[0]:-}
	[ -z "${CGSHIM_RESULTS:-}" ] || [ -z "$output" ] || echo "$output" >>"$CGSHIM_RESULTS"
}

SLEEPS='echo ready; exec sleep 1000'

@test "ps shows each run with its figures, and nothing else" {
	run -0 "$CGSHIM" ps --parent $PARENT
	[[ ${#lines[@]} = 1 && $output == NAME* ]]
	runs
	[ -z "$output" ]
	start one --mem 64M -- sh -c "$SLEEPS"
	start two -- sh -c "$SLEEPS"
	run -0 "$CGSHIM" ps --parent $PARENT
	echo "$output"
	[[ ${#lines[@]} = 3 && ${lines[1]} =~ ^one\ +[0-9]+\ +running\ .*\ sleep\ 1000$ && ${lines[2]} == two\ * ]]
	runs
	[ "${#lines[@]}" = 2 ]
	is name one type run schema_version 1
	"$CGSHIM" kill --parent $PARENT one two
	ended one
	is verdict cancelled
	ended two
}

@test "stat has the figures of one run, as they are" {
	start busy --mem 64M --pids 9 -- sh -c 'echo ready; sleep 1000 & exec "$PROG" hold $((16 * MIB)) 1000'
	eventually figures
	is name busy cgroup $PARENT/busy state running cgshim_pid "$shim" oom_kills 0
	holds '.pid > 1 and .wall_seconds > 0 and .argv[1] == "hold"'
	run -0 "$CGSHIM" stat $PARENT/busy
	[[ $output =~ pids\ +2 && $output =~ memory\ peak\ +1[67] ]]
	"$CGSHIM" kill $PARENT/busy
	ended busy
}

# shellcheck disable=SC2034 # for is and holds
figures() {
	result=$("$CGSHIM" stat --json $PARENT/busy)
	holds '.pids == 2 and .peak_memory_bytes >= 16 * 1048576 and .memory_bytes >= 16 * 1048576 and .cpu_seconds > 0' 2>/dev/null
}

@test "kill is cgshim's SIGTERM, or another signal; KILL needs nobody's help" {
	local deaf='trap "" TERM; trap "echo got-usr1" USR1; echo ready; while :; do sleep 0.05; done'
	start deaf --stop-timeout 60s -- sh -c "$deaf"
	"$CGSHIM" kill --parent $PARENT --signal usr1 deaf
	eventually grep -q got-usr1 "$BATS_TEST_TMPDIR/deaf.out"
	"$CGSHIM" kill --parent $PARENT deaf
	kill -STOP "$shim"
	"$CGSHIM" kill --parent $PARENT --signal KILL deaf
	runs
	kill -CONT "$shim"
	ended deaf
	is verdict cancelled signal 9
	start deaf -- sh -c "$deaf"
	"$CGSHIM" kill --parent $PARENT --signal 9 deaf
	ended deaf
	is verdict signaled signal 9
}

@test "kill --signal KILL does not fail because the run has ended by it" {
	for _ in $(times 20 3); do
		start one -- sh -c "$SLEEPS"
		run -0 "$CGSHIM" kill --parent $PARENT --signal KILL one
		ended one
		is verdict signaled
	done
}

@test "a frozen run stands still, and goes on; its limits hold all the same" {
	start ticks -- sh -c 'echo ready; while :; do echo; sleep 0.02; done'
	"$CGSHIM" freeze --parent $PARENT ticks
	runs
	is state frozen
	local size
	size=$(stat -c %s "$BATS_TEST_TMPDIR/ticks.out")
	sleep 0.3
	[ "$size" = "$(stat -c %s "$BATS_TEST_TMPDIR/ticks.out")" ]
	"$CGSHIM" thaw --parent $PARENT ticks
	eventually sh -c "[ \$(stat -c %s '$BATS_TEST_TMPDIR/ticks.out') -gt $size ]"
	runs
	is state running
	"$CGSHIM" freeze --parent $PARENT ticks
	"$CGSHIM" kill --parent $PARENT --signal KILL ticks
	ended ticks
	is verdict signaled
	start late --wall-time 2 -- sh -c "$SLEEPS"
	"$CGSHIM" freeze --parent $PARENT late
	ended late
	is verdict wall-time-limit
}

# bats test_tags=native
@test "what is not there, or not unique, is an error that helps, and does not stop the rest" {
	start one -- sh -c "$SLEEPS"
	run -125 "$CGSHIM" kill --parent $PARENT none one
	[[ $output == *'"none": there is no such run'*'hint: cgshim ps'* ]]
	ended one
	is verdict cancelled
	run -125 "$CGSHIM" freeze
	[[ $output == *'which run?'* ]]
	run -125 "$CGSHIM" kill --signal SEGV x
	[[ $output == *'want one of CONT, HUP, INT, KILL'* ]]
	run -125 "$CGSHIM" ps --all
	[[ $output == *'no such flag'* ]]
	start one -- sh -c "$SLEEPS"
	"$CGSHIM" --parent /cgshim-bats-other --name one --fd 2 -- sh -c "$SLEEPS" >"$BATS_TEST_TMPDIR/other" 2>/dev/null 3>&- &
	eventually grep -q ready "$BATS_TEST_TMPDIR/other"
	run -125 "$CGSHIM" stat --parent $PARENT --parent /cgshim-bats-other one
	[[ $output == *'several runs have that name'* ]]
	run -0 "$CGSHIM" kill /cgshim-bats-other/one $PARENT/one
	ended one
}

@test "another user may look, and do nothing" {
	requires setpriv
	start root -- sh -c "$SLEEPS"
	local user="setpriv --reuid=65534 --regid=65534 --clear-groups" command
	# shellcheck disable=SC2086
	run -0 $user "$CGSHIM" ps --parent $PARENT
	for command in kill freeze "kill --signal KILL"; do
		# shellcheck disable=SC2086
		run -125 $user "$CGSHIM" $command $PARENT/root
		[[ $output == *cgshim:\ error:* ]] || { echo "$command: $output"; return 1; }
	done
	"$CGSHIM" kill $PARENT/root
	ended root
	is verdict cancelled
}

@test "a run whose cgshim is dead is stale, and its pid is nobody's to signal" {
	start stale -- sh -c "$SLEEPS"
	local guardian
	guardian=$(pgrep -P "$shim" -x cg-guardian)
	kill -9 "$guardian" "$shim"
	eventually gone "$shim"
	runs
	is state stale cgshim_pid null
	run -125 "$CGSHIM" kill $PARENT/stale
	[[ $output == *'its cgshim is dead'* ]]
	run -0 "$CGSHIM" gc --parent $PARENT
	[ "$output" = $PARENT/stale ]
}

@test "who can't see whether a run's cgshim lives leaves the run alone" {
	requires setpriv
	start alive -- sh -c "$SLEEPS"
	local where
	for where in "setpriv --bounding-set -sys_admin --inh-caps -sys_admin" "unshare --pid --fork --mount-proc" \
		"unshare --time --boottime 100000 --fork"; do
		# shellcheck disable=SC2086
		run -0 $where "$CGSHIM" gc --parent $PARENT
		[ -z "$output" ]
		# shellcheck disable=SC2086
		run -0 $where "$CGSHIM" --parent $PARENT -- sleep 0.3 # which sweeps, too
		# shellcheck disable=SC2086
		run -0 $where "$CGSHIM" ps --parent $PARENT --json
		[ "$(jq -r .state <<<"$output")" = "$([[ $where == setpriv* ]] && echo running || echo unknown)" ]
	done
	"$CGSHIM" kill $PARENT/alive
	ended alive
	is verdict cancelled
}

@test "a group can't have root signal whom it names" {
	requires setpriv system_python3
	local root victim
	root=$(dirname "$(cgroup_file memory . . $PARENT)")
	sleep 1000 3>&- &
	victim=$!
	mkdir -p "$root/mine"
	chown 65534 "$root/mine"
	setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 -c '
import os, sys
started = open(f"/proc/{sys.argv[2]}/stat").read().rsplit(")", 1)[1].split()[19]
pidns, timens = (os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("pid", "time"))
os.setxattr(sys.argv[1], "user.cgshim.owner", f"{sys.argv[2]} {started} {pidns} {timens}".encode())
' "$root/mine" "$victim"
	runs
	local state=$result
	run "$CGSHIM" kill --parent $PARENT mine
	rmdir "$root/mine" "$root"
	result=$state
	is state unknown cgshim_pid null name mine
	[[ $status = 125 && $output == *"not its user's"* ]]
	kill -0 "$victim"
	kill "$victim"
}

# bats test_tags=native
@test "what a program calls itself is no command to the terminal" {
	start evil -- bash -c "echo ready; exec -a \$'a\e]0;b\a\nfake  1  running' sleep 1000"
	run -0 "$CGSHIM" ps --parent $PARENT
	[ "${#lines[@]}" = 2 ]
	[[ $output != *$'\e'* && $output == *'"a\x1b]0;b\a\nfake  1  running"'* ]]
	"$CGSHIM" kill $PARENT/evil
	ended evil
}

# bats test_tags=native
@test "what can't be written is said once" {
	start one -- sh -c "$SLEEPS"
	run --separate-stderr -125 sh -c '"$0" stat --parent "$1" one >/dev/full' "$CGSHIM" $PARENT
	[ "$(grep -c error: <<<"$stderr")" = 1 ]
	"$CGSHIM" kill --parent $PARENT one
	ended one
}

@test "gc leaves a group alone that says nothing of its owner, and that somebody is in" {
	local dir=/sys/fs/cgroup/pids$PARENT pid
	has cgroups_v1 || dir=/sys/fs/cgroup$PARENT
	mkdir -p "$dir/1-deadbeef" "$dir/2-deadbeef"
	sleep 1000 3>&- &
	pid=$!
	echo $pid >"$dir/1-deadbeef/cgroup.procs"
	run -0 "$CGSHIM" gc --parent $PARENT
	[ "$output" = $PARENT/2-deadbeef ]
	kill -0 $pid
	kill $pid
	wait $pid || true
	eventually rmdir "$dir/1-deadbeef"
	rmdir "$dir"
}

# bats test_tags=native
@test "a long command line does not fill the screen" {
	start long -- sh -c 'echo ready; sleep 1000; :' sh "$(printf 'x%.0s' {1..5000})"
	run -0 "$CGSHIM" ps --parent $PARENT
	[[ ${#lines[@]} = 2 && ${#lines[1]} -lt 1200 && ${lines[1]} == *x… ]]
	runs
	holds '.argv[-1] | length == 5000'
	"$CGSHIM" kill $PARENT/long
	ended long
}

# bats test_tags=native
@test "programs called like a subcommand can be run" {
	printf '#!/bin/sh\necho "program $0"\n' >"$BATS_TEST_TMPDIR/freeze"
	chmod +x "$BATS_TEST_TMPDIR/freeze"
	PATH=$BATS_TEST_TMPDIR:$PATH shim -- freeze
	[[ $output == program\ */freeze ]]
}
