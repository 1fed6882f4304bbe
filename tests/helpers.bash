# Shared by all suites: how to run cgshim, what a test requires, and what must be true after every test.
# shellcheck shell=bash

bats_require_minimum_version 1.5.0

TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
CGSHIM=${CGSHIM:-$TOP/build/cgshim}
PROG=$TOP/build/programs/prog
NOOP=$TOP/build/programs/noop
MIB=$((1024 * 1024))
export CGSHIM PROG NOOP MIB

# Natively a machine has other things to do: each test is apart from them, see there, whoever has started bats; which has only made
# the test's directory so far. tests/suite's machines have nothing but the tests.
if [ -z "${CGSHIM_EMULATED:-}${CGSHIM_APART:-}" ] && [ -n "${BATS_TEST_TMPDIR:-}" ]; then
	rmdir "$BATS_TEST_TMPDIR"
	mapfile -d '' bats <"/proc/$$/cmdline"
	exec "$TOP/tests/apart" "${bats[@]}"
fi

# What was asked of the make that runs the suites is nothing to those in them.
unset MAKEFLAGS MFLAGS MAKELEVEL

# An emulated CPU, or one that is busy, can be late for anything. In tests/suite a test that has failed is tried once more, and says so.
if [ -n "${CGSHIM_EMULATED:-}${CGSHIM_TWICE:-}" ]; then
	export BATS_TEST_RETRIES=1
	[ "${BATS_TEST_TRY_NUMBER:-1}" = 1 ] || echo "# once more: $BATS_TEST_NAME" >&3
fi

# --- capabilities -----------------------------------------------------------------------------------

# mounted PATTERN: whether a file system of that type and options is. No process: they are slow under emulation.
mounted() {
	local mounts
	mapfile -d '' mounts </proc/self/mounts
	[[ ${mounts[0]-} =~ [[:space:]]$1 ]]
}

# has NAME: whether this machine has a capability.
has() {
	case $1 in
	root) [ "$EUID" = 0 ] ;;
	cgroups_v1) mounted 'cgroup [^[:space:]]*[ ,](memory|pids)[, ]' || [ -d /sys/fs/cgroup/memory ] ;;
	cgroups_v2) ! has cgroups_v1 && mounted 'cgroup2 ' ;;
	swap_accounting) has cgroups_v2 || [ -e /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes ] ;;
	sys_resource) (echo -1 >/proc/self/oom_score_adj) 2>/dev/null ;; # the capability, which some containers' root lacks
	two_cpus) [ "$(nproc --all)" -ge 2 ] ;;
	two_cores) [ "$(cat /sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list | sort -u | wc -l)" -ge 2 ] ;;
	loop) [ -c /dev/loop-control ] && losetup --find >/dev/null 2>&1 ;;
	fuse) [ -c /dev/fuse ] ;;
	psi) has cgroups_v1 && [ -e /sys/fs/cgroup/unified/cpu.pressure ] || has cgroups_v2 && [ -e /proc/pressure/cpu ] ;;
	systemd) [ -d /run/systemd/system ] ;;
	alice) id alice >/dev/null 2>&1 && [ -d /run/user/1000 ] ;; # the systemd machine's user
	system_python3) [ -x /usr/bin/python3 ] ;;
	signal_scope) "$CGSHIM" --shield on --fd 3 -- true 3>/dev/null >/dev/null 2>&1 ;; # Landlock's, since Linux 6.12
	user_namespaces) setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user true 2>/dev/null ;; # for users
	make_fifo) make --jobserver-style=fifo --version >/dev/null 2>&1 ;; # since GNU make 4.4
	parallel) parallel --version 2>/dev/null </dev/null | grep -q '^GNU' ;; # moreutils has another one
	real_cpu) [ -z "${CGSHIM_EMULATED:-}" ] ;; # emulation has no absolute times
	python3 | node | perl | podman | docker | slurmd | go | make | setpriv | nohup | mount | strace | mandoc | bwrap) command -v "$1" >/dev/null ;;
	*) echo "has: no such capability: $1" >&2; exit 1 ;;
	esac
}

# requires NAME...: skips the test where one is missing; fails it where $CGSHIM_MUST_HAVE lists it.
requires() {
	# bats has a function of its own called before each command, to tell which one has failed. Under emulation that is most of
	# a test's time, and the second try tells it. (Not above: what a file that is sourced does to that trap is undone.)
	[ -z "${CGSHIM_EMULATED:-}" ] || [ "${BATS_TEST_TRY_NUMBER:-1}" != 1 ] || trap - DEBUG
	local name
	for name in "$@"; do
		has "$name" && continue
		case " ${CGSHIM_MUST_HAVE:-} " in
		*" $name "*) echo "$name is missing, but this machine must have it" >&2; return 1 ;;
		esac
		skip "requires $name"
	done
}

