#!/usr/bin/env bats
# --user for programs as they are: those that have a home.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

setup() {
	requires root
	cd "$BATS_TEST_TMPDIR" || return 1
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
