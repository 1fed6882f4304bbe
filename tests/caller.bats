#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test has variables of its own
# The death of the caller: --alive-fd, --die-with-caller, and a batch whose answers nobody reads.

load helpers

setup() {
	requires root
	cd "$BATS_TEST_TMPDIR" || return
}

# A test that failed leaves its run, and who holds its pipe, to nobody.
teardown() {
	exec 6>&- 7>&- 8>&-
	[ -z "${holder:-}" ] || kill -KILL "$holder" 2>/dev/null || true
	[ -n "${BATS_TEST_COMPLETED:-}" ] || [ -z "${shim:-}" ] || { kill "$shim" && wait "$shim"; } || true
	nothing_left
}

# hold: somebody has the other end of the FIFO "alive"; $holder.
hold() {
	mkfifo alive
	sleep 1000 >alive 3>&- &
	holder=$!
}

# ends STATUS: cgshim does.
ends() {
	local code=0
	wait "$shim" || code=$?
	[ "$code" = "$1" ] || { echo "exit status: want $1, have $code" >&2; return 1; }
}

# A program that says that it runs, and how it was asked to end.
gentle='trap "echo asked; exit 4" TERM; echo ready; while :; do sleep 0.05; done'

# start [ENV…] -- ARG...: cgshim in the background, with the FIFO as descriptor 5; $shim.
start() {
	"$CGSHIM" --output result "$@" -- sh -c "$gentle" 5<alive >out 2>err 3>&- 6>&- 7>&- &
	shim=$!
	eventually grep -q ready out
}

# cancelled: the run was, and its program was asked.
cancelled() {
	ends 4
	take_result result
	is verdict cancelled exit_code 4 error null
	grep -q asked out
}

@test "--alive-fd: the end of a pipe cancels the run" {
	hold
	start --alive-fd 5
	kill -KILL "$holder"
	cancelled
}

@test "… also behind a shell" {
	hold
	sh -c '"$@" >out 2>err; true' sh "$CGSHIM" --output result --alive-fd 5 -- sh -c "$gentle" 5<alive 3>&- &
	shim=$!
	eventually grep -q ready out
	kill -KILL "$holder"
	wait "$shim"
	take_result result
	is verdict cancelled exit_code 4
}

@test "… also of a socket, whole or its half" {
	requires python3
	local how
	for how in 'a.close()' 'a.shutdown(socket.SHUT_WR)'; do
		rm -f out
		python3 - "$how" "$CGSHIM" --output result --alive-fd 50 -- sh -c "$gentle" <<-'E'
			import os, socket, subprocess, sys, time
			a, b = socket.socketpair()
			os.dup2(b.fileno(), 50)
			b.close()
			with open("out", "wb") as out:
			    run = subprocess.Popen(sys.argv[2:], pass_fds=[50], stdout=out, stderr=subprocess.DEVNULL)
			os.close(50)
			while b"ready" not in open("out", "rb").read():
			    a.send(b"still here")
			    time.sleep(0.05)
			exec(sys.argv[1])
			sys.exit(run.wait() != 4)
		E
		take_result result
		is verdict cancelled exit_code 4
	done
}

@test "… and bytes that come before it do not: they are read, and thrown away" {
	mkfifo alive
	exec 6<>alive # so that nobody waits for the other
	exec 7>alive
	start --alive-fd 5 --wall-time 100
	exec 6>&-
	timeout 60 head -c 300000 /dev/zero >&7 # more than the pipe takes
	echo once more >&7
	local used
	used=$(awk '{ print $14 + $15 }' "/proc/$shim/stat")
	sleep 1
	[ $(($(awk '{ print $14 + $15 }' "/proc/$shim/stat") - used)) -le 30 ] # ticks, of 100: it does not spin
	[ ! -s result ]
	exec 7>&-
	cancelled
}

@test "… and one that has ended before keeps the program from being started" {
	mkfifo alive
	exec 6<>alive
	exec 7<alive
	exec 6>&-
	for _ in $(times 20 3); do # it was a race whether the file of the result was open by then
		rm -f result
		run -125 "$CGSHIM" --output result --alive-fd 7 -- touch started
		take_result result
		is verdict cancelled error.step cancelled pid null
		[ ! -e started ]
	done
	exec 7<&-
}

