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

# bats test_tags=native
@test "the program's files that can't be opened hold up neither a result nor a batch" {
	# Each of them ends when the file system does, as the kernel has it; the results do not wait for that.
	background late --wall-time 1 --stdin "$dead/x" -- true
	background told --stderr "$dead/x" -- true
	background paths --stop-timeout 0.5 --fs-system --fs-ro "$dead/x" -- true
	background late-paths --wall-time 0.1 --fs-rw "$dead/x" -- true
	eventually pgrep -f -- "--stderr $dead/x" >/dev/null
	sleep 0.5
	kill -TERM "$(pgrep -f -- "--stderr $dead/x")" "$(pgrep -f -- "--fs-ro $dead/x")"
	cd "$BATS_TEST_TMPDIR"
	mkfifo requests
	"$CGSHIM" batch --jobs 1 <requests >answers 2>/dev/null 3>&- &
	local batch=$!
	exec 7>requests
	printf '%s\n' '{"id":1,"argv":["true"],"stdin":"'"$dead/x"'","wall-time":1}' '{"id":2,"argv":["true"],"stdout":"'"$dead/x"'"}' >&7
	eventually grep -q '"id":1,' answers
	sleep 0.5
	printf '%s\n' '{"cancel":2}' '{"id":3,"argv":["true"]}' >&7
	exec 7>&-
	eventually grep -q '"id":3,' answers
	local name
	for name in late told paths late-paths; do eventually [ -s $name ]; done
	sed -n 's/"id":1,//p' answers >first
	for name in late first; do
		take_result $name
		is verdict error error.step open error.errno ETIMEDOUT wall_seconds null
	done
	sed -n 's/"id":2,//p' answers >second
	for name in told second; do
		take_result $name
		is verdict cancelled error.step cancelled wall_seconds null
	done
	take_result paths
	is verdict error error.step landlock error.errno EINTR
	take_result late-paths
	is verdict error error.step landlock error.errno ETIMEDOUT cgroup null
	sed -n 's/"id":3,//p' answers >third
	take_result third
	is verdict ok
	answer
	wait "$batch" # and not also for bats's own process that counts down a test's time
	for name in late told; do eventually [ -s $name.status ]; done
	[ "$(cat late.status told.status)" = $'125\n125' ]
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
