#!/usr/bin/env bats
# --user for programs as they are: those that open /dev/stdin, that are looked up in a PATH which is root's, and that have a home.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

setup() {
	requires root
	cd "$BATS_TEST_TMPDIR" || return 1
}

WHO=65534:65534

# copies LANGUAGE: sets $copy to a program that opens its three standard descriptors, copies the first to the second, and writes "err"
# to the third.
copies() {
	case $1 in
	sh) copy=(sh -c 'cat /dev/stdin >/dev/stdout; echo err >/dev/stderr') ;;
	perl) copy=(perl -e 'sub f { open(my $f, $_[0], $_[1]) or die "$_[1]: $!"; $f } print {f(">", "/dev/stdout")} readline f("<", "/dev/stdin"); print {f(">", "/dev/stderr")} "err\n"') ;;
	system_python3) copy=(/usr/bin/python3 -c 'open("/dev/stdout", "w").write(open("/dev/stdin").read()); open("/dev/stderr", "w").write("err\n")') ;;
	node) copy=(node -e 'const fs = require("fs"); fs.writeFileSync("/dev/stdout", fs.readFileSync("/dev/stdin")); fs.writeFileSync("/dev/stderr", "err\n")') ;;
	esac
}

# languages: those that there are.
languages() {
	local language
	for language in sh perl system_python3 node; do
		[ "$language" != sh ] && ! has "$language" || echo "$language"
	done
}

