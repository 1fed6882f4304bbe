#!/usr/bin/env bats
# Waiting costs nothing: no CPU time, and nobody is woken up.

load helpers

setup() { requires root; }

# A test that failed leaves its run to nobody.
teardown() {
	exec 7>&-
	[ -n "${BATS_TEST_COMPLETED:-}" ] || [ -z "${shim:-}" ] || { kill "$shim" && wait "$shim"; } || true
	nothing_left
}

# start ARG...: cgshim in the background, with a program that sleeps, and a second later; its pid is in $shim.
start() {
	"$CGSHIM" --name cgshim-bats-idle --fd 4 "$@" 4>"$BATS_TEST_TMPDIR/result" -- sh -c 'echo ready; exec sleep 1000' >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
	shim=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/out"
	sleep 1
}

# stop: ends it. The run has to have been under way until now.
stop() {
	kill "$shim"
	wait "$shim" || true
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict cancelled
}

# switches PID: how often its threads have been put on a CPU.
switches() { cat "/proc/$1"/task/*/status | awk '/ctxt_switches/ {n += $2} END {print n}'; }

# used PID: the nanoseconds that its threads have been on a CPU, those that have ended included where schedstat is missing.
used() {
	if [ -e "/proc/$1/schedstat" ]; then
		cat "/proc/$1"/task/*/schedstat | awk '{n += $1} END {printf "%d\n", n}'
	else
		awk '{printf "%d\n", ($14 + $15) * 10000000}' "/proc/$1/stat" # of a name without spaces
	fi
}

# wakes PID MOST [SECONDS]: in 3 seconds it is put on a CPU that often at most.
wakes() {
	local before cpu
	before=$(switches "$1")
	[ "$before" -gt 0 ]
	cpu=$(used "$1")
	sleep "${3:-3}"
	before=$(($(switches "$1") - before))
	cpu=$(($(used "$1") - cpu))
	echo "# $BATS_TEST_DESCRIPTION: $(cat "/proc/$1/comm"): $before in ${3:-3} s, $((cpu / 1000)) us of CPU time" | tee -a "${IDLE_LOG:-/dev/null}"
	[ "$before" -le "$2" ]
	[ "$cpu" -le 50000000 ]
}

# rests PID MOST: wakes, in one of five times: Go's collector has to come to an end after there was much to do, which a busy machine puts
# off.
rests() {
	local _
	for _ in 1 2 3 4; do ! wakes "$@" || return 0; done
	wakes "$@"
}

guardian() { pgrep -P "$1" -x cg-guardian; }

@test "without a limit of time nobody is woken up" {
	start
	wakes "$shim" 2
	wakes "$(guardian "$shim")" 0
	stop
}

@test "… nor with limits that the kernel enforces" {
	start --mem 64M --pids 10 --cpus 0.5
	wakes "$shim" 2
	stop
}

@test "… nor for --wait-all" {
	start --wait-all
	wakes "$shim" 2
	stop
}

@test "… nor for --output-limit" {
	start --output-limit 1M
	wakes "$shim" 2
	stop
}

@test "with a limit of wall time that is far away it is twice a second at most" {
	start --wall-time 1000
	wakes "$shim" 6
	wakes "$(guardian "$shim")" 0
	stop
}

@test "… with one of CPU time, too" {
	start --cpu-time 1000 --wall-time 1000 --mem 64M
	wakes "$shim" 6
	stop
}

samples() { grep -c '"type":"sample"' "$BATS_TEST_TMPDIR/result"; }

# run_cost: the nanoseconds of CPU time that a run takes now, of 20.
run_cost() {
	local _ TIMEFORMAT='%U %S'
	{ time for _ in $(seq 20); do "$CGSHIM" --mem 64M --parent /cgshim-bats-idle --fd 1 -- "$NOOP" >/dev/null 2>&3; done; } 3>&2 2>&1 |
		awk '{ printf "%d\n", ($1 + $2) * 1e9 / 20 }'
}

@test "a sample takes a quarter of the CPU time of a run at most" {
	requires real_cpu
	start --sample 100ms --events --mem 64M
	local before count run
	count=$(samples)
	before=$(used "$shim")
	sleep 6
	before=$(($(used "$shim") - before))
	count=$(($(samples) - count))
	run=$(run_cost)
	echo "# --sample 100ms: $((before / 6000)) us of CPU time a second, $((before / count / 1000)) us a sample; a run: $((run / 1000)) us" | tee -a "${IDLE_LOG:-/dev/null}"
	[ "$count" -ge 20 ]
	[ "$before" -gt 0 ]
	[ $((before / count)) -le $((run / 4)) ]
	kill "$shim"
	wait "$shim" || true
}

@test "a batch that waits for requests, or for programs, is not woken up" {
	cd "$BATS_TEST_TMPDIR"
	mkfifo requests
	"$CGSHIM" batch --jobs 4 --parent /cgshim-bats-idle <requests >answers 2>/dev/null 3>&- &
	shim=$!
	exec 7>requests
	for i in $(seq 100); do echo '{"argv":["'"$NOOP"'"],"mem":"64M"}' >&7; done
	eventually eval '[ "$(wc -l <answers)" = 100 ]'
	sleep 1
	rests "$shim" 2
	for i in 1 2 3; do echo '{"id":'"$i"',"argv":["sleep","1000"],"mem":"64M"}' >&7; done
	echo '{"id":4,"argv":["sleep","1000"],"wall-time":1000}' >&7
	sleep 2
	wakes "$shim" 2
	for i in $(guardian "$shim"); do wakes "$i" 0 1; done
	exec 7>&-
	kill "$shim"
	wait "$shim" || true
	[ "$(grep -c '"verdict":"cancelled"' answers)" = 4 ]
}
