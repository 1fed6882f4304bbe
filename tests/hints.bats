#!/usr/bin/env bats
# What an error says is so, and what its hint says helps.
# shellcheck disable=SC2030,SC2031 # each test has a result of its own

load helpers

setup() {
	requires root
	cd "$BATS_TEST_TMPDIR" || return 1
}

# hinted WORD...: each is in the hint.
hinted() {
	local word
	for word in "$@"; do
		[[ $(field error.hint) == *"$word"* ]] || { echo "no $word in: $(field error.hint)" >&2; return 1; }
	done
}

# answer REQUEST: sets $result to what a batch answers.
answer() {
	"$CGSHIM" batch <<<"$1" >answer 2>"$BATS_TEST_TMPDIR/stderr" || { cat "$BATS_TEST_TMPDIR/stderr" >&2; return 1; }
	result=$(<answer)
}

# every_group PATH: makes it in every hierarchy; no_group removes it.
every_group() { for mount in $(mounts); do mkdir "$mount$1"; done; }
no_group() { for mount in $(mounts); do [ ! -e "$mount$1" ] || eventually rmdir "$mount$1" 2>/dev/null; done; }

teardown() {
	no_group /cgshim-bats-home # of a test that has failed
	nothing_left
}

mounts() { awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts | sort -u; }

# bats test_tags=native
@test "a program that is still open for writing is waited for, but not in its wall time" {
	local _ apart=0
	cp "$NOOP" busy
	for _ in 1 2 3 4 5 6; do
		rm -f open
		(exec 8>>busy && touch open && exec sleep 0.05) &
		eventually [ -e open ]
		shim --wall-time 20 -- ./busy
		wait $!
		exits 0
		is verdict ok
		# The 50 ms, or what was left of them, are in the one and not in the other; but a busy machine adds to both.
		! holds '.wall_seconds < .setup_seconds or .setup_seconds < 0.02' 2>/dev/null || apart=$((apart + 1))
	done
	! has real_cpu || [ $apart -ge 2 ]
	exec 8>>busy
	shim -- ./busy
	local run=$result code=$status
	answer '{"argv":["./busy"]}'
	exec 8>&-
	is error.step exec error.errno ETXTBSY
	hinted 'open for writing'
	result=$run
	[ "$code" = 126 ]
	is verdict error error.errno ETXTBSY wall_seconds null
	hinted 'open for writing'
	answer '{"argv":["./busy"]}'
	is verdict ok
}

# bats test_tags=native
@test "an interpreter or a loader that is not there is named" {
	printf '#!/nonexistent/interpreter -x\n' >missing
	printf '#! \t/bin/sh\r\necho\r\n' >dos
	printf '#!%s/missing\n' "$PWD" >nested
	chmod +x missing dos nested
	shim -- ./missing
	exits 126
	is error.errno ENOENT
	hinted '"./missing" is there' '"/nonexistent/interpreter"'
	shim -- ./dos
	exits 126
	is error.errno ENOENT
	hinted 'carriage return' '"/bin/sh\r"' 'sed -i'
	sed -i 's/\r$//' dos # as it says
	shim -- ./dos
	exits 0
	shim --chdir / -- "$PWD/nested"
	hinted '"/nonexistent/interpreter"'
	mkdir bin
	mv missing bin/
	shim --chdir "$PWD/bin" --env PATH=/nowhere:. -- missing
	hinted '/bin/missing" is there'
	answer '{"argv":["./bin/missing"]}'
	hinted '"/nonexistent/interpreter"'
}

# bats test_tags=native
@test "a binary without its loader names it" {
	requires python3
	# The binary's loader is called something else from now on.
	python3 - "$(command -v cat)" other <<-'PYTHON'
		import struct, sys
		data = bytearray(open(sys.argv[1], "rb").read())
		offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
		for i in range(count):
		    kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", data, offset + i * size)
		    if kind == 3:
		        data[at:at + length] = b"/no/loader".ljust(length, b"\0")
		        open(sys.argv[2], "wb").write(data)
	PYTHON
	[ -e other ] || skip "requires a dynamic /bin/cat"
	chmod +x other
	shim -- ./other
	exits 126
	is error.errno ENOENT
	hinted 'dynamic loader "/no/loader"'
}