# --- running ----------------------------------------------------------------------------------------

# shim ARG...: runs cgshim, by way of the command $VIA if there is one, with the result on fd 3. Sets $status, $result and
# $output (stdout).
shim() {
	local file=$BATS_TEST_TMPDIR/result out=$BATS_TEST_TMPDIR/stdout
	status=0
	${VIA:-} "$CGSHIM" --fd 3 "$@" 3>"$file" >"$out" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	# shellcheck disable=SC2034 # for the tests
	output=$(<"$out")
	take_result "$file"
}

# take_result FILE: sets $result from a file that must hold one result, and nothing else. No process: they are slow
# under emulation.
take_result() {
	local line rest
	if ! { IFS= read -r line && ! IFS= read -r rest && [ -z "$rest" ]; } <"$1"; then
		echo "not one line:" >&2
		cat "$1" "$BATS_TEST_TMPDIR/stderr" >&2
		return 1
	fi
	result=$line
	[ -z "${CGSHIM_RESULTS:-}" ] || echo "$line" >>"$CGSHIM_RESULTS" # tests/suite holds them against the schema: every key, in order
}

# flatten: sets ${value[PATH]} from $result, by one jq for all questions, and one command: bats looks at each, which is slow
# under emulation.
declare -gA value=() # bats loads this file in a function
flatten() {
	[ -n "$result" ] || { echo "no result" >&2; return 1; }
	[ "$result" != "${flattened:-}" ] || return 0
	local all
	all=$(jq -r '. as $result | [paths | select(all(type == "string")) |
		"[\(join(".") | @sh)]=\(. as $path | $result | getpath($path) | tostring | @sh)"] | join(" ")' <<<"$result")
	value=()
	eval "value=($all)"
	[ ${#value[@]} -gt 0 ] || { echo "no JSON object: $result" >&2; return 1; }
	flattened=$result
}

# field NAME: a value of the result, "null" if it is unknown.
field() { flatten && echo "${value[$1]-null}"; }

# is NAME VALUE...: the result's values are these.
is() {
	flatten || return 1
	while [ $# -gt 0 ]; do
		[ "${value[$1]-null}" = "$2" ] || { echo "$1: want $2, have ${value[$1]-null} in $result" >&2; return 1; }
		shift 2
	done
}

# holds EXPRESSION: a jq expression over the result is true.
holds() { jq -e "$1" <<<"$result" >/dev/null || { echo "false: $1 in $result" >&2; return 1; }; }

# enforced_is JSON: this, beside the shield, is enforced; its keys are sorted. What enforces the shield depends on the kernel.
enforced_is() { holds ".enforced | (.shield | IN(\"landlock\", \"none\")) and del(.shield) == $1"; }

# only_loopback SHIM: with --net none, by SHIM, which is shim or the like, a program has loopback, which works, and nothing else.
only_loopback() {
	"$1" --net none -- cat /proc/net/dev
	is verdict ok enforced.net namespace limits.net none
	[ "$(tail -n +3 <<<"$output" | cut -d: -f1 | tr -d ' ')" = lo ] || { echo "$output" >&2; return 1; }
	requires python3
	"$1" --net none -- python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
client.sendall(b"through")
print(server.accept()[0].recv(10).decode())
try:
    socket.create_connection(("192.0.2.1", 9), timeout=5)
except OSError as e:
    print(e.errno)
'
	[ "$output" = $'through\n101' ] || { echo "$output" >&2; return 1; } # ENETUNREACH
}

# exits STATUS: what cgshim exited with.
exits() { [ "$status" = "$1" ] || { echo "exit status: want $1, have $status: $result" >&2; cat "$BATS_TEST_TMPDIR/stderr" >&2; return 1; }; }

# pause SECONDS: sleeps, without a process for each time, which is slow under emulation.
pause() {
	if [ -z "${never:-}" ]; then # a FIFO that nobody writes to
		[ -p "$BATS_TEST_TMPDIR/.never" ] || mkfifo "$BATS_TEST_TMPDIR/.never"
		exec {never}<>"$BATS_TEST_TMPDIR/.never"
	fi
	read -r -t "$1" -u "$never" || true
}

# eventually COMMAND...: true within a generous bound.
eventually() {
	local i
	for ((i = 0; i < 300; i++)); do
		! "$@" || return 0
		pause 0.1
	done
	echo "never: $*" >&2
	return 1
}

# once_of N EXPRESSION ARG...: shim ARG..., up to N times, until a jq expression over the result is true. It is for what
# takes little time on a machine that has some: one that is busy is late sometimes, and not always.
once_of() {
	local _ runs=$1 expression=$2
	shift 2
	for _ in $(seq "$runs"); do
		shim "$@"
		! holds "$expression" 2>/dev/null || return 0
	done
	holds "$expression"
}

# took SINCE: the seconds since that $EPOCHREALTIME.
took() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }'; }

# alone COMMAND...: the seconds that it takes by itself, now: to compare with, on a machine that may be busy.
alone() {
	local begin=$EPOCHREALTIME
	"$@" >/dev/null
	took "$begin"
}

# less A B: the number A is less than B.
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }' || { echo "$1 is not less than $2" >&2; return 1; }; }

# gone PID: no such process, or only its zombie.
gone() { ! [ -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null; }

# times NATIVE EMULATED: how often to repeat something.
times() { if has real_cpu; then seq "$1"; else seq "$2"; fi; }

# cgroup_file V1CONTROLLER V1FILE V2FILE GROUP: the path of a limit's file.
cgroup_file() {
	if has cgroups_v2; then echo "/sys/fs/cgroup$4/$3"; else echo "/sys/fs/cgroup/$1$4/$2"; fi
}

# roots: of the hierarchies that have controllers, or are cgroup2's.
roots() { awk '$3 ~ /^cgroup/ && $4 !~ /name=/ {print $2}' /proc/self/mounts; }

# make_box UID: a group that is delegated to a user, /cgshim-bats-box, in each hierarchy that can have one. remove_box removes it.
make_box() {
	local dir
	for dir in $(roots); do
		mkdir -p "$dir/cgshim-bats-box/shell"
		! has cgroups_v2 || echo "+memory +pids" >"$dir/cgroup.subtree_control"
		chown -R "$1" "$dir/cgshim-bats-box"
		# A v1 cpuset is empty at first.
		has cgroups_v2 || [ ! -e "$dir/cgshim-bats-box/cpuset.cpus" ] || rmdir "$dir/cgshim-bats-box/shell" "$dir/cgshim-bats-box"
	done
}

# enter_box COMMAND...: runs a command in it.
enter_box() (
	for dir in $(roots); do
		[ ! -d "$dir/cgshim-bats-box/shell" ] || echo 0 >"$dir/cgshim-bats-box/shell/cgroup.procs"
	done
	exec "$@"
)

remove_box() {
	local dir
	for dir in $(roots); do
		[ ! -d "$dir/cgshim-bats-box" ] || find "$dir/cgshim-bats-box" -depth -type d -exec rmdir {} +
	done
}

# --- after every test -------------------------------------------------------------------------------

# ours: cgroups of ours, in any hierarchy: the parent of runs with a name, those of runs without one, and parents that tests name. Of
# those on a machine with others' tests/ours.py sees whose they are, if there are any.
ours() {
	if [ -n "${CGSHIM_EMULATED:-}" ]; then
		find /sys/fs/cgroup -type d \( -name cgshim -o -name 'cgshim-[0-9]*' -o -name 'cgshim-bats*' \) 2>/dev/null || true
	elif some_groups; then
		"$TOP/tests/ours.py" "$groups_before"
	fi
}

# some_groups: whether there is a group that could be ours. On v1 that takes no process.
some_groups() {
	if has cgroups_v2; then
		[ -n "$(find /sys/fs/cgroup -type d -name 'cgshim*' -print -quit)" ]
	else
		compgen -G '/sys/fs/cgroup/*/cgshim*' >/dev/null
	fi
}

# What was there before the test: inodes and paths.
groups_before=
if [ -z "${CGSHIM_EMULATED:-}" ] && [ -n "${BATS_TEST_TMPDIR:-}" ] && some_groups; then
	groups_before=$(find /sys/fs/cgroup -type d \( -name 'cgshim*' -o -path '*/cgshim/*' \) -printf '%i %p\n' 2>/dev/null || true)
fi

# Nothing is waited for: when cgshim has returned, its groups are gone.
teardown() { nothing_left; }

nothing_left() {
	# The root of a v2 hierarchy counts all groups. Where there are none, none is ours, and no process is needed to see that.
	local key left
	if has cgroups_v2; then
		while read -r key left; do
			[ "$key $left" != "nr_descendants 0" ] || return 0
		done </sys/fs/cgroup/cgroup.stat
	fi
	left=$(ours)
	[ -n "$left" ] || return 0
	echo "left behind: $left" >&2
	[ -z "${CGSHIM_EMULATED:-}" ] || clear_away "$left"
	return 1
}

# clear_away GROUPS: so that one test that fails does not fail those that follow, nor its own second try. Only in a machine of our own.
clear_away() {
	local dir
	while read -r dir; do
		find "$dir" -name cgroup.freeze -exec sh -c 'echo 0 >"$1"' sh {} \;
		find "$dir" -name cgroup.kill -exec sh -c 'echo 1 >"$1"' sh {} \;
		sleep 0.5
		find "$dir" -depth -type d -exec rmdir {} +
	done <<<"$1" 2>/dev/null
}
