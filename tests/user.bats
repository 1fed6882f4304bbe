#!/usr/bin/env bats
# --user for programs as they are: those that are looked up in a PATH which is root's, and that have a home.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

setup() {
	requires root
	cd "$BATS_TEST_TMPDIR" || return 1
}

WHO=65534:65534

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