# bats test_tags=native
@test "what can't be executed is named: text, an empty file, another machine's, Windows'" {
	printf 'echo hello\n' >text
	printf '\xef\xbb\xbf#!/bin/sh\n' >mark
	printf 'MZ\x90\0\3\0\0\0' >windows
	: >empty
	cp "$NOOP" other
	printf '\xff\x7f' | dd of=other bs=1 seek=18 conv=notrunc status=none # e_machine
	chmod +x text mark windows empty other
	local file word
	while read -r file word; do
		shim -- "./$file"
		exits 126
		is error.step exec error.errno ENOEXEC
		hinted "\"./$file\"" "$word"
	done <<-'TABLE'
		text without a #! line
		mark byte order mark
		windows Windows
		empty is empty
		other another machine
	TABLE
	answer '{"argv":["./text"]}'
	hinted 'without a #! line'
}

# bats test_tags=native
@test "what may not be executed: a directory, no x, noexec, or not by that user" {
	mkdir dir noexec closed
	cp "$NOOP" plain
	chmod -x plain
	shim -- ./dir
	exits 126
	hinted 'is a directory'
	shim -- ./plain
	hinted 'chmod +x'
	mount -t tmpfs -o noexec tmpfs noexec
	cp "$NOOP" noexec/
	shim -- ./noexec/noop
	umount noexec
	is error.errno EACCES
	hinted 'mounted noexec'
	cp "$NOOP" closed/
	chmod 700 closed
	shim --user 65534:65534 -- ./closed/noop
	is error.errno EACCES
	hinted 'user 65534'
}

# without_override COMMAND...: as a root that file permissions bind.
without_override() { setpriv --bounding-set=-dac_override,-dac_read_search "$@"; }

# home_of_user: a directory of user 65534's that is closed to others, with a program in it, and a parent for its runs.
home_of_user() {
	mkdir home home/sub
	printf '#!/bin/sh\npwd\n' >home/sub/where
	chmod 755 home/sub home/sub/where
	chown -R 65534 home
	chmod 700 home
	every_group /cgshim-bats-home
}

# bats test_tags=native
@test "--chdir to where only the program's user may go" {
	requires setpriv
	home_of_user
	local before=$PWD i
	for i in one batch; do
		if [ "$i" = one ]; then
			VIA=without_override shim --parent /cgshim-bats-home --user 65534:65534 --chdir home/sub -- ./where
			exits 0
		else
			without_override "$CGSHIM" batch <<<'{"argv":["./where"],"parent":"/cgshim-bats-home","user":"65534:65534","chdir":"home/sub","stdout":"out"}' >answer
			result=$(<answer)
			output=$(<out)
		fi
		is verdict ok error null
		[ "$output" = "$before/home/sub" ]
	done
	no_group /cgshim-bats-home
}

# bats test_tags=native
@test "… where only the caller may go, where neither may, and the program itself" {
	requires setpriv
	home_of_user
	chown 0 home
	shim --user 65534:65534 --chdir home -- true
	is verdict ok
	VIA=without_override shim --parent /cgshim-bats-home --user 65533:65533 --chdir home/sub -- ./where
	is verdict ok
	chown 65534 home
	VIA=without_override shim --parent /cgshim-bats-home --user 65533:65533 --chdir home/sub -- ./where
	exits 125
	is error.step chdir error.errno EACCES
	hinted 'neither the caller nor user 65533'
	# The program itself may be where only its user finds it.
	VIA=without_override shim --parent /cgshim-bats-home --user 65534:65534 -- home/sub/where
	is verdict ok
	VIA=without_override shim --parent /cgshim-bats-home --user 65534:65534 --env PATH=/nowhere:home/sub:/bin -- where
	is verdict ok
	VIA=without_override shim --parent /cgshim-bats-home --user 65533:65533 -- home/sub/where
	exits 126
	is error.step exec error.errno EACCES
	no_group /cgshim-bats-home
}

# not_replaceable ERROR: --output r is refused, and nothing has run, nor been made.
not_replaceable() {
	status=0
	"$CGSHIM" --output "$1" --name cgshim-bats-output --stdout made -- touch ran 2>result || status=$?
	take_result result
	exits 125
	is verdict error error.step usage cgroup null
	[[ $(field error.message) == *"--output \"$1\""*"$2"* ]]
	hinted '--fd 3'
	[ ! -e ran ]
	[ ! -e made ]
}

# bats test_tags=native
@test "--output to what can't be replaced is refused before the run" {
	requires mount
	mkdir dir
	echo old >file
	echo old >mounted
	mount --bind file mounted
	ln -s mounted link
	local failed=
	not_replaceable mounted busy || failed=1
	not_replaceable link busy || failed=1
	umount mounted
	[ -z "$failed" ]
	[ "$(cat file mounted)" = $'old\nold' ]
	# A directory that is mounted is another thing.
	mkdir over
	mount --bind dir over
	"$CGSHIM" --output over/r -- true || failed=1
	"$CGSHIM" --output over/r -- true || failed=1
	umount over
	[ -z "$failed" ]
	take_result dir/r
	is verdict ok
}

