#!/usr/bin/env bats
# --output-limit: what is passed on, byte for byte, and what happens at the limit.

load helpers

setup() { requires root; }

# bats test_tags=native
@test "output without end: exactly the limit, whatever takes it" {
	local size
	shim --output-limit 1M -- yes
	is verdict output-limit signal 9 output_bytes "$MIB" enforced.output relay limits.output_bytes "$MIB"
	holds '.limits_hit == ["output"]'
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/stdout")" = "$MIB" ]
	cmp -n "$MIB" "$BATS_TEST_TMPDIR/stdout" <(yes)

	size=$("$CGSHIM" --output-limit 1M --output "$BATS_TEST_TMPDIR/r" -- yes | wc -c) # a pipe
	[ "$size" = "$MIB" ]
	: >"$BATS_TEST_TMPDIR/appended"
	"$CGSHIM" --output-limit 100001 --output "$BATS_TEST_TMPDIR/r" -- yes >>"$BATS_TEST_TMPDIR/appended" || true # no splice
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/appended")" = 100001 ]
	shim --output-limit 777 --stdout "$BATS_TEST_TMPDIR/file" -- yes
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/file")" = 777 ]
}

# bats test_tags=native
@test "… a terminal, too" {
	requires python3
	run python3 - "$CGSHIM" <<-'EOF2'
		import os, pty, subprocess, sys, tty
		ours, theirs = pty.openpty()
		tty.setraw(theirs)
		run = subprocess.Popen([sys.argv[1], "--output-limit", "5000", "--output", "/dev/null", "--", "yes"], stdout=theirs)
		os.close(theirs)
		data = b""
		try:
		    while chunk := os.read(ours, 100):
		        data += chunk
		except OSError:
		    pass
		print(len(data), data == b"y\n" * 2500, run.wait())
	EOF2
	[ "$output" = "5000 True 137" ]
}

# bats test_tags=native
@test "… and a socket, as Node's pipes are" {
	requires node
	run node -e '
		const run = require("child_process").spawn(process.env.CGSHIM, ["--output-limit", "1M", "--fd", "3", "--", "yes"], {stdio: ["ignore", "pipe", "inherit", "pipe"]});
		let size = 0, text = "";
		run.stdout.on("data", (data) => size += data.length);
		run.stdio[3].on("data", (data) => text += data);
		run.on("close", () => console.log(size, JSON.parse(text).verdict));'
	[ "$output" = "1048576 output-limit" ]
}

# bats test_tags=native
@test "it is over quickly" {
	local bound=0.1
	has real_cpu || bound=100
	once_of 5 ".wall_seconds < $bound" --output-limit 1M -- sh -c 'yes | head -c 2G'
	is verdict output-limit output_bytes "$MIB"
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/stdout")" = "$MIB" ]
}

# bats test_tags=native
@test "exactly the limit is within it, one more is not" {
	shim --output-limit 1000 -- head -c 1000 /dev/zero
	exits 0
	is verdict ok output_bytes 1000 limits_hit '[]'
	once_of 10 '.exit_code == 0' --output-limit 1000 -- head -c 1001 /dev/zero # it has ended when that is seen
	exits 124
	is verdict output-limit output_bytes 1000 exit_code 0
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/stdout")" = 1000 ]
	shim --output-limit 1 -- true
	is verdict ok output_bytes 0
}

# bats test_tags=native
@test "stdout and stderr count together, and keep their order in one file" {
	shim --output-limit 30 -- sh -c 'while :; do printf 12345; printf abcde >&2; done'
	is verdict output-limit output_bytes 30
	[ $(($(stat -c %s "$BATS_TEST_TMPDIR/stdout") + $(stat -c %s "$BATS_TEST_TMPDIR/stderr"))) = 30 ]
	run bash -c '"$CGSHIM" --output-limit 1000 --fd 3 -- sh -c "for i in 1 2 3 4 5; do printf \$i; printf e >&2; done" 2>&1 3>/dev/null'
	[ "$output" = 1e2e3e4e5e ]
}

@test "output of processes that outlive the program is delivered, until they are killed" {
	shim --output-limit 1M -- sh -c 'setsid sleep 1000 & echo main'
	is verdict ok output_bytes 5 leftover_killed 1
	[ "$output" = main ]
	shim --output-limit 5 --wait-all -- sh -c '(sleep 0.3; echo behind) & exit 0'
	is verdict output-limit exit_code 0
	[ "$output" = behin ]
}