# opens: a program that prints on $out which of its descriptors it can open, and how.
opens() {
	requires system_python3
	# shellcheck disable=SC2034 # for the tests
	opens=(/usr/bin/python3 -c '
import os
done = []
for name in "stdin", "stdout", "stderr":
    for how, flags in ("r", os.O_RDONLY), ("w", os.O_WRONLY), ("rw", os.O_RDWR):
        try:
            os.close(os.open("/dev/" + name, flags | os.O_NONBLOCK))
            done.append(name + ":" + how)
        except PermissionError:
            pass
print(*done, sep=" ", file=open("opened", "w"))')
	: >opened
	chmod 666 opened
}

# Regression: EACCES.
@test "/dev/stdin, /dev/stdout and /dev/stderr can be opened: pipes of the caller" {
	local language copy
	for language in $(languages); do
		copies "$language"
		{ echo 5 | "$CGSHIM" --user $WHO --mem 256M --fd 4 -- "${copy[@]}" 2>&3 3>&- 4>result | cat >out 3>&-; } 3>&1 | cat >err
		take_result result
		is verdict ok
		[ "$(<out)$(<err)" = 5err ] || { echo "$language: $(<out) $(<err)" >&2; return 1; }
	done
}

@test "… with --output-limit, whose pipes are cgshim's" {
	local language copy
	for language in $(languages); do
		copies "$language"
		"$CGSHIM" --user $WHO --output-limit 1K --fd 3 -- "${copy[@]}" < <(echo 5) >out 2>err 3>result
		take_result result
		is verdict ok output_bytes 6
		[ "$(<out)$(<err)" = 5err ] || { echo "$language: $(<out) $(<err)" >&2; return 1; }
	done
}

@test "… in a batch: files that it makes, for as long as the job lasts; with a limit; and its standard error" {
	local language copy more n=0
	echo 5 >in
	for language in $(languages); do
		copies "$language"
		for more in '{"stderr": "err\($n)"}' '{"stderr": "err\($n)", "output-limit": "1K"}' '{}'; do
			n=$((n + 1))
			printf '%s\x1f' "${copy[@]}" | jq -Rsc --argjson n $n '{id: $n, argv: split("\u001f")[:-1], user: "'$WHO'", stdin: "in", stdout: "out\($n)"} + '"$more"
		done
	done >requests
	"$CGSHIM" batch <requests 2>&1 >answers 3>&- | cat >err
	[ "$(wc -l <answers)" = $n ]
	[ "$(jq -r .verdict answers | sort -u)" = ok ] || { cat answers err >&2; return 1; }
	for language in $(seq $n); do
		[ "$(<"out$language")" = 5 ] || { echo "$language: $(<"out$language")" >&2; return 1; }
		[ "$(stat -c '%a %u:%g' "out$language")" = "$(stat -c '%a %u:%g' in)" ]
		[ ! -e "err$language" ] || [ "$(<"err$language")" = err ]
	done
	[ "$(sort -u err)" = err ]
	[ "$(wc -l <err)" = $((n / 3)) ]
}

# bats test_tags=native
@test "they can't be opened at the other end: nobody reads what others write to a pipe, nor writes what others read" {
	local opens
	opens
	echo 5 | "$CGSHIM" --user $WHO --output result -- "${opens[@]}" 2>&1 | cat
	take_result result
	is verdict ok
	[ "$(<opened)" = "stdin:r stdout:w stderr:w" ]
	echo 5 | "$CGSHIM" --user $WHO --output-limit 1K --output result -- "${opens[@]}"
	[ "$(<opened)" = "stdin:r stdout:w stderr:w" ]
	shim --user $WHO --stdin /dev/null --stdout made --stderr made -- "${opens[@]}"
	[ "$(<opened)" = "stdin:r stdin:w stdin:rw stdout:w stderr:w" ]
	# By another group: those of before can't any more.
	mkfifo ready go
	chmod 666 ready go
	{
		"$CGSHIM" --user 65533:65533 --output first -- /usr/bin/python3 -c '
import os
open("ready", "w").close()
open("go").read()
try:
    os.open("/dev/stdout", os.O_WRONLY)
except PermissionError:
    print("closed")
' 3>&- &
		cat ready
		"$CGSHIM" --user $WHO --output second -- sh -c 'echo second >/dev/stdout' </dev/null 3>&-
		: >go
		wait $!
	} | cat >out
	[ "$(<out)" = $'second\nclosed' ]
}

# bats test_tags=native
@test "the pipe of the result stays closed to the program, whatever its number" {
	local opens try
	opens
	# Standard error is the default, and the program's, too.
	"$CGSHIM" --user $WHO -- "${opens[@]}" 2>&1 >out </dev/null | cat >result
	take_result result
	is verdict ok
	[[ $(<opened) != *stderr* ]]
	# … and its standard output, after 2>&1.
	"$CGSHIM" --user $WHO -- "${opens[@]}" 2>&1 </dev/null | cat >result
	take_result result
	[[ $(<opened) != *stderr* ]]
	[[ $(<opened) != *stdout* ]]
	# … with events, too.
	"$CGSHIM" --user $WHO --events -- "${opens[@]}" 2>&1 </dev/null | cat >events
	[[ $(<opened) != *std[oe]* ]]
	# The others are shared meanwhile.
	{ echo 5 | "$CGSHIM" --user $WHO -- "${opens[@]}" 2>&3 3>&- | cat 3>&-; } 3>&1 | cat >result
	take_result result
	[ "$(<opened)" = "stdin:r stdout:w" ]
	# A forger that tries all that there is.
	for try in /dev/stderr /proc/self/fd/2 /dev/fd/2 /dev/stdout; do
		"$CGSHIM" --user $WHO -- /usr/bin/python3 -c '
import os, sys
try:
    os.write(os.open(sys.argv[1], os.O_WRONLY), b"{}\n")
except PermissionError:
    sys.exit(3)
' $try 2>&1 </dev/null | cat >result
		take_result result
		is exit_code 3
	done
}

# bats test_tags=native
@test "what is the caller's stays as it is: files, and FIFOs with a name" {
	local file
	echo 5 >in
	echo old >out
	mkfifo fifo
	chmod 600 in out fifo
	cat <fifo >/dev/null 3>&- &
	shim --user $WHO --stdin in --stdout out --stderr fifo -- sh -c 'for name in stdin stdout stderr; do [ ! -r /dev/$name ] && [ ! -w /dev/$name ] || echo $name; done'
	wait $!
	is verdict ok
	[ ! -s out ]
	for file in in out fifo; do [ "$(stat -c '%a %u:%g' $file)" = "600 0:0" ]; done
	# Who may not change a pipe runs the program all the same.
	requires setpriv
	VIA="setpriv --bounding-set=-chown" shim --user $WHO -- sh -c 'cat; cat /dev/stdin 2>/dev/null || echo closed' < <(echo 5)
	[ "$output" = $'5\nclosed' ]
}

# tree: programs of the name tool.
#   locked/  root may search, and nobody else      closed/  root may execute it, and nobody else
#   script/  its interpreter is closed/tool        right/   everybody may
tree() {
	local dir
	for dir in locked closed right script; do
		mkdir $dir
		printf '#!/bin/sh\necho %s\n' $dir >$dir/tool
	done
	echo "#!closed/tool" >script/tool
	chmod 755 locked/tool right right/tool closed script script/tool
	chmod 700 locked closed/tool
}

# unfindable PATH MESSAGE: tool is refused, with the name of the file and the user.
unfindable() {
	shim --user $WHO --env PATH="$1" -- tool
	exits 126
	is verdict error error.step exec error.errno EACCES pid null
	holds ".error.message | startswith(\"exec \\\"$2\\\" as user 65534 (\")"
	holds '.error.hint | test("user 65534.*namei")'
}

# Regression: PROG was looked up as the caller, and found where the user may not go.
@test "PROG is looked up as its user, who goes past what he may not execute" {
	local path
	tree
	for path in right locked:right closed:right script:right locked:script:closed:right; do
		shim --mem 64M --user $WHO --env PATH=$path:/bin -- tool
		is verdict ok
		[ "$output" = right ] || { echo "$path: $output" >&2; return 1; }
		"$CGSHIM" batch <<<'{"argv":["tool"],"user":"'$WHO'","env":["PATH='$path':/bin"],"stdout":"out"}' >answer 3>&-
		[ "$(jq -r .verdict answer)" = ok ]
		[ "$(<out)" = right ]
	done
	# Root itself may.
	shim --env PATH=locked:right:/bin -- tool
	[ "$output" = locked ]
}

# bats test_tags=native
@test "… and if there is nothing else, the error names the file and the user" {
	tree
	unfindable locked locked/tool
	unfindable closed closed/tool
	unfindable locked:nowhere:closed closed/tool
	unfindable script script/tool
	shim --user $WHO -- locked/tool
	exits 126
	holds '.error.message | startswith("exec \"locked/tool\" as user 65534 (")'
	shim --user 12345:12345 -- closed/tool
	holds '.error.message == "exec \"closed/tool\" as user 12345: permission denied"'
	# What is in none of the directories is not found, as ever.
	shim --user $WHO --env PATH=right:closed -- cgshim-no-such-program
	exits 127
	is error.step exec error.errno ENOENT
	"$CGSHIM" batch <<<'{"argv":["tool"],"user":"'$WHO'","env":["PATH=locked:closed"]}' >answer 3>&-
	jq -e '.error | .errno == "EACCES" and (.message | test("closed/tool\" as user 65534"))' answer
}

# env_of ARG...: HOME, USER and LOGNAME of a program.
env_of() {
	VIA='env HOME=/callers USER=caller LOGNAME=caller SECRET=1' shim "$@" -- /usr/bin/env
	is verdict ok
	output=$(grep -E '^(HOME|USER|LOGNAME)=' <<<"$output" | sort | tr '\n' ' ')
}

# bats test_tags=native
@test "HOME, USER and LOGNAME are the user's" {
	local home name
	name=$(awk -F: '$3 == 65534 { print $1; exit }' /etc/passwd)
	home=$(awk -F: '$3 == 65534 { print $6; exit }' /etc/passwd)
	[ -n "$home" ] || skip "requires user 65534 in /etc/passwd"
	env_of --user "$name"
	[ "$output" = "HOME=$home LOGNAME=$name USER=$name " ]
	env_of --user 65534:1
	[ "$output" = "HOME=$home LOGNAME=$name USER=$name " ]
	env_of --user 54321:1
	[ "$output" = "HOME=/ LOGNAME=54321 USER=54321 " ]
	env_of --user "$name" --env HOME=/x --env USER=
	[ "$output" = "HOME=/x LOGNAME=$name USER= " ]
	env_of --user "$name" --keep-env
	[ "$output" = "HOME=/callers LOGNAME=caller USER=caller " ]
	env_of
	[ "$output" = "HOME=/callers LOGNAME=caller USER=caller " ]
	# The rest of the caller's environment is the program's, too, unless it is cleared.
	VIA='env SECRET=1' shim --user "$name" -- /usr/bin/env
	[[ $output == *SECRET=1* ]]
	VIA='env SECRET=1' shim --user "$name" --clear-env -- /usr/bin/env
	[ "$(sort <<<"$output" | tr '\n' ' ')" = "HOME=$home LOGNAME=$name USER=$name " ]
	shim --user "$name" --clear-env --keep-env -- true
	exits 125
	is error.step usage
	printf '%s\n' '{"id":1,"argv":["env"],"user":"'"$name"'","stdout":"out1"}' '{"id":2,"argv":["env"],"user":"'"$name"'","keep-env":true,"stdout":"out2"}' |
		HOME=/callers "$CGSHIM" batch >answers 3>&-
	grep -qx "HOME=$home" out1
	grep -qx HOME=/callers out2
}
