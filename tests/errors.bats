#!/usr/bin/env bats
# What goes wrong, whose fault it is, and that there is a result all the same.

load helpers

setup() { requires root; }

# bats test_tags=native
@test "whatever is wrong, the result goes where the flags say, and never where those of the program say" {
	local out=$BATS_TEST_TMPDIR/out wrong
	for wrong in --bogus '--bogus 1' '--bogus=1' '--mem 64X' '--mem' '-m 1M --mem 1M'; do
		rm -f "$out"
		# shellcheck disable=SC2086 # two words
		run -125 "$CGSHIM" $wrong --output "$out" --pretty -- true --output "$out.stolen"
		[ "$(head -c 2 "$out")" = "{" ] # --pretty
		[ "$(jq -r .error.step "$out")" = usage ]
		# shellcheck disable=SC2086
		run -125 "$CGSHIM" -fd=3 $wrong -- true --fd 9 3>"$out"
		[ "$(jq -r .error.step "$out")" = usage ]
	done
	run -125 "$CGSHIM" --bogus true --output "$out.stolen" # the word may be the program
	[ ! -e "$out.stolen" ]
}

# bats test_tags=native
@test "exit 137 and SIGKILL are told apart" {
	shim -- sh -c 'exit 137'
	exits 137
	is verdict nonzero-exit exit_code 137 signal null signal_name null
	shim -- sh -c 'kill -9 $$'
	exits 137
	is verdict signaled exit_code null signal 9 signal_name SIGKILL core_dumped false
	shim -- sh -c 'kill -SEGV $$'
	exits 139
	is verdict signaled signal 11 signal_name SIGSEGV
	shim -- true
	exits 0
	is verdict ok exit_code 0
	shim -- sh -c 'exit 3'
	exits 3
	is verdict nonzero-exit exit_code 3
}

# bats test_tags=native
@test "a program that is not there: 127, ENOENT" {
	local prog
	for prog in /nonexistent/prog ./nonexistent cgshim-no-such-program; do
		shim --mem 64M -- "$prog"
		exits 127
		is verdict error error.step exec error.errno ENOENT exit_code null signal null pid null
		grep -q '^cgshim: error: .*no such file' "$BATS_TEST_TMPDIR/stderr"
		grep -q '^cgshim: hint: ' "$BATS_TEST_TMPDIR/stderr"
	done
	shim -- sh -c 'exit 127' # the program's own
	exits 127
	is verdict nonzero-exit error null
}

# bats test_tags=native
@test "a program that can't be executed: 126" {
	shim -- /tmp
	exits 126
	is verdict error error.step exec error.errno EACCES
	echo text >"$BATS_TEST_TMPDIR/text"
	shim -- "$BATS_TEST_TMPDIR/text"
	exits 126
	is error.errno EACCES
	chmod +x "$BATS_TEST_TMPDIR/text"
	shim -- "$BATS_TEST_TMPDIR/text"
	exits 126
	is error.errno ENOEXEC
	printf '#!/nonexistent/interpreter\n' >"$BATS_TEST_TMPDIR/script"
	chmod +x "$BATS_TEST_TMPDIR/script"
	shim -- "$BATS_TEST_TMPDIR/script"
	exits 126 # the file is there
	is error.errno ENOENT
}

# bats test_tags=native
@test "a directory that can't be entered: 125, step chdir" {
	shim --chdir /nonexistent -- true
	exits 125
	is verdict error error.step chdir error.errno ENOENT
}

# usage MESSAGE ARG...: a usage error that says MESSAGE, exit status 125, one result, nothing created. The
# results are looked at by teardown, all at once: a process is slow under emulation.
usage() {
	local message=$1
	shift
	status=0
	"$CGSHIM" --fd 3 "$@" 3>"$BATS_TEST_TMPDIR/usage" 2>/dev/null || status=$?
	if [ "$status" != 125 ] || [ "$(wc -l <"$BATS_TEST_TMPDIR/usage")" != 1 ]; then
		echo "want $message: $status $(cat "$BATS_TEST_TMPDIR/usage")" >&2
		return 1
	fi
	cat "$BATS_TEST_TMPDIR/usage" >>"$BATS_TEST_TMPDIR/usages"
	printf '%s\n' "$message" >>"$BATS_TEST_TMPDIR/usage-messages"
}