# bats test_tags=native
@test "a reader that goes away is seen by the program, and is no error of ours" {
	run bash -c '"$CGSHIM" --output-limit 1G --output "$BATS_TEST_TMPDIR/r" -- yes | head -c 10; echo "${PIPESTATUS[0]}"'
	[ "${lines[-1]}" = 141 ] # SIGPIPE
	take_result "$BATS_TEST_TMPDIR/r"
	is verdict signaled signal_name SIGPIPE error null
}

# bats test_tags=native
@test "… at once, as without cgshim" {
	requires python3
	# By a pipe, both ends of a FIFO, and a socket: gone before the program runs, and while it waits. It writes once.
	run python3 - "$CGSHIM" "$BATS_TEST_TMPDIR" <<-'EOF2'
		import json, os, signal, socket, subprocess, sys, threading
		cgshim, directory = sys.argv[1:]
		os.mkfifo(directory + "/fifo")
		def ends(kind):
		    if kind == "pipe":
		        return os.pipe()
		    if kind == "socket":
		        ours, theirs = socket.socketpair()
		        return ours.detach(), theirs.detach()
		    reader = os.open(directory + "/fifo", os.O_RDONLY | os.O_NONBLOCK)
		    return reader, os.open(directory + "/fifo", os.O_WRONLY)
		for kind in "pipe", "socket", "fifo":
		    for when in "before", "meanwhile":
		        ours, theirs = ends(kind)
		        if when == "before":
		            os.close(ours)
		        argv = [cgshim, "--output-limit", "1M", "--output", directory + "/r", "--", "sh", "-c", "read go; printf hello; exit 0"]
		        run = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=theirs)
		        os.close(theirs)
		        if when == "meanwhile":
		            os.close(ours)
		        if kind == "fifo": # somebody may come back, and does: it is no end
		            back = os.open(directory + "/fifo", os.O_RDONLY | os.O_NONBLOCK)
		        else: # the relay has time to see it
		            threading.Event().wait(0.2)
		        run.communicate(b"\n")
		        result = json.load(open(directory + "/r"))
		        print(kind, when, run.returncode, result["verdict"], result["signal_name"], result["error"],
		              os.read(back, 9) if kind == "fifo" else "")
	EOF2
	[ "$output" = "pipe before 141 signaled SIGPIPE None 
pipe meanwhile 141 signaled SIGPIPE None 
socket before 141 signaled SIGPIPE None 
socket meanwhile 141 signaled SIGPIPE None 
fifo before 0 ok None None b'hello'
fifo meanwhile 0 ok None None b'hello'" ] || { echo "$output"; false; }
}

# bats test_tags=native
@test "a full disk is reported" {
	requires mount
	mkdir "$BATS_TEST_TMPDIR/full"
	mount -t tmpfs -o size=64k tmpfs "$BATS_TEST_TMPDIR/full"
	shim --output-limit 1M --stdout "$BATS_TEST_TMPDIR/full/out" -- yes
	local size
	size=$(stat -c %s "$BATS_TEST_TMPDIR/full/out")
	umount "$BATS_TEST_TMPDIR/full"
	[ "$size" = 65536 ]
	exits 125
	is verdict error error.step output error.errno ENOSPC signal_name SIGPIPE output_bytes 65536
}

# bats test_tags=native
@test "… also when the program has ended by then, and did not notice" {
	local out
	for out in "/dev/full $BATS_TEST_TMPDIR/err" "$BATS_TEST_TMPDIR/out /dev/full" "/dev/full /dev/full"; do
		shim --output-limit 1M --stdout "${out% *}" --stderr "${out#* }" -- sh -c 'trap "" PIPE; printf hello; printf hello >&2; exit 3'
		exits 125
		is verdict error error.step output error.errno ENOSPC exit_code 3 limits_hit '[]'
	done
	shim --best-effort --output-limit 1M --stdout /dev/full -- printf hello
	exits 125
	is verdict error error.step output error.errno ENOSPC exit_code 0
	# What there is too much of is not only lost.
	shim --output-limit 4 --stdout /dev/full -- sh -c 'trap "" PIPE; printf hello; exit 0'
	exits 125
	is verdict error error.step output error.errno ENOSPC output_bytes 0
}