# bats test_tags=native
@test "--output to another user's file in a sticky directory, or an immutable one" {
	requires setpriv
	mkdir sticky
	chmod 1777 sticky
	chmod 755 . ..
	echo old >sticky/theirs
	status=0
	setpriv --reuid 65533 --regid 65533 --clear-groups "$CGSHIM" --best-effort --output sticky/theirs -- touch sticky/ran 2>result || status=$?
	take_result result
	exits 125
	is error.step usage
	hinted 'sticky'
	[ "$(echo sticky/*)" = sticky/theirs ]
	"$CGSHIM" --output sticky/theirs -- true # root may
	take_result sticky/theirs
	if chattr +i sticky/theirs 2>/dev/null; then
		local failed=
		not_replaceable sticky/theirs 'not permitted' || failed=1
		chattr -i sticky/theirs
		[ -z "$failed" ]
	fi
}

# bats test_tags=native
@test "a descriptor that is not open: how to open it" {
	run --separate-stderr "$CGSHIM" --fd 9 -- true
	[ "$status" = 125 ]
	[[ $(jq -r .error.hint <<<"$stderr") == *'9>'* ]]
	run --separate-stderr env CGSHIM_FD=9 "$CGSHIM" -- true
	[[ $(jq -r .error.hint <<<"$stderr") == *'9>'* ]]
	shim --keep-fd 9 -- true
	is error.step usage
	hinted '9<' '9>'
	shim --keep-fd 9 -- true 9</dev/null
	is verdict ok
	shim --no-such-flag -- true
	hinted --help
}

# bats test_tags=native
@test "real-time callers and the cpu controller" {
	requires cgroups_v1
	command -v chrt >/dev/null || skip "requires chrt"
	local file
	file=$(find /sys/fs/cgroup/cpu* -maxdepth 1 -name cpu.rt_runtime_us | head -n 1)
	[ -n "$file" ] || skip "requires CONFIG_RT_GROUP_SCHED"
	local before flag policy
	before=$(<"$file")
	[ "$before" != 0 ] || echo 100000 >"$file" || skip "requires real-time bandwidth"
	if ! chrt --fifo 1 true; then
		echo "$before" >"$file"
		skip "requires real-time bandwidth"
	fi
	local failed=
	for policy in --fifo --rr; do
		for flag in --cpus=1 --cpu-weight=50 --cpu-shares=2; do
			VIA="chrt $policy 1" shim "$flag" -- true
			is verdict error error.step join error.errno EINVAL && hinted 'chrt --other 0' && [[ $result != *"cgshim doctor"* ]] || failed=1
		done
		VIA="chrt $policy 1" shim --mem 64M -- true
		is verdict ok || failed=1
	done
	VIA="chrt --other 0" shim --cpus 1 -- true # as it says
	is verdict ok || failed=1
	[ "$before" != 0 ] || echo 0 >"$file"
	[ -z "$failed" ]
}

@test "a quota above the parent's is refused on v1, and the parent's named" {
	shim --parent /cgshim-bats-quota/x --cpus 1 -- true # where the controller is mounted
	is verdict ok
	local dir
	if has cgroups_v2; then
		echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
		dir=/sys/fs/cgroup/cgshim-bats-quota
		mkdir "$dir"
		echo '25000 100000' >"$dir/cpu.max"
	else
		dir=$(dirname "$(find /sys/fs/cgroup/cpu* -maxdepth 1 -name cpu.shares | head -n 1)")/cgshim-bats-quota
		mkdir "$dir"
		echo 25000 >"$dir/cpu.cfs_quota_us"
	fi
	shim --parent /cgshim-bats-quota/x --cpus 0.5 -- true
	local above=$result
	shim --parent /cgshim-bats-quota/x --cpus 0.25 -- true
	local below=$result
	result=
	if has cgroups_v1; then answer '{"argv":["true"],"parent":"/cgshim-bats-quota/x","cpus":0.5}'; fi
	rmdir "$dir"
	[ -z "$result" ] || hinted '--cpus 0.25'
	result=$below
	is verdict ok
	result=$above
	if has cgroups_v2; then # the lower one counts
		is verdict ok
		return
	fi
	is verdict error error.step limit error.errno EINVAL
	hinted '--cpus 0.25' "$dir"
	[[ $result != *"cgshim doctor"* ]]
}

