#!/usr/bin/env bats
# File systems that do not answer: nothing waits for them for ever.

load helpers

setup() {
	requires root fuse mount python3
	dead=$BATS_TEST_TMPDIR/dead
	mkdir "$dead"
	python3 "$TOP/tests/hang.py" "$dead" >"$BATS_TEST_TMPDIR/hang" 3>&- &
	server=$!
	eventually grep -q ready "$BATS_TEST_TMPDIR/hang"
}

# answer: the file system ends, and with it everybody's wait for it.
answer() {
	umount -l "$dead"
	kill "$server" 2>/dev/null || return 0
	wait "$server" || true
}

teardown() {
	answer
	eventually collected
	nothing_left
}

collected() { "$CGSHIM" gc >/dev/null 2>&1 && nothing_left 2>/dev/null; }

# background NAME ARG...: cgshim, with its result in a file of that name.
background() {
	local name=$1
	shift
	{
		code=0
		"$CGSHIM" --mem 64M --output "$BATS_TEST_TMPDIR/$name" "$@" 2>/dev/null 3>&- || code=$?
		echo "$code" >"$BATS_TEST_TMPDIR/$name.status"
	} &
}

# outcome NAME: sets $result and $status.
outcome() {
	eventually [ -s "$BATS_TEST_TMPDIR/$1.status" ]
	# shellcheck disable=SC2034 # for is and exits
	status=$(cat "$BATS_TEST_TMPDIR/$1.status")
	take_result "$BATS_TEST_TMPDIR/$1"
}

@test "a launch that hangs ends when cgshim is told to stop, or its time is over" {
	# The stage sleeps in chdir, and in the search for the program; the program in execve.
	printf '#!%s/interpreter\n' "$dead" >"$BATS_TEST_TMPDIR/script"
	chmod +x "$BATS_TEST_TMPDIR/script"
	background chdir --stop-timeout 0.5 --chdir "$dead/x" -- true
	background lookup --stop-timeout 0.5 -- "$dead/x"
	background script --stop-timeout 0.5 -- "$BATS_TEST_TMPDIR/script"
	background late --wall-time 0.1 --chdir "$dead/x" -- true
	background best --best-effort --wall-time 0.1 --chdir "$dead/x" -- true
	sleep 1
	local shim waiting=0
	for shim in $(pgrep -f -- "--stop-timeout 0.5 .*$dead|--stop-timeout 0.5 -- $BATS_TEST_TMPDIR/script"); do
		! grep -qz -- --stop-timeout "/proc/$shim/cmdline" || { kill -TERM "$shim"; waiting=$((waiting + 1)); }
	done
	[ "$waiting" = 3 ]
	for name in chdir lookup script; do
		outcome $name
		exits 125
		is verdict error error.step stage error.errno EINTR
		holds '.error.hint | test("does not answer")'
	done
	for name in late best; do
		outcome $name
		exits 125
		is verdict error error.step stage error.errno ETIMEDOUT
	done
	# What SIGKILL can't end is no secret.
	holds '.error.message | test("do not die")'
}

@test "a program that does not die of SIGKILL is an error after ten seconds, and left to gc" {
	local begin=$SECONDS
	background sleeps --wall-time 2 -- cat "$dead/x"
	background cancelled --stop-timeout 0.2 -- cat "$dead/x"
	sleep 2 # an emulated cat takes its time to get there
	kill -TERM "$(pgrep -f -- "--stop-timeout 0.2 -- cat $dead")"
	outcome sleeps
	exits 125
	is verdict error error.step kill
	holds '.error.hint | test("cgshim gc")'
	outcome cancelled
	exits 125
	is verdict error error.step kill
	[ $((SECONDS - begin)) -ge 10 ]
	[ -n "$(ours)" ] # it is there still
	answer
	eventually collected
}