# bats test_tags=native
@test "… and so is a file size limit of the caller's" {
	run bash -c 'ulimit -f 4; "$CGSHIM" --output-limit 1M --fd 3 -- yes 3>&1 >"$BATS_TEST_TMPDIR/out" 2>/dev/null | cat'
	result=$output
	is verdict error error.step output error.errno EFBIG signal_name SIGPIPE output_bytes 4096
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/out")" = 4096 ]
	# And without the relay it is the program's.
	run bash -c 'ulimit -f 4; "$CGSHIM" --fd 3 -- yes 3>&1 >"$BATS_TEST_TMPDIR/out" 2>/dev/null | cat'
	# shellcheck disable=SC2034 # for is
	result=$output
	is verdict signaled signal_name SIGXFSZ
	run bash -c 'ulimit -f 0; "$CGSHIM" --output "$BATS_TEST_TMPDIR/r" -- true'
	[ "$status" = 125 ]
	[[ $output == *"file too large"* ]]
}

# bats test_tags=native
@test "… which cgshim itself needs little of" {
	requires setpriv
	local user="setpriv --reuid=65534 --regid=65534 --clear-groups"
	run bash -c "ulimit -f 4; $user"' "$CGSHIM" --best-effort --fd 3 -- true 3>&1 >/dev/null | cat'
	result=$output
	is verdict ok
	run bash -c "ulimit -f 0; $user"' "$CGSHIM" --best-effort --fd 3 -- true 3>&1 >/dev/null 2>&1 | cat'
	# shellcheck disable=SC2034 # for is
	result=$output
	is verdict error error.step stage error.errno EFBIG
	holds '.error.hint | contains("ulimit -f")'
}

@test "… and none with CAP_SYS_RESOURCE, and the program has the caller's limit" {
	requires sys_resource
	local parent
	parent=/cgshim-bats-$(printf '%0190d' 0)/$(printf '%0190d' 0) # of which the guardian is told, for each hierarchy
	run bash -c 'ulimit -f 0; "$CGSHIM" --parent "$0" --fd 3 -- sh -c "exit \$(ulimit -Sf)\$(ulimit -Hf)7" 3>&1 >/dev/null | cat' "$parent"
	# shellcheck disable=SC2034 # for is
	result=$output
	is verdict nonzero-exit exit_code 7
	run bash -c 'ulimit -f 0; for i in 1 2 3 4 5 6 7 8; do echo "{\"argv\":[\"sh\",\"-c\",\"exit \$(ulimit -Hf)\"],\"parent\":\"$0\"}"; done | "$CGSHIM" batch --jobs 4 2>/dev/null' "$parent"
	[ "$(jq -r .verdict <<<"$output" | uniq -c | tr -d '\n ')" = 8ok ]
}

# bats test_tags=native
@test "a reader that never reads holds nothing up" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	exec 8<>"$BATS_TEST_TMPDIR/fifo"
	status=0
	timeout 100 "$CGSHIM" --output-limit 1G --wall-time 0.5 --output "$BATS_TEST_TMPDIR/r" -- yes >&8 || status=$?
	exec 8<&-
	[ "$status" = 137 ]
	take_result "$BATS_TEST_TMPDIR/r"
	is verdict wall-time-limit error.step output
}

# bats test_tags=native
@test "… and what it lets go to waste is no success" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	exec 8<>"$BATS_TEST_TMPDIR/fifo"
	head -c 65536 /dev/zero >&8 # it is full
	status=0
	timeout 100 "$CGSHIM" --output-limit 1M --output "$BATS_TEST_TMPDIR/r" -- printf hello >&8 2>/dev/null || status=$?
	exec 8<&-
	[ "$status" = 125 ]
	take_result "$BATS_TEST_TMPDIR/r"
	is verdict error error.step output error.errno null exit_code 0 output_bytes 0
}

# bats test_tags=native
@test "through a pipe it is nearly as fast as without" {
	requires real_cpu python3
	# The best of each, in turns: in GiB/s, and as a share of the same without cgshim.
	python3 - "$CGSHIM" <<-'EOF2'
		import subprocess, sys, time
		def rate(argv):
		    begin = time.perf_counter()
		    run = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
		    subprocess.run(["cat"], stdin=run.stdout, stdout=subprocess.DEVNULL, check=True)
		    run.stdout.close()
		    run.wait()
		    return 2 / (time.perf_counter() - begin)
		program = ["head", "-c", "2G", "/dev/zero"]
		bare = relayed = 0
		for _ in range(5):
		    bare = max(bare, rate(program))
		    relayed = max(relayed, rate([sys.argv[1], "--output-limit", "4G", "--", *program]))
		print("without %.2f GiB/s, with %.2f" % (bare, relayed), file=sys.stderr)
		sys.exit(relayed < bare / 8)
	EOF2
}
