#!/usr/bin/env bats
# What a run leaves: nothing, however it ends, and whoever is killed.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

setup() { requires root; }

# all_gone PID...: none of them is there any more.
all_gone() {
	local pid
	for pid; do gone "$pid" || return 1; done
}

# start ARG...: cgshim in the background, with its pid in $shim; the program says in $out when it is ready.
start() {
	out=$BATS_TEST_TMPDIR/out
	: >"$out"
	"$CGSHIM" --output "$BATS_TEST_TMPDIR/result" "$@" >"$out" 2>/dev/null 3>&- &
	shim=$!
	eventually grep -q ready "$out"
}

guardian() { pgrep -P "$1" -x cg-guardian; }

clean() { nothing_left >/dev/null 2>&1; }

# A daemon: in a session of its own, a child of nobody. The group has it when its parent's parent goes on.
DAEMON='daemon() { sh -c "setsid sleep 1000 >/dev/null 2>&1 & echo \$!"; }'

@test "daemons end with the run, and are counted" {
	shim -- sh -c "$DAEMON; daemon; daemon; daemon; exit 3"
	exits 3
	is leftover_killed 3 verdict nonzero-exit
	# shellcheck disable=SC2086 # pids
	all_gone $output
}

@test "processes that ignore signals, or are stopped, end too" {
	shim -- sh -c '
		trap "" TERM INT HUP QUIT
		sleep 1000 & a=$!
		sleep 1000 & b=$!
		kill -STOP $b
		echo $a $b'
	is leftover_killed 2
	# shellcheck disable=SC2086
	all_gone $output
}

@test "a process that is traced ends, and so does its tracer" {
	requires strace
	shim --wall-time 20 -- sh -c 'sleep 1000 & strace -qq -o /dev/null -p $! & echo $! $!; sleep 0.5; exit 0'
	is verdict ok leftover_killed 2
	# shellcheck disable=SC2086
	all_gone $output
}

