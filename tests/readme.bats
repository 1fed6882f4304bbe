#!/usr/bin/env bats
# What the README and docs/languages.md promise, run as it stands there.

load helpers

setup() { requires root; }

teardown() {
	[ -z "${place:-}" ] || rm -r "$place"
	nothing_left
}

# example PAGE LANGUAGE [N]: the page's code blocks in it, or the Nth of them.
example() {
	awk -v fence='```'"$2" -v n="${3:-0}" \
		'$0 == fence { on = 1; i++; next } /^```/ { on = 0 } on && (!n || i == n)' "$TOP/$1"
}

# plays PAGE N: the page shows N commands with what they print, on a line each, and that is what they print.
plays() {
	local command expected n=0
	while IFS= read -r command && IFS= read -r expected; do
		run bash -c "${command#'$ '}" </dev/null 3>&-
		echo "$command: $output"
		[ "$output" = "$expected" ]
		n=$((n + 1))
	done < <(example "$1" console)
	[ $n = "$2" ]
}

@test "its first command, and those that show what they print" {
	requires python3
	place=$(mktemp -d) # where nobody may go, too
	chmod 755 "$place"
	cd "$place"
	ln -s "$CGSHIM" cgshim
	cp "$NOOP" prog
	echo >input
	PATH=$PWD:$PATH bash -c "$(example README.md sh | head -n 1)" 3>&-
	take_result result.json
	is verdict ok pids_peak 1
	mkdir build
	mv cgshim build
	plays README.md 2
	plays docs/languages.md 1
}

# bats test_tags=native
@test "the Python example" {
	requires python3
	example README.md python >"$BATS_TEST_TMPDIR/example.py"
	[ -s "$BATS_TEST_TMPDIR/example.py" ]
	run --separate-stderr python3 "$BATS_TEST_TMPDIR/example.py" 3>&-
	[ "$status" = 0 ]
	[ "$output" = "nonzero-exit 3 True" ]
	[ "$stderr" = hello ]
}

# bats test_tags=native
@test "the Python example that keeps cgshim batch open" {
	requires python3
	example docs/languages.md python >"$BATS_TEST_TMPDIR/example.py"
	[ -s "$BATS_TEST_TMPDIR/example.py" ]
	run --separate-stderr python3 "$BATS_TEST_TMPDIR/example.py" 3>&-
	[ "$status" = 0 ]
	[ "$output" = $'ok\nnonzero-exit\nnonzero-exit' ]
	[ "$stderr" = "" ]
}

# bats test_tags=native
@test "the Node example" {
	requires node
	example docs/languages.md js >"$BATS_TEST_TMPDIR/example.js"
	[ -s "$BATS_TEST_TMPDIR/example.js" ]
	run --separate-stderr node "$BATS_TEST_TMPDIR/example.js" 3>&-
	[ "$status" = 0 ]
	[ "$output" = "signaled SIGKILL 1" ]
}

@test "make run's program, and its result" {
	run --separate-stderr "$TOP/tests/demo" "$CGSHIM" 3>&-
	[ "$status" = 0 ]
	[ "$(jq -r .verdict <<<"$stderr")" = ok ]
}

# bats test_tags=native
@test "make run without root says why not, and what to do" {
	requires setpriv
	run --separate-stderr setpriv --reuid 65534 --regid 65534 --clear-groups "$TOP/tests/demo" "$CGSHIM" 3>&-
	[ "$status" = 125 ]
	[[ $stderr == *"permission denied"* ]]
	[[ $stderr == *sudo* ]]
}