@test "… or from being waited for, while files are opened" {
	hold
	mkfifo never
	"$CGSHIM" --output result --alive-fd 5 --stdin never -- touch started 5<alive 3>&- 2>err &
	shim=$!
	pause 0.3
	kill -KILL "$holder"
	ends 125
	take_result result
	is verdict cancelled pid null
	[ ! -e started ]
}

@test "… and the program has not got it" {
	hold
	"$CGSHIM" --output result --alive-fd 5 -- ls /proc/self/fd 5<alive >out 3>&-
	take_result result
	is verdict ok
	run -1 grep -x 5 out
}

@test "… and a run that ends before is not cancelled" {
	hold
	"$CGSHIM" --output result --alive-fd 5 --die-with-caller -- sleep 0.1 5<alive 3>&-
	take_result result
	is verdict ok
}

# refused TEXT ARG...: with these flags nothing is run, and the message has the text.
refused() {
	local text=$1
	shift
	rm -f result
	run -125 "$CGSHIM" --output result "$@" -- touch started
	take_result result
	is verdict error error.step usage
	[[ $(field error.message) = *"$text"* ]] || { echo "want $text in $result" >&2; return 1; }
	[ ! -e started ]
}

# bats test_tags=native
@test "… and what has no end is refused" {
	mkfifo fifo
	# shellcheck disable=SC2094
	exec 6<>fifo 7>fifo 8</dev/null
	refused '--alive-fd "x"' --alive-fd x
	refused '--alive-fd ""' --alive-fd ''
	refused '--alive-fd "-1"' --alive-fd=-1
	for i in 0 1 2; do refused "--alive-fd \"$i\": want" --alive-fd $i; done
	refused '--alive-fd "77": the descriptor is not open' --alive-fd 77
	refused '--alive-fd "99999999999999999999"' --alive-fd 99999999999999999999
	refused '--alive-fd "6": a FIFO that is open for reading and writing' --alive-fd 6
	refused '--alive-fd "7": this is the end of the pipe that is written to' --alive-fd 7
	refused '--alive-fd "8": it is neither a pipe' --alive-fd 8
	exec 8<fifo
	refused '--alive-fd "8": cgshim has the other end, too, as descriptor 6' --alive-fd 8
	exec 6>&- 7>&-
	refused 'descriptor 8 is to keep' --alive-fd 8 --keep-fd 8
}

# bats test_tags=native
@test "… and so is the result's own socket" {
	requires python3
	python3 - "$CGSHIM" <<-'E'
		import os, socket, subprocess, sys
		a, b = socket.socketpair()
		os.dup2(b.fileno(), 50)
		code = subprocess.run([sys.argv[1], "--fd", "50", "--alive-fd", "50", "--", "touch", "started"], pass_fds=[50], stderr=subprocess.DEVNULL).returncode
		os.close(50)
		b.close()
		with open("result", "wb") as file:
		    while got := a.recv(1 << 16):
		        file.write(got)
		sys.exit(code != 125)
	E
	take_result result
	is verdict error error.step usage
	[[ $(field error.message) = '--alive-fd "50": the result goes there' ]]
	[ ! -e started ]
}

@test "--die-with-caller: the parent's end cancels the run" {
	sh -c '"$@" >out 2>err & echo $! >pid; wait' sh "$CGSHIM" --output result --die-with-caller -- sh -c "$gentle" 3>&- &
	holder=$!
	eventually grep -q ready out
	kill -KILL "$holder"
	eventually [ -s result ]
	take_result result
	is verdict cancelled exit_code 4
	eventually gone "$(<pid)"
}

@test "… where there are no pidfds, too" {
	requires strace
	sh -c 'strace -f -qq -o /dev/null -e trace=pidfd_open -e inject=pidfd_open:error=ENOSYS "$@" >out 2>err' sh "$CGSHIM" --output result --die-with-caller -- sh -c "$gentle" 3>&- &
	holder=$!
	eventually grep -q ready out
	kill -KILL "$(pgrep -P "$holder" -x strace || echo "$holder")" # which is the parent
	eventually [ -s result ]
	take_result result
	is verdict cancelled exit_code 4
}