teardown() {
	if [ -e "$BATS_TEST_TMPDIR/usages" ]; then
		local wrong
		wrong=$(jq -nr --rawfile messages "$BATS_TEST_TMPDIR/usage-messages" '[$messages | splits("\n")] as $want |
			[inputs] | range(0; length) as $i | .[$i] | select((.verdict == "error" and .error.step == "usage" and
			.cgroup == null and .exit_code == null and (.error.message | contains($want[$i]))) | not) |
			"want \($want[$i]): \(.error)"' "$BATS_TEST_TMPDIR/usages") || return 1
		[ -z "$wrong" ] || { echo "$wrong" >&2; return 1; }
		[ -z "${CGSHIM_RESULTS:-}" ] || cat "$BATS_TEST_TMPDIR/usages" >>"$CGSHIM_RESULTS"
	fi
	nothing_left
}

# bats test_tags=native
@test "bad flags: 125, a message that names flag and value" {
	requires real_cpu # slow under emulation, and the same everywhere
	usage '-bogus' --bogus -- true
	usage 'no program' --mem 64M
	usage 'no program' --
	usage 'no program' -- ''
	local value
	for value in -1 0 64X 1e3 0x10 '' ' 64M' 64M64 NaN 99999999999G 8388608T; do
		usage "--mem \"$value\"" --mem="$value" -- true
		usage "--mem-high \"$value\"" --mem-high="$value" -- true
	done
	usage '--swap "-1"' --mem 1M --swap=-1 -- true
	usage '--swap needs --mem' --swap 1M -- true
	for value in 0 -1 1.5 x 4194305 99999999999999999999; do
		usage "--pids \"$value\"" --pids="$value" -- true
	done
	for value in 0 -1 NaN Inf 0.001 x; do
		usage "--cpus \"$value\"" --cpus="$value" -- true
	done
	for value in 0 10001; do usage "--cpu-weight \"$value\"" --cpu-weight="$value" -- true; done
	for value in 1 262145; do usage "--cpu-shares \"$value\"" --cpu-shares="$value" -- true; done
	usage 'one' --cpu-shares 2 --cpu-weight 2 -- true
	for value in 0 -1s NaN Inf 1e300 5parsecs; do
		usage "--wall-time \"$value\"" --wall-time="$value" -- true
		usage "--cpu-time \"$value\"" --cpu-time="$value" -- true
	done
	usage '--env "novalue"' --env novalue -- true
	for value in '' a/b .. . -x "$(printf 'x%.0s' $(seq 300))" $'a\nb'; do
		usage "--name \"${value//$'\n'/\\n}\"" --name="$value" -- true
	done
	for value in '' relative /a/../b /a// /.; do
		usage "--parent \"$value\"" --parent="$value" -- true
	done
}

# bats test_tags=native
@test "bad values of limits" {
	requires real_cpu # slow under emulation, and the same everywhere
	local value flag file=$BATS_TEST_TMPDIR/file
	for value in '' x 0- -1 1-0 0,,1 ' 0' 0x1 999999 8191; do
		usage "--cpuset-cpus \"$value\"" --cpuset-cpus="$value" -- true
		usage "--cpuset-mems \"$value\"" --cpuset-mems="$value" -- true
	done
	: >"$file"
	for flag in device-read-bps device-write-bps device-read-iops device-write-iops; do
		for value in '' x :1 /dev/null:1 "$file:1" /nonexistent:1 /dev/null: /dev/null:0 /dev/null:-1 /dev/null:NaN; do
			usage "--$flag \"$value\"" "--$flag=$value" -- true
		done
	done
	usage 'is not a block device' --device-read-bps "$file:1M" -- true
	for value in '' nofile nofile= nofile=x nofile=-2 nofile=2:1 nofile=unlimited:1 NOFILE=1 bogus=1 stack=8X nofile=1:2:3 nofile=99999999999999999999; do
		usage "--ulimit \"$value\"" --ulimit="$value" -- true
	done
	for value in 0 -1 x 1e3; do usage "--output-limit \"$value\"" --output-limit="$value" -- true; done
	for value in -1s x NaN; do usage "--grace \"$value\"" --wall-time 1 --grace="$value" -- true; done
	usage '--grace needs' --grace 1s -- true
	for value in '' bridge None; do usage "--net \"$value\"" --net="$value" -- true; done
}

@test "a partition is refused, and the disk named" {
	requires loop
	local disk name
	truncate -s 4M "$BATS_TEST_TMPDIR/disk"
	# A partition table by hand: Linux (83), 2048 sectors from sector 2048 on.
	printf '\0\0\0\0\x83\0\0\0\0\x08\0\0\0\x08\0\0' | dd of="$BATS_TEST_TMPDIR/disk" bs=1 seek=446 conv=notrunc status=none
	printf '\x55\xaa' | dd of="$BATS_TEST_TMPDIR/disk" bs=1 seek=510 conv=notrunc status=none
	disk=$(losetup --find --show --partscan "$BATS_TEST_TMPDIR/disk")
	name=${disk##*/}
	if ! [ -e "/sys/block/$name/${name}p1" ]; then
		losetup -d "$disk"
		[ -z "${CGSHIM_EMULATED:-}" ] # the VM's kernel can
		skip "requires a kernel that reads partition tables"
	fi
	# Its device file is udev's, or nobody's, to make.
	# shellcheck disable=SC2046 # two numbers
	mknod "$BATS_TEST_TMPDIR/part" b $(tr : ' ' <"/sys/block/$name/${name}p1/dev")
	usage "is a partition; use $disk" --device-read-bps "$BATS_TEST_TMPDIR/part:1M" -- true || status=failed
	losetup -d "$disk"
	[ "$status" = 125 ]
}

# bats test_tags=native
@test "bad values of what the program is given" {
	requires real_cpu # slow under emulation, and the same everywhere
	local value
	for value in '' : :daemon nobody: no-such-user nobody:no-such-group 4294967296 -1 1:-1 54321; do
		usage "--user \"$value\"" --user="$value" -- true
	done
	usage 'give a group' --user 54321 -- true
	for value in '' x -1 0 2 99999 4294967299 3.5; do usage "--keep-fd \"$value\"" --keep-fd="$value" -- true; done
	usage '--keep-fd "3": the result goes there' --keep-fd 3 -- true
	usage '--stdin "/nonexistent": no such file' --stdin /nonexistent -- true
	usage '--stdout "/nonexistent/x": no such file' --stdout /nonexistent/x -- true
	usage '--stderr "/": is a directory' --stderr / -- true
	usage '--stdin ""' --stdin= -- true
	for value in 0 999us -1s x NaN; do usage "--sample \"$value\"" --sample="$value" -- true; done
	run --separate-stderr "$CGSHIM" --events --pretty -- true
	[ "$status" = 125 ]
	[[ $stderr == *"--events and --pretty"* ]]
	run --separate-stderr "$CGSHIM" --events --output "$BATS_TEST_TMPDIR/r" -- true
	[ "$status" = 125 ]
	[[ $stderr == *"--events and --output"* ]]
	# Nothing is made before everything is checked.
	usage '--user' --stdout "$BATS_TEST_TMPDIR/made" --user no-such-user -- true
	[ ! -e "$BATS_TEST_TMPDIR/made" ]
}

# bats test_tags=native
@test "100,000 arguments are a run like any other, with one result" {
	local many
	mapfile -t many < <(seq 100000)
	shim -- sh -c 'echo $#' "${many[@]}"
	exits 0
	is verdict ok
	[ "$output" = 99999 ]
	holds '.argv_truncated and (.argv | length > 1000 and .[:4] == ["sh", "-c", "echo $#", "1"])'
}

# bats test_tags=native
@test "the result finds its descriptor even if a flag before it is bad" {
	run --separate-stderr bash -c '"$CGSHIM" --bogus --fd 3 -- true 3>&1 >/dev/null'
	[ "$status" = 125 ]
	[ "$(jq -r .error.step <<<"$output")" = usage ]
	[[ $stderr == "cgshim: error: "* ]]
}

# bats test_tags=native
@test "without --fd the result is all there is on stderr; CGSHIM_FD moves it" {
	run --separate-stderr "$CGSHIM" -- true
	[ "$output" = "" ]
	[ "$(jq -r .verdict <<<"$stderr")" = ok ]
	run --separate-stderr env CGSHIM_FD=1 "$CGSHIM" --stdout /dev/null -- true
	[ "$(jq -r .verdict <<<"$output")" = ok ]
	[ "$stderr" = "" ]
	run --separate-stderr "$CGSHIM" --pretty --fd 1 --stdout /dev/null -- true
	[ "$(wc -l <<<"$output")" -gt 30 ]
	[ "$(jq -r .verdict <<<"$output")" = ok ]
}

# bats test_tags=native
@test "a descriptor that is closed, read-only or no number is refused, and nothing is run" {
	local bad
	for bad in '--fd 3 3>&-' '--fd 3 3</dev/null' '--fd 99999' '--fd -1' '--fd x' '--fd 4294967298'; do
		run --separate-stderr bash -c '"$CGSHIM" '"$bad"' -- touch "$BATS_TEST_TMPDIR/ran" 4>&-'
		echo "$bad: $status $stderr" >&2
		[ "$status" = 125 ]
		[ "$(jq -r .verdict <<<"$stderr")" = error ]
		[[ $(jq -r .error.message <<<"$stderr") == *--fd* ]]
	done
	[ ! -e "$BATS_TEST_TMPDIR/ran" ]
}

# bats test_tags=native
@test "a result descriptor that the program shares is refused, whatever its number, and nothing is run" {
	cd "$BATS_TEST_TMPDIR" || return 1
	mkfifo fifo
	exec 5<>fifo # what is written to it stays until it is read
	local bad
	for bad in '"$CGSHIM" --fd 1 -- touch ran | cat' '"$CGSHIM" --fd 3 -- touch ran 3>&1 | cat' \
		'CGSHIM_FD=3 "$CGSHIM" -- touch ran 3>&1 | cat' '"$CGSHIM" --fd 2 -- touch ran 2>&1 >/dev/null | cat' \
		'"$CGSHIM" --fd 3 --stdout /dev/null -- touch ran 3>&1 2>&1 | cat' '"$CGSHIM" --fd 1 --stdout /dev/stderr -- touch ran 2>&1 | cat' \
		'"$CGSHIM" --fd 3 -- touch ran 3>>file >>file; cat file' '"$CGSHIM" --fd 3 --stderr file -- touch ran 3>>file; cat file' \
		'"$CGSHIM" --fd 3 --keep-fd 4 -- touch ran 4>&1 3>&1 >/dev/null | cat' '"$CGSHIM" --fd 3 --stdin fifo -- touch ran 3<>fifo; timeout 10 head -n 1 <&5' \
		'"$CGSHIM" --fd 3 --output-limit 1M -- touch ran 3>&1 | cat' '"$CGSHIM" --output fifo -- touch ran <>fifo; timeout 10 head -n 1 <&5'; do
		rm -f file
		run --separate-stderr bash -c "$bad"
		echo "$bad: ${output: -400}" >&2
		[ "$(grep '^{' <<<"$output" | jq -r '.verdict + " " + .error.step')" = "error usage" ]
		[[ $(grep '^{' <<<"$output" | jq -r .error.message) == *"could forge"* ]]
	done
	exec 5<&-
	[ ! -e ran ]
	# Nobody is misled by a terminal or /dev/null, and what is standard error's by default stays.
	local good
	: >file
	for good in '--fd 1 --stdout /dev/stderr -- true' '--fd 3 -- true 3>/dev/null >/dev/null 2>&1' '-- true 2>&1' '--fd 1 --stdout /dev/null -- true' \
		'--fd 1 --stdin file --stdout file --stderr file -- true' '--fd 3 --stdin file -- true 3>>file' '--output new --stdout /dev/null -- true'; do
		bash -c "\"\$CGSHIM\" $good" >out 2>err || { echo "$good: $(cat out err)" >&2; return 1; }
	done
}

# bats test_tags=native
@test "--output is written whole or not at all" {
	local file=$BATS_TEST_TMPDIR/out
	echo old >"$file"
	"$CGSHIM" --output "$file" -- true
	take_result "$file"
	is verdict ok
	[ "$(echo "$file"*)" = "$file" ] # no temporary file
	run --separate-stderr "$CGSHIM" --output /nonexistent/out -- touch "$BATS_TEST_TMPDIR/ran"
	[ "$status" = 125 ]
	[ ! -e "$BATS_TEST_TMPDIR/ran" ] # refused before anything ran
	run "$CGSHIM" --output /dev/null -- true
	[ "$status" = 0 ]
	[ -c /dev/null ]
	run --separate-stderr "$CGSHIM" --output /dev/full -- true
	[ "$status" = 125 ]
	[[ $stderr == *"no space"* ]]
}

# bats test_tags=native
@test "a full disk: the old file stays, the result goes to stderr" {
	local disk=$BATS_TEST_TMPDIR/disk
	mkdir "$disk"
	mount -t tmpfs -o size=8k tmpfs "$disk" # one page for the root, one for a file
	echo old >"$disk/out"
	head -c 4096 /dev/zero >"$disk/rest" || true
	run --separate-stderr "$CGSHIM" --output "$disk/out" -- true
	local left
	left=$(cd "$disk" && echo *)
	local content
	content=$(cat "$disk/out")
	umount "$disk"
	[ "$status" = 125 ]
	[ "$content" = old ]
	[ "$left" = "out rest" ]
	[ "$(tail -n 1 <<<"$stderr" | jq -r .verdict)" = ok ]
}

# bats test_tags=native
@test "a reader that is gone: no hang, no signal, everything cleaned up" {
	run bash -c '"$CGSHIM" --fd 3 -- sleep 0.2 3> >(exec true); echo $?'
	[ "$output" = 125 ] || [[ $output == *125 ]]
}

# bats test_tags=native
@test "a reader that never reads: the run ends, and cgshim too" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	exec 8<>"$BATS_TEST_TMPDIR/fifo"
	dd if=/dev/zero of="$BATS_TEST_TMPDIR/fifo" bs=4096 count=64 oflag=nonblock 2>/dev/null || true # until it is full
	status=0
	timeout 60 "$CGSHIM" --fd 8 -- touch "$BATS_TEST_TMPDIR/ran" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	exec 8<&-
	[ "$status" = 125 ]
	[ -e "$BATS_TEST_TMPDIR/ran" ]
	grep -q 'nobody reads it' "$BATS_TEST_TMPDIR/stderr"
}

@test "a parent with processes of its own can't have limited children" {
	requires cgroups_v2
	mkdir /sys/fs/cgroup/cgshim-bats-busy
	sleep 1000 3>&- &
	local pid=$!
	echo "$pid" >/sys/fs/cgroup/cgshim-bats-busy/cgroup.procs
	shim --parent /cgshim-bats-busy --mem 64M -- true
	local limited=$result
	shim --parent /cgshim-bats-busy -- true # what is wanted for its figures only is left out
	kill "$pid"
	eventually rmdir /sys/fs/cgroup/cgshim-bats-busy 2>/dev/null
	exits 0
	is verdict ok peak_memory_bytes null pids_peak null
	holds '.cpu_seconds > 0'
	result=$limited
	is verdict error error.step cgroup
	[[ $(field error.hint) == *--parent* ]]
}

@test "without root the error says what is missing, and what to do" {
	requires setpriv
	run --separate-stderr setpriv --reuid 65534 --regid 65534 --clear-groups "$CGSHIM" --mem 64M -- true
	[ "$status" = 125 ]
	[ "$(jq -r .error.step <<<"$stderr")" = cgroup ]
	[ "$(jq -r .error.errno <<<"$stderr")" = EACCES ]
	[[ $(jq -r .error.hint <<<"$stderr") == *root* ]]
}

# Regression: the Go runtime ended cgshim with a trace, and there was no result.
# bats test_tags=native
@test "a resource limit of the caller's that leaves cgshim too little is an error, before anything is created" {
	requires setpriv real_cpu # how much is too little depends on the number of CPUs
	local limit data size told=0 more copy user=$((1000000 + SRANDOM % 1000000000)) # whose processes are all ours
	copy=$(mktemp /tmp/cgshim-bats-limits.XXXXXX) # where every user may go
	install -m 755 "$CGSHIM" "$copy"
	for limit in 10 15; do
		result=$(setpriv --reuid $user --regid $user --clear-groups prlimit --nproc=$limit "$copy" --best-effort -- true 2>&1) && status=0 || status=$?
		exits 125
		is verdict error error.step threads error.errno EAGAIN cgroup null
		holds '.error.hint | test("ulimit -u")'
	done
	result=$(setpriv --reuid $user --regid $user --clear-groups prlimit --nproc=40 "$copy" --best-effort -- true 2>&1) && status=0 || status=$?
	is verdict ok
	rm "$copy"
	"$CGSHIM" --fd 3 -- sleep 1000 3>/dev/null &
	eventually pgrep -P $! -x sleep >/dev/null
	data=$(awk '/^VmData/ { print $2 * 1024 }' /proc/$!/status)
	size=$(awk '/^VmSize/ { print $2 * 1024 }' /proc/$!/status)
	kill $!
	wait $! || true
	# With the least of them the runtime does not get as far as to tell.
	for more in -4 -2 0 2 4 6 8 10 12; do
		for limit in --data=$((data + more * MIB)) --as=$((size + more * MIB)); do
			result=$(prlimit $limit "$CGSHIM" --mem 64M -- true 2>&1) && status=0 || status=$?
			[[ $result == *'"step":"memory","errno":"ENOMEM"'*'ulimit -v'* && $status = 125 ]] || continue
			is verdict error cgroup null
			told=$((told + 1))
		done
	done
	echo "told $told times"
	[ $told -ge 4 ]
	for limit in --data=$((data + 64 * MIB)) --as=$((size + 128 * MIB)); do
		VIA="prlimit $limit" shim --mem 64M -- true
		is verdict ok
	done
}
