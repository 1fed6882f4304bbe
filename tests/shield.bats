#!/usr/bin/env bats
# What a program can't do to cgshim, and to what is outside of its run, by Landlock: --shield, --fs-ro, --fs-rw, --fs-system.
# shellcheck disable=SC2030,SC2031,SC2034,SC2094 # each test has variables of its own, some for helpers; files are only read

load helpers

ESCAPE=$TOP/build/programs/escape
export ESCAPE

# ways STATE: those that the program has found to be so.
ways() { sed -n "s/: $1\$//p" <<<"$output"; }

# private COMMAND...: in a pid namespace of its own: what is killed there is of this test only.
private() { unshare --pid --fork --mount-proc --kill-child "$@"; }

# guardians PID: the stages and guardians of a cgshim.
guardians() { pgrep -P "$1" -x cg-guardian; }
export -f guardians

setup() { requires signal_scope; }

teardown() {
	leave_scene
	remove_box
	nothing_left
}

@test "a program of the same user kills nobody but itself: kill(-1), as root" {
	requires root
	private bash -c 'sleep 1000 & bystander=$!
		"$CGSHIM" --pids 20 --fd 3 -- "$ESCAPE" kill 0 1 $bystander 3>'"$BATS_TEST_TMPDIR"'/result
		echo $?; kill -0 $bystander && echo lives' >"$BATS_TEST_TMPDIR/out"
	[ "$(<"$BATS_TEST_TMPDIR/out")" = $'3\nlives' ]
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict nonzero-exit exit_code 3 enforced.shield landlock warnings '[]'
}

@test "… nor the stage, its guardian, or another run" {
	requires root
	private bash -c 'cd '"$BATS_TEST_TMPDIR"'
		"$CGSHIM" --output other -- sh -c "echo \$PPID \$\$ >pids; exec sleep 2" &
		until [ -s pids ]; do sleep 0.1; done
		read -r shim program <pids
		"$CGSHIM" --fd 3 -- bash -c "exec $ESCAPE kill \$PPID \$(guardians \$PPID) $shim $program \$(guardians $shim)" 3>result
		echo $? >code; wait %1'
	[ "$(<"$BATS_TEST_TMPDIR/code")" = 3 ]
	take_result "$BATS_TEST_TMPDIR/other"
	is verdict ok
	take_result "$BATS_TEST_TMPDIR/result"
	is verdict nonzero-exit exit_code 3
}

