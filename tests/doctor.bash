# For the suites about cgshim doctor.
# shellcheck shell=bash disable=SC2034 # status and result are for the tests

AS=()

# doctor ARG...: the JSON of cgshim doctor, by way of the command in AS; sets $status and $result.
doctor() {
	status=0
	result=$("${AS[@]}" "$CGSHIM" doctor --json "$@" 2>"$BATS_TEST_TMPDIR/stderr") || status=$?
	[ -z "${CGSHIM_RESULTS:-}" ] || echo "$result" >>"$CGSHIM_RESULTS"
	[ "$(wc -l <<<"$result")" = 1 ] || { cat "$BATS_TEST_TMPDIR/stderr" >&2; return 1; }
}

# check NAME STATUS: and a check that is not ok has something to do about it.
check() {
	holds "[.checks[] | select(.name == \"$1\")] | length == 1 and .[0].status == \"$2\" and
		(.[0].status == \"ok\" or (.[0].remedy | length) > 10)"
}

# all_but NAME...: the checks that are not ok are these, and those of Landlock on a kernel that is too old.
all_but() {
	local old='[]'
	has signal_scope || old='["landlock","shield"]'
	[ "$(jq -c "[.checks[] | select(.status != \"ok\") | .name] - $old" <<<"$result")" = "$(jq -nc '$ARGS.positional' --args "$@")" ] ||
		{ echo "not ok is more or less than $*: $result" >&2; return 1; }
}

# remedy NAME COMMAND...: of the doctor that COMMAND runs.
remedy() { "${@:2}" "$CGSHIM" doctor --json | jq -r --arg name "$1" '.checks[] | select(.name == $name) | .remedy'; }

# paste_as COMMAND LINES: what happens when the user that COMMAND makes pastes LINES. sudo is nothing to us, and what
# cgshim did is told in $lines: its exit status, and the arguments; the last of doctor's reports is pasted.json. nobody's
# group is cgshim-bats-doctor then.
paste_as() {
	export AS_USER=$1 REPORT=$BATS_TEST_TMPDIR/pasted.json
	# shellcheck disable=SC2329 # they are for the lines
	run bash -c '
		sudo() { "$@"; }
		id() { $AS_USER id "$@" | sed "s/^nobody$/bats-doctor/"; }
		cgshim() {
			local to=/dev/null code=0 more=
			[ "$1" != doctor ] || to=$REPORT more=--json
			$AS_USER "$CGSHIM" "$@" $more >$to 2>/dev/null || code=$?
			echo "$code: $*"
		}
		eval "$0" 2>/dev/null
		for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do # whatever it has made
			[ ! -d "$dir/cgshim-bats-doctor" ] || echo $$ >"$dir/cgroup.procs"
		done
		find /sys/fs/cgroup -depth -type d -path "*/cgshim-bats-doctor*" -exec rmdir {} +' "$2"
}