@test "… and it is an error if the parent is in another pid namespace" {
	run -125 unshare --pid --fork --mount-proc "$CGSHIM" --output result --die-with-caller -- touch started
	take_result result
	is verdict error error.step usage
	[[ $(field error.message) = "--die-with-caller: the parent is in another pid namespace"* ]]
	[[ $(field error.hint) = *--alive-fd* ]]
	[ ! -e started ]
}

# start_batch ARG...: a batch with one job that goes on, and one for requests; its answers go to the FIFO "answers", descriptor 8 here.
start_batch() {
	mkfifo requests answers
	"$CGSHIM" batch --jobs 2 "$@" <requests >answers 2>err 5<alive 3>&- 6>&- &
	shim=$!
	exec 7>requests 8<answers
}

# runs: a job of the batch runs.
runs() {
	echo '{"id":1,"argv":["sh","-c","echo ready >ready; exec sleep 1000"]}' >&7
	eventually [ -s ready ]
}

@test "a batch that nobody reads from any more ends, also while it is idle" {
	hold
	start_batch
	echo '{"id":1,"argv":["true"]}' >&7
	IFS= read -r result <&8
	is verdict ok
	exec 8<&-
	wait "$shim" # nothing is lost: 0
	[ ! -s err ]
}

@test "… and ends its jobs" {
	hold
	start_batch
	runs
	exec 8<&-
	ends 125
	grep -q 'writing a result' err
	run -1 pgrep -x -f 'sleep 1000' --parent "$shim"
}

@test "… but for files, for requests that still come after its answers' reader has shut down nothing, and for its end" {
	requires python3
	echo '{"id":1,"argv":["true"]}' | "$CGSHIM" batch >answers
	take_result answers
	"$CGSHIM" batch </dev/null >/dev/null
	# One socket for both, of which the client shuts down one half: the end of the requests, and not of the answers.
	python3 - "$CGSHIM" <<-'E'
		import socket, subprocess, sys
		a, b = socket.socketpair()
		run = subprocess.Popen([sys.argv[1], "batch"], stdin=b, stdout=b, stderr=subprocess.DEVNULL)
		b.close()
		a.send(b'{"id":1,"argv":["sleep","0.2"]}\n{"id":2,"argv":["true"]}\n')
		a.shutdown(socket.SHUT_WR)
		got = b""
		while more := a.recv(1 << 16):
		    got += more
		sys.exit(run.wait() != 0 or got.count(b'"verdict":"ok"') != 2)
	E
}

@test "batch --alive-fd: everything is cancelled, and answered" {
	hold
	start_batch --alive-fd 5
	runs
	kill -KILL "$holder"
	IFS= read -r result <&8
	is id 1 verdict cancelled
	ends 143
}

@test "… also while it is idle" {
	hold
	start_batch --alive-fd 5
	echo '{"id":1,"argv":["true"]}' >&7
	IFS= read -r result <&8
	kill -KILL "$holder"
	ends 143
}

@test "… and no job may have it" {
	hold
	start_batch --alive-fd 5
	echo '{"id":1,"argv":["true"],"keep-fd":5}' >&7
	IFS= read -r result <&8
	is verdict error error.step usage
	echo '{"id":2,"argv":["true"],"alive-fd":5}' >&7
	IFS= read -r result <&8
	is verdict error error.step usage
	exec 7>&-
	wait "$shim"
}

@test "batch --die-with-caller" {
	mkfifo requests answers
	sh -c '"$@" <requests >answers 2>err & echo $! >pid; wait' sh "$CGSHIM" batch --die-with-caller 3>&- &
	holder=$!
	exec 7>requests 8<answers
	runs
	kill -KILL "$holder"
	IFS= read -r result <&8
	is id 1 verdict cancelled
	eventually gone "$(<pid)"
}