@test "… nor batch, nor its other jobs" {
	requires root
	local answers
	answers=$(private bash -c '{ printf "%s\n" "{\"id\":1,\"argv\":[\"sleep\",\"2\"]}" "{\"id\":2,\"argv\":[\"$ESCAPE\",\"kill\",\"0\"]}" \
		"{\"id\":3,\"argv\":[\"bash\",\"-c\",\"exec $ESCAPE kill \$(guardians \$PPID)\"]}" "{\"id\":4,\"argv\":[\"true\"]}"; sleep 3; } |
		"$CGSHIM" batch --jobs 2')
	[ -z "${CGSHIM_RESULTS:-}" ] || sed -n 's/^{"id":[0-9]*,/{/p' <<<"$answers" >>"$CGSHIM_RESULTS"
	[ "$(jq -c '[.id, .verdict, .exit_code]' <<<"$answers" | sort)" = '[1,"ok",0]
[2,"nonzero-exit",3]
[3,"nonzero-exit",3]
[4,"ok",0]' ]
}

@test "it can't trace cgshim, nor get at its descriptors or memory, also as root" {
	requires root
	shim -- "$ESCAPE" 0
	is verdict ok
	echo "$output"
	[ -z "$(ways open)" ]
	[ "$(ways shut | wc -l)" = 9 ]
	shim --shield off -- "$ESCAPE" 0
	is verdict ok enforced '{}' limits.shield off
	[ -z "$(ways shut)" ]
}

@test "what works inside: bwrap, unshare, strace, job control, cgshim" {
	requires root bwrap strace
	local command
	for command in 'bwrap --ro-bind / / --proc /proc --unshare-pid true' 'unshare --mount mount -t tmpfs none /mnt' 'unshare --user true' \
		'strace -f -o /dev/null sh -c "true; true"' 'sleep 100 & kill %1 && ! wait %1' 'sleep 100 & kill -STOP $!; kill -CONT $!; kill -9 $!' \
		'timeout 0.1 sleep 100; [ $? = 124 ]' 'set -m; sleep 100 & kill -- -$!; wait; true' 'trap "exit 0" TERM; kill $$; exit 1' \
		'exec "$CGSHIM" --name inner --wall-time 0.1 --fd 3 -- sleep 100 3>"'"$BATS_TEST_TMPDIR"'/inner"'; do
		shim -- bash -c "$command"
		echo "$command"
		[ "$command" = "${command/exec /}" ] || { exits 137; continue; }
		is verdict ok enforced.shield landlock
	done
	take_result "$BATS_TEST_TMPDIR/inner"
	is verdict wall-time-limit enforced.shield landlock
}

@test "… and what does not, works with --shield off" {
	requires root strace
	sleep 1000 &
	local outside=$! command
	for command in "kill -0 $outside" "timeout 0.2 strace -o /dev/null -p $outside; [ \$? != 1 ]" "ls -l /proc/$outside/fd/0"; do
		shim -- bash -c "$command"
		is verdict nonzero-exit
		shim --shield off -- bash -c "$command"
		is verdict ok enforced '{}'
	done
	kill "$outside"
}

# bats test_tags=native
@test "--shield: what can't be is refused" {
	shim --shield maybe -- true
	exits 125
	is verdict error error.step usage error.message '--shield "maybe": want auto, on or off'
	shim --shield on -- true
	is verdict ok enforced.shield landlock limits.shield on
	shim --fs-ro /nowhere -- true
	exits 125
	is error.step usage error.errno ENOENT error.message '--fs-ro "/nowhere": no such file or directory'
	shim --fs-rw /nowhere/at/all --fs-system -- true
	is error.message '--fs-rw "/nowhere/at/all": no such file or directory' cgroup null
	shim --fs-rw "" -- true
	exits 125
	is error.step usage
	shim --fs-ro /proc/self/fd/0 --fs-system -- true </dev/null
	is verdict ok
	shim --fs-ro /proc/self/fd/0 --fs-system -- true < <(true)
	exits 125
	is error.step usage error.errno EBADFD
}

@test "--allow-new-privs goes without a shield, unless cgshim may do everything" {
	requires root setpriv
	shim --allow-new-privs --user 65534:65534 -- "$ESCAPE" 0
	is verdict ok enforced.shield landlock warnings '[]'
	[ -z "$(ways open)" ]
	local VIA="setpriv --bounding-set -sys_admin --inh-caps -sys_admin" # root's, with no such capability after execve
	shim --allow-new-privs -- true
	is verdict ok enforced.shield none
	holds '.warnings | length == 1 and (.[0] | startswith("shield: set-user-ID programs"))'
	for flag in --shield=on --fs-system --fs-ro=/usr; do
		shim --allow-new-privs $flag -- true
		exits 125
		is verdict error error.step usage
	done
}

@test "a 17th layer is none, with a warning; or an error where it was asked for" {
	requires root
	cat >"$BATS_TEST_TMPDIR/script" <<-'EOF'
		#!/bin/bash
		[ "$LAYERS" -gt 0 ] || exec "$CGSHIM" --output "$OUTPUT" $FLAGS -- true
		LAYERS=$((LAYERS - 1)) exec "$CGSHIM" --output /dev/null -- "$0"
	EOF
	chmod +x "$BATS_TEST_TMPDIR/script"
	export LAYERS=16 FLAGS OUTPUT=$BATS_TEST_TMPDIR/result
	FLAGS='' "$BATS_TEST_TMPDIR/script"
	take_result "$OUTPUT"
	is verdict ok enforced.shield none
	holds '.warnings == ["shield: landlock_restrict_self: argument list too long"]'
	FLAGS='--shield on' "$BATS_TEST_TMPDIR/script" || true
	take_result "$OUTPUT"
	is verdict error error.step landlock error.errno E2BIG enforced '{}'
	holds '.error.hint | contains("16 layers")'
	FLAGS='--fs-system --best-effort' "$BATS_TEST_TMPDIR/script"
	take_result "$OUTPUT"
	is verdict ok enforced.shield none enforced.fs none
	LAYERS=15 FLAGS='--shield on' "$BATS_TEST_TMPDIR/script"
	take_result "$OUTPUT"
	is verdict ok enforced.shield landlock
}

@test "--shield auto never fails: what refuses its system calls is no error, whatever it says" {
	requires root
	local errno call
	for errno in 1 12 13 38 95; do # EPERM ENOMEM EACCES ENOSYS EOPNOTSUPP
		for call in landlock_create_ruleset landlock_restrict_self; do
			VIA="$TOP/build/programs/filter $errno $call --" shim -- true
			is verdict ok enforced.shield none
			VIA="$TOP/build/programs/filter $errno $call --" shim --shield on -- true
			exits 125
			is error.step landlock
		done
	done
}

# scene USER: what tests/programs/escape.c wants, for a user; sets $in and $out, and starts its server.
scene() {
	place=$(mktemp -d) # where this user may go
	chmod 755 "$place"
	in=$place/in out=$place/out
	mkdir "$in" "$out"
	cp "$ESCAPE" "$in/escape"
	cp "$ESCAPE" "$out/prog"
	echo secret | tee "$out/secret" >"$out/victim"
	mkfifo "$out/fifo"
	chown -R "$1" "$in" "$out"
	cp "$ESCAPE" "$in/suid"
	chmod 4755 "$in/suid"
	rm -f "$BATS_TEST_TMPDIR/ready"
	setpriv --reuid "$1" --regid "$1" --clear-groups "$out/prog" serve "$out" >"$BATS_TEST_TMPDIR/ready" &
	server=$!
	eventually [ -s "$BATS_TEST_TMPDIR/ready" ]
}

leave_scene() {
	[ -n "${place:-}" ] || return 0
	kill "$server"
	rm -rf "$place"
	place=
}

# What may be open, and is in docs/security.md.
declare -ga open=(memfd "path socket" keyring inotify chmod times stat)

# only_open: nothing else is.
only_open() {
	echo "$output"
	diff <(ways open | sort) <(printf '%s\n' "${open[@]}" | sort)
	[ "$(ways shut | wc -l)" = $((9 + 32 - ${#open[@]})) ]
}

@test "--fs-system --fs-rw DIR: an ordinary user's program, in a cgroup of this user's, gets out by none of forty ways" {
	requires root setpriv user_namespaces
	local dir box
	scene 65534
	make_box 65534
	for dir in $(roots); do [ ! -e "$dir/cgshim-bats-box/pids.max" ] || box=$dir/cgshim-bats-box; done
	local VIA="enter_box setpriv --reuid 65534 --regid 65534 --clear-groups"
	# Without, all of it that the kernel allows this user is open: else the test would show nothing.
	shim --pids 50 --shield off -- "$in/escape" 0 "$in" "$out" "$box" /dev/ptmx
	is verdict ok
	echo "$output"
	diff <(ways shut) <(printf '%s\n' mknod "file handle" set-user-ID)
	leave_scene
	scene 65534
	shim --pids 50 --fs-system --fs-rw "$in" -- "$in/escape" 0 "$in" "$out" "$box" /dev/ptmx
	is verdict ok enforced '{"fs":"landlock","pids":"cgroup","shield":"landlock"}'
	only_open
}

@test "… and root's neither" {
	requires root setpriv
	scene 0
	local group
	group=$(cgroup_file pids "" "" /cgshim-bats-out)
	mkdir "$group"
	shim --pids 50 --fs-system --fs-rw "$in" -- "$in/escape" 0 "$in" "$out" "$group" /dev/loop-control
	rmdir "$group"
	is verdict ok
	only_open
}

# least FLAG...: the least peak of some runs, of a program that does nothing, in bytes.
least() {
	local _ least=
	for _ in 1 2 3 4 5 6 7 8; do
		shim --mem 64M --pids 1 "$@" -- "$NOOP"
		is verdict ok pids_peak 1
		least=$(jq -r "[${least:-1e9}, .peak_memory_bytes] | min" <<<"$result")
	done
	echo "$least"
}

@test "--fs-*: the limits and figures have no launcher in them" {
	requires root
	local with without
	without=$(least --shield off)
	with=$(least --fs-ro "${NOOP%/*}")
	echo "$with bytes, $without without"
	[ "$with" -le $((without > 256 * 1024 ? without + 16384 : 256 * 1024)) ]
}

@test "--fs-*: reads, writes and creates only there; descriptors that are open work on" {
	requires root
	mkdir "$BATS_TEST_TMPDIR"/{ro,rw}
	echo 1 >"$BATS_TEST_TMPDIR/ro/file"
	cd "$BATS_TEST_TMPDIR"
	shim --fs-system --fs-ro ro --fs-rw "$BATS_TEST_TMPDIR/rw" -- sh -c 'cat ro/file && cp ro/file rw/file && mkdir rw/d && mv rw/file rw/d/file &&
		ln rw/d/file rw/e && rm -r rw/d && ! echo 2 >ro/file && ! rm ro/file && ! ls . && cat /proc/self/cgroup && ! touch /dev/shm/x && : >/dev/null'
	is verdict ok limits.fs_system true limits.fs_ro '["ro"]'
	[ "$(<rw/e)" = 1 ]
	shim --fs-system --keep-fd 7 --stdin ro/file -- sh -c 'cat && cat <&7' 7<ro/file
	is verdict ok
	[ "$output" = $'1\n1' ]
}

# bats test_tags=native
@test "--fs-*: the hint says which path is missing" {
	shim --fs-rw "$BATS_TEST_TMPDIR" -- "$NOOP"
	exits 126
	is error.step exec error.errno EACCES
	holds ".error.hint | contains(\"--fs-ro \\\"$(dirname "$(realpath "$NOOP")")\\\"\")"
	shim --fs-ro /bin --fs-ro /usr/bin -- /usr/bin/env
	exits 126
	holds '.error.hint | contains("dynamic loader") and contains("--fs-system")'
	printf '#!/usr/bin/env sh\n' >"$BATS_TEST_TMPDIR/script"
	chmod +x "$BATS_TEST_TMPDIR/script"
	shim --fs-ro "$BATS_TEST_TMPDIR" -- "$BATS_TEST_TMPDIR/script"
	exits 126
	holds '.error.hint | contains("/usr/bin")'
}

# bats test_tags=native
@test "batch: each job has its own" {
	requires root
	mkdir "$BATS_TEST_TMPDIR"/{a,b}
	local answers
	answers=$(for dir in a b a; do
		printf '{"argv":["cp","/dev/null","%s/a/x"],"fs_system":true,"fs_rw":"%s"}\n' "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/$dir" | sed 's/fs_/fs-/g'
	done | "$CGSHIM" batch --jobs 1)
	echo "$answers"
	[ "$(jq -s -c 'map([.exit_code, .enforced.fs])' <<<"$answers")" = '[[0,"landlock"],[1,"landlock"],[0,"landlock"]]' ]
}