# leaves PROGRAM: a program of root's that leaves every group of its run first.
leaves() { sh -c 'for procs in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs ! -path "*/cgroup/*/*/*"); do
	echo $$ >"$procs"; done 2>/dev/null; exec "$@"' sh "$@"; }

@test "a main program that has left its groups ends at the limit all the same" {
	export -f leaves
	shim --wall-time 0.5 -- bash -c 'leaves sleep 100'
	is verdict wall-time-limit signal 9
	[ "$(jq '.wall_seconds < 30' <<<"$result")" = true ]
}

@test "a fork bomb ends at the time limit" {
	shim --pids 50 --wall-time 1 -- bash -c 'b() { b & b & wait; }; b 2>/dev/null'
	is verdict wall-time-limit
	holds '.pids_denied > 0 and .teardown_seconds < 10'
}

@test "… and hundreds of processes at once" {
	local n
	n=$(has real_cpu && echo 1000 || echo 150)
	shim -- "$PROG" forks "$n"
	[ "$output" = "$n -" ]
	is verdict ok leftover_killed "$n"
}

@test "… with hardly a descriptor to spare" {
	local n
	n=$(has real_cpu && echo 1000 || echo 150)
	# shellcheck disable=SC2016
	VIA="prlimit --nofile=36" shim --wall-time 3 -- sh -c '"$0" forks "$1"; exec sleep 1000' "$PROG" "$n"
	is verdict wall-time-limit error null
}

@test "groups that the program makes are removed, whatever it has done to them" {
	# In every directory of its own: sub-groups with a process each, one of them frozen where that is possible,
	# and no permissions on any.
	shim --name cgshim-bats-sub --mem 64M --wall-time 5 -- sh -c '
		for d in /sys/fs/cgroup/cgshim/cgshim-bats-sub /sys/fs/cgroup/*/cgshim/cgshim-bats-sub; do
			[ -d "$d" ] || continue
			mkdir -p "$d/a/b" || exit 1
			sleep 1000 & echo $! >"$d/a/b/cgroup.procs"
			[ ! -e "$d/a/cgroup.freeze" ] || echo 1 >"$d/a/cgroup.freeze"
			chmod 000 "$d/a/b" "$d/a"
		done'
	exits 0
	is verdict ok
	holds '.leftover_killed >= 1 or .leftover_killed == null'
}

# bats test_tags=native
@test "what root's program has put into a frozen freezer group dies there, and the group stays frozen" {
	requires cgroups_v1
	local group=/sys/fs/cgroup/freezer/cgshim-bats-frozen freeze
	mkdir $group
	freeze='echo FROZEN >'$group'/freezer.state; until grep -q FROZEN '$group'/freezer.state; do sleep 0.01; done'
	# The program itself, and then a child of its own.
	shim --wall-time 1 -- sh -c "echo 0 >$group/tasks; ($freeze) & exec sleep 1000"
	is verdict wall-time-limit error null
	grep -q FROZEN $group/freezer.state
	echo THAWED >$group/freezer.state
	shim -- sh -c "sleep 1000 & echo \$! >$group/tasks; $freeze"
	is verdict ok leftover_killed 1 error null
	grep -q FROZEN $group/freezer.state
	echo THAWED >$group/freezer.state
	result=$(printf '{"argv":["sh","-c","%s"]}' "sleep 1000 & echo \$! >$group/tasks; $freeze" | "$CGSHIM" batch)
	is verdict ok leftover_killed 1 error null
	grep -q FROZEN $group/freezer.state
	echo THAWED >$group/freezer.state
	rmdir $group
}

# bats test_tags=native,slow
@test "what does not die is an error after ten seconds, and is left to gc" {
	requires cgroups_v1
	# There our own group would be frozen, too.
	local parent=/sys/fs/cgroup/freezer/cgshim-bats-frozen
	mkdir $parent
	shim --parent /cgshim-bats-frozen --wall-time 0.3 -- sh -c "
		echo 0 >$parent/tasks
		(sleep 0.1; echo FROZEN) >$parent/freezer.state &
		exec sleep 1000"
	local frozen=$result code=$status
	echo THAWED >$parent/freezer.state
	eventually sweeps
	! [ -e $parent ] || eventually rmdir $parent
	# shellcheck disable=SC2034
	result=$frozen
	[ "$code" = 125 ]
	is verdict error error.step kill
	holds '.error.hint | test("cgshim gc")'
}

sweeps() { "$CGSHIM" gc --parent /cgshim-bats-frozen >/dev/null 2>&1 && ! [ -d /sys/fs/cgroup/memory/cgshim-bats-frozen ]; }

@test "kill -9 of cgshim: within a second everything is gone, daemons too" {
	local pids begin user _ soon
	for user in "" "--user 65534:65534"; do
		soon=
		for _ in 1 2 3 4 5; do # a busy machine is late sometimes
			# shellcheck disable=SC2086
			start $user --mem 64M -- sh -c "$DAEMON; daemon; daemon; sleep 1000 & echo \$! \$\$; echo ready; wait"
			pids=$(grep -v ready "$out")
			begin=$EPOCHREALTIME
			kill -9 "$shim"
			# shellcheck disable=SC2086
			eventually all_gone $pids
			eventually clean
			[ ! -s "$BATS_TEST_TMPDIR/result" ] # it could tell nobody
			if ! has real_cpu || less "$(took "$begin")" 1; then
				soon=yes
				break
			fi
		done
		[ -n "$soon" ]
	done
}

# bats test_tags=slow
@test "… at any moment" {
	requires python3
	BEFORE=$groups_before python3 - "$CGSHIM" "$(has real_cpu && echo 100 || echo 12)" "$(has real_cpu && echo 0.008 || echo 0.15)" "$TOP/tests" <<-'EOF2'
		import os, random, signal, subprocess, sys, time
		sys.path.append(sys.argv[4])
		sys.dont_write_bytecode = True
		import ours
		before = ours.snapshot(os.environ["BEFORE"].splitlines())
		def left():
		    return ours.left(before) + [pid for pid in os.listdir("/proc") if pid.isdigit() and line(pid) == b"sleep\x001234567\x00"]
		def line(pid):
		    try:
		        return open(f"/proc/{pid}/cmdline", "rb").read()
		    except OSError:
		        return b""
		for i in range(int(sys.argv[2])):
		    run = subprocess.Popen([sys.argv[1], "--mem", "64M", "--output", "/dev/null", "--", "sh", "-c", "setsid sleep 1234567 & sleep 1234567"], stderr=subprocess.DEVNULL, start_new_session=True)
		    delay = random.random() * float(sys.argv[3])
		    time.sleep(delay)
		    (os.killpg if i % 2 else os.kill)(run.pid, signal.SIGKILL)
		    run.wait()
		    end = time.monotonic() + 20
		    while left():
		        if time.monotonic() > end:
		            sys.exit(f"killed after {delay} s: {left()}")
		        time.sleep(0.01)
	EOF2
}

@test "… with its whole process group" {
	out=$BATS_TEST_TMPDIR/out
	setsid "$CGSHIM" --output /dev/null -- sh -c 'setsid sleep 1000 & echo $! $PPID ready; wait' >"$out" 2>/dev/null 3>&- &
	eventually grep -q ready "$out"
	local daemon shim
	read -r daemon shim _ <"$out"
	kill -9 "-$shim"
	eventually all_gone "$daemon" "$shim"
	eventually clean
}

@test "… and nobody waits for its pipes longer than the program lives" {
	start -- sh -c 'setsid sleep 1000 & echo $!; echo ready; wait'
	"$CGSHIM" --output /dev/null -- sh -c 'echo $PPID >"$0"; setsid sleep 1000 & wait' "$BATS_TEST_TMPDIR/pid" 3>&- 2>/dev/null | cat >"$BATS_TEST_TMPDIR/end" 3>&- &
	local reader=$!
	eventually test -s "$BATS_TEST_TMPDIR/pid"
	kill -9 "$(cat "$BATS_TEST_TMPDIR/pid")"
	eventually gone "$reader"
	kill "$shim"
	wait "$shim" || true
}

@test "the guardian has nothing, costs nothing, and goes with the run" {
	start -- sh -c 'echo ready; exec sleep 1000'
	local pid
	pid=$(guardian "$shim")
	# But for the socket that tells it, the file with the will, and, where there is that, what it kills with at once.
	[ "$(readlink "/proc/$pid"/fd/* | grep -vc '/cgroup\.kill$')" = 2 ]
	readlink "/proc/$pid"/fd/* | grep -q "^socket:"
	readlink "/proc/$pid"/fd/* | grep -q "^/memfd:"
	[ "$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")" -lt 1024 ]
	[ "$(ps -o sid= -p "$pid" | tr -d ' ')" = "$pid" ]
	kill "$shim"
	wait "$shim" || true
	gone "$pid"
	[ ! -e "/proc/$pid" ] # no zombie either
}

@test "both killed: gc cleans up, and names the group; a run that lives stays" {
	start -- sh -c 'echo ready; setsid sleep 1000 & echo $!; wait'
	local dead=$shim
	eventually grep -q '[0-9]' "$out"
	local pid
	pid=$(grep -v ready "$out")
	start --name cgshim-bats-alive -- sh -c 'echo ready; exec sleep 1000'
	kill -9 "$(guardian "$dead")"
	kill -9 "$dead"
	run "$CGSHIM" gc
	[ "$status" = 0 ]
	[[ $output =~ ^/cgshim-$dead-[0-9a-f]{8}$ ]]
	gone "$pid"
	kill -0 "$shim"
	# The next time it is a run that does it.
	local live=$shim
	start -- sh -c 'echo ready; setsid sleep 1000 & echo $!; wait'
	pid=$(eventually grep -v ready "$out")
	kill -9 "$(guardian "$shim")"
	kill -9 "$shim"
	shim -- sleep 0.5
	gone "$pid"
	kill -0 "$live"
	kill "$live"
	wait "$live" || true
	run "$CGSHIM" gc --parent /cgshim-bats-none
	[ "$status" = 0 ]
	[ "$output" = "" ]
	run "$CGSHIM" gc everything
	[ "$status" = 125 ]
}

@test "two runs share nothing" {
	local other held=$BATS_TEST_TMPDIR/held
	mkfifo "$held"
	start -- sh -c 'echo ready; read -r _ <"$0"' "$held"
	other=$shim
	shim --mem 16M -- "$PROG" touch $((64 * MIB))
	is verdict memory-limit limits_hit '["memory"]'
	holds '.oom_kills >= 1'
	echo >"$held"
	wait "$other"
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict ok oom_kills 0 limits_hit '[]'
	shim --mem 64M -- "$NOOP"
	is verdict ok oom_kills 0
}

@test "a group that is there already is refused, frozen or not, and stays as it is" {
	local dir
	dir=$(cgroup_file unified "" "" /cgshim-bats-there)
	mkdir "$dir"
	sleep 1000 3>&- &
	local pid=$!
	echo "$pid" >"$dir/cgroup.procs"
	echo 1 >"$dir/cgroup.freeze"
	shim --parent / --name cgshim-bats-there -- true
	local refused=$status
	[ "$(cat "$dir/cgroup.procs")" = "$pid" ]
	grep -q 'frozen 1' "$dir/cgroup.events"
	echo 0 >"$dir/cgroup.freeze"
	kill -9 "$pid"
	eventually rmdir "$dir"
	[ "$refused" = 125 ]
	is verdict error error.step cgroup error.errno EEXIST
}

@test "another user's program can do nothing to cgshim, its groups or its result" {
	requires system_python3 # one in root's home is not for others
	shim --user 65534:65534 --name cgshim-bats-jail --mem 64M --pids 20 -- /usr/bin/python3 -c '
import ctypes, glob, os, signal
shim = os.getppid()
def allowed(what):
    try:
        what()
        return True
    except OSError:
        return False
def guardian():
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and open(f"/proc/{p}/stat").read().split()[1] == "(cg-guardian)"][0]
def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) != 0: # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
def write(path):
    os.close(os.open(path, os.O_WRONLY))
groups = glob.glob("/sys/fs/cgroup/**/cgshim-bats-jail", recursive=True) or ["none"]
tries = {"kill": lambda: os.kill(shim, signal.SIGTERM), "kill guardian": lambda: os.kill(guardian(), signal.SIGKILL),
         "fds": lambda: os.listdir(f"/proc/{shim}/fd"), "guardian fds": lambda: os.listdir(f"/proc/{guardian()}/fd"),
         "mem": lambda: open(f"/proc/{shim}/mem", "rb"), "trace": lambda: trace(shim), "trace guardian": lambda: trace(guardian())}
for group in groups:
    for name in os.listdir(group):
        tries[group + "/" + name] = lambda path=group + "/" + name: write(path)
    tries[group + " mkdir"] = lambda group=group: os.mkdir(group + "/x")
    for name in ("cgroup.procs", "tasks"):
        parent = os.path.dirname(group) + "/" + name
        if os.path.exists(parent):
            tries[parent] = lambda parent=parent: write(parent)
print(len(tries) > 20, [name for name, what in tries.items() if allowed(what)])'
	is verdict ok
	[ "$output" = "True []" ]
}

# bats test_tags=native
@test "a caller that is killed does not end the run" {
	sh -c '"$CGSHIM" --output "$0" -- sh -c "sleep 0.5; exit 5" & echo $! >"$0.pid"; wait' "$BATS_TEST_TMPDIR/result" 3>&- &
	local caller=$! pid
	eventually test -s "$BATS_TEST_TMPDIR/result.pid"
	pid=$(cat "$BATS_TEST_TMPDIR/result.pid")
	kill -9 "$caller"
	eventually gone "$pid"
	take_result "$BATS_TEST_TMPDIR/result"
	is exit_code 5
}