@test "a threaded parent" {
	requires cgroups_v2
	local top=/sys/fs/cgroup/cgshim-bats-threaded parent failed=
	mkdir -p "$top/threads"
	echo threaded >"$top/threads/cgroup.type"
	for parent in /cgshim-bats-threaded /cgshim-bats-threaded/threads; do
		shim --parent "$parent" --pids 5 -- true
		exits 125
		is verdict error error.errno ENOTSUP && hinted threaded || failed=1
		shim --parent "$parent" -- true
		is verdict error && hinted threaded || failed=1
	done
	answer '{"argv":["true"],"parent":"/cgshim-bats-threaded","mem":"64M"}'
	hinted threaded || failed=1
	rmdir "$top/threads" "$top"
	[ -z "$failed" ]
}

# bats test_tags=native
@test "system calls that a filter refuses: named, and it is said who refuses" {
	local filter=$TOP/build/programs/filter errno call
	for errno in 1 38; do
		for call in pipe2 socketpair sendmsg prctl; do
			VIA="$filter $errno $call --" shim --mem 64M --output-limit 1M -- true
			exits 125
			is verdict error error.errno "$([ "$errno" = 1 ] && echo EPERM || echo ENOSYS)"
			hinted 'seccomp filter'
		done
		VIA="$filter $errno socketpair memfd_create --" shim -- true
		is error.step stage
		# There are other files without a name.
		[ "$("$filter" "$errno" memfd_create -- "$CGSHIM" batch 2>/dev/null <<<'{"argv":["true"]}' | jq -r .verdict)" = ok ]
		for call in pipe2 socketpair; do
			run --separate-stderr "$filter" "$errno" "$call" -- "$CGSHIM" batch <<<'{"argv":["true"]}'
			[ "$status" = 125 ]
			[ "$output" = "" ]
			echo "$stderr" >&2
			[[ $stderr == *"stage \"$call\": "* ]]
			[[ $stderr == *"seccomp filter"* ]]
			[[ $stderr != *"somebody else"* ]]
		done
	done
	run "$filter" 1 socketpair -- "$CGSHIM" doctor
	[[ $output == *"seccomp=unconfined"* ]]
}

# bats test_tags=native
@test "--best-effort says that a limit of memory by rlimit can keep a program from starting" {
	requires setpriv
	local limits=()
	for limits in '' '--ulimit data=unlimited'; do
		# shellcheck disable=SC2086 # two words
		VIA="setpriv --reuid 65533 --regid 65533 --clear-groups" shim --best-effort --mem 64M $limits -- true
		is verdict ok enforced.mem "$([ -z "$limits" ] && echo rlimit || echo none)"
		holds "[.warnings[] | select(test(\"RLIMIT_DATA\"))] | length == $([ -z "$limits" ] && echo 1 || echo 0)"
	done
}

# bats test_tags=native
@test "a result that is read only after the end fits into a pipe, whatever the arguments" {
	requires python3
	cat >late.py <<-'PYTHON'
		import json, os, subprocess, sys
		def late(argv, *flags):
		    reader, writer = os.pipe()
		    child = subprocess.Popen([os.environ["CGSHIM"], *flags, "--fd", str(writer), "--", *argv], pass_fds=[writer])
		    os.close(writer)
		    child.wait() # nobody has read yet
		    return child.returncode, json.load(open(reader))
		for flags in [], ["--pretty"]:
		    code, result = late(["true", "x" * 100000, "y"], *flags)
		    assert code == 0 and result["verdict"] == "ok" and result["argv_truncated"], result
		    assert result["argv"][0] == "true" and len(result["argv"]) == 2, result["argv"]
		    code, result = late(["true"] + ["\x01"] * 50000, *flags)
		    assert code == 0 and result["argv_truncated"] and set(result["argv"][1:-1]) == {"\x01"}
		    code, result = late(["true", "x" * 10000], *flags)
		    assert code == 0 and not result["argv_truncated"] and len(result["argv"][1]) == 10000
		code, result = late(["true"], "--cpuset-cpus", ",".join(["0"] * 40000))
		assert code == 125 and result["error"]["step"] == "usage" and not result["argv_truncated"], result["error"]
		code, result = late(["true"], "--env", "x" * 100000)
		assert code == 125 and result["error"]["step"] == "usage" and result["argv"] == ["true"], result["error"]
		reader, writer = os.pipe()
		child = subprocess.Popen([os.environ["CGSHIM"], "batch"], stdin=subprocess.PIPE, stdout=writer)
		child.stdin.write(json.dumps({"id": "a" * 500, "argv": ["true", "x" * 200000]}).encode() + b"\n")
		child.stdin.close()
		assert child.wait() == 0
		answer = json.loads(os.read(reader, 1 << 16))
		assert answer["id"] == "a" * 500 and answer["argv_truncated"] and answer["verdict"] == "error", answer # one string can't be so long
	PYTHON
	timeout 100 python3 late.py 2>err || { tail -c 3000 err >&2; return 1; }
}