# bats test_tags=native
@test "README and man page name every flag, and no other" {
	requires real_cpu # slow under emulation, and the same everywhere
	local flag page=$TOP/docs/cgshim.1 flags batch
	flags=$("$CGSHIM" --help | grep -oE '^ +--[a-z-]+' | tr -d ' ')
	[ "$(wc -l <<<"$flags")" -ge 38 ]
	for flag in $flags; do
		[ "$flag" = --help ] || grep -q -e "\`$flag\b" "$TOP/README.md" || { echo "README: no $flag" >&2; return 1; }
		grep -q -e "^\.It Fl -${flag#--}\b" "$page" || { echo "cgshim.1: no $flag" >&2; return 1; }
	done
	batch=$("$CGSHIM" batch --help | grep -oE '^ +--[a-z-]+' | tr -d ' ' | grep -vx -e --help)
	[ "$(wc -l <<<"$batch")" -ge 6 ]
	for flag in $batch; do
		grep -qE "^\.(It )?Fl -${flag#--}\b" <(sed -n '/^\.Sh BATCH/,/^\.Sh RESULT/p' "$page") || { echo "cgshim.1: no batch $flag" >&2; return 1; }
	done
	while read -r flag; do
		grep -qx -e "--$flag" <<<"$flags"$'\n'"$batch" || { echo "cgshim.1: --$flag is no flag" >&2; return 1; }
	done < <(grep -oE '^\.It Fl -[a-z-]+' "$page" | sed 's/.* -//')
	while read -r flag; do
		grep -qx -e "$flag" <<<"$flags"$'\n'"$batch" || { echo "README, languages.md: $flag is no flag" >&2; return 1; }
	done < <(grep -ohE '`--[a-z-]+' "$TOP/README.md" "$TOP/docs/languages.md" | tr -d '`')
}

# Every key of design 2.2, in its order.
KEYS=(type schema_version verdict exit_code signal signal_name core_dumped peak_memory_bytes cpu_seconds
	cpu_user_seconds cpu_system_seconds wall_seconds oom_kills pids_peak pids_denied limits_hit
	peak_swap_bytes cpu_throttled_seconds io_read_bytes io_write_bytes memory_anon_bytes memory_file_bytes
	memory_kernel_bytes voluntary_context_switches involuntary_context_switches pressure_cpu_some_seconds
	pressure_cpu_full_seconds pressure_memory_some_seconds pressure_memory_full_seconds
	pressure_io_some_seconds pressure_io_full_seconds output_bytes leftover_killed setup_seconds
	teardown_seconds sources enforced limits cgroup_version cgroup pid argv started_at error warnings)

# bats test_tags=native
@test "README and cgshim-result(5) name every key, and the page no other" {
	requires real_cpu # slow under emulation, and the same everywhere
	local key page=$TOP/docs/cgshim-result.5 schema limits
	limits=$("$CGSHIM" schema | jq -r '."$defs".limit.properties.limit.enum[]')
	schema=$("$CGSHIM" schema | jq -r '."$defs" | .result, .started, .sample, .limit, .limits, .ulimit, .error | .properties | keys[]')
	[ "$(wc -l <<<"$schema")" -ge 80 ]
	for key in $schema; do
		grep -qE "^\.(It )?Cm .*\b$key\b" "$page" || { echo "cgshim-result.5: no $key" >&2; return 1; }
	done
	for key in "${KEYS[@]}"; do
		grep -q "\`$key\`" "$TOP/README.md" || { echo "README: no $key" >&2; return 1; }
		grep -qx "$key" <<<"$schema" || { echo "the schema has no $key" >&2; return 1; }
	done
	# What the page has as a key, or with an underscore, is one, or a limit.
	while read -r key; do
		grep -qx "$key" <<<"$schema" || grep -qx "$key" <<<"$limits" || { echo "cgshim-result.5: $key is no key" >&2; return 1; }
	done < <(grep -E '^\.(It )?Cm ' "$page" | grep -oE '\b[a-z]+_[a-z_]+\b')
}

# bats test_tags=native
@test "the man pages are well-formed" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires mandoc
	run mandoc -T lint -W warning "$TOP"/docs/*.[15]
	[ "$output" = "" ]
}

# bats test_tags=native
@test "subcommands that print" {
	run "$CGSHIM" schema
	[ "$status" = 0 ]
	[ "$(jq -r '."$schema"' <<<"$output")" = https://json-schema.org/draft/2020-12/schema ]
	run bash -c '"$CGSHIM" completion bash | bash -n'
	[ "$status" = 0 ]
	run bash -c '"$CGSHIM" schema >/dev/full'
	[ "$status" = 125 ]
}
