#!/usr/bin/env bats
# docs/composition.md: its commands, run as they stand there, and what it says of them.

load helpers

PAGE=$TOP/docs/composition.md

setup() {
	requires root
	mkdir "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/work"
	ln -s "$CGSHIM" "$BATS_TEST_TMPDIR/bin/cgshim"
	PATH=$BATS_TEST_TMPDIR/bin:$PATH
	cd "$BATS_TEST_TMPDIR/work" || return
}

# blocks LANGUAGE SECTION: the page's code blocks in it, below that heading.
blocks() {
	awk -v fence='```'"$1" -v heading="## $2" '
		/^## / { here = $0 == heading } $0 == fence { on = here; next } /^```/ { on = 0 } on' "$PAGE"
}

# play SECTION: its commands as at a prompt: each line that begins with "$ ", the next ones too after a backslash.
play() {
	local lines line command=
	mapfile -t lines < <(blocks console "$1")
	for line in "${lines[@]}"; do
		case $command$line in
		'$ '*) command+=$line$'\n' ;;
		*) continue ;; # what it printed when the page was written
		esac
		printf '%s\n' "$line"
		[[ $line != *\\ ]] || continue
		(eval "${command#'$ '}") 2>&1 </dev/null 3>&- || true
		command=
	done
}

# page SECTION: its commands print what is printed there; their results are as all results are.
page() {
	local file
	[ -n "$(blocks console "$1")" ]
	diff -u <(blocks console "$1") <(play "$1")
	for file in *.json; do
		[ ! -e "$file" ] || take_result "$file"
	done
}

# BWRAP: the page's sandbox, with all that the host has.
BWRAP=(bwrap --unshare-all --die-with-parent --ro-bind / / --dev /dev --proc /proc)

# bats test_tags=native
@test "every section of the page is played here" {
	diff <(awk '/^## / { heading = substr($0, 4) } $0 == "```console" { print heading }' "$PAGE" | uniq) \
		<(sed -n 's/^	page "\(.*\)"$/\1/p' "$BATS_TEST_FILENAME")
}

# --- bubblewrap -------------------------------------------------------------------------------------

# bats test_tags=native
@test "bubblewrap" {
	requires bwrap user_namespaces
	page "bubblewrap"
}

@test "… out of memory in any process of the sandbox, its first one included" {
	requires bwrap
	shim --mem 32M --pids 8 -- "${BWRAP[@]}" --as-pid-1 "$PROG" touch $((64 * MIB))
	is verdict memory-limit leftover_killed 0 pids_denied 0 limits_hit '["memory"]'
	holds '.signal == 9 or .exit_code == 137' # on v1 bwrap may be quicker than cgshim
	shim --mem 32M -- "${BWRAP[@]}" "$PROG" grandchild $((64 * MIB))
	is verdict memory-limit
	holds '.oom_kills >= 1 and .peak_memory_bytes <= 32 * 1048576'
}

@test "… --pids has two of bwrap's in it, and with --as-pid-1 one" {
	requires bwrap
	shim --pids 8 -- "${BWRAP[@]}" "$PROG" forks 20
	is verdict ok pids_peak 8 pids_denied 1 limits_hit '["pids"]'
	[ "$output" = "5 EAGAIN" ]
	shim --pids 8 -- "${BWRAP[@]}" --as-pid-1 "$PROG" forks 20
	is verdict ok pids_peak 8 pids_denied 1
	[ "$output" = "6 EAGAIN" ]
	shim --pids 2 -- "${BWRAP[@]}" "$NOOP"
	is verdict nonzero-exit exit_code 1 pids_denied 1
}

@test "… figures: the sandbox takes about a MiB, and no process stays" {
	requires bwrap
	local i
	shim --mem 64M -- "${BWRAP[@]}" "$NOOP" # and its binary is in the page cache now
	for i in $(times 5 1); do
		shim --mem 64M -- "${BWRAP[@]}" --as-pid-1 "$PROG" touch $((16 * MIB))
		is verdict ok leftover_killed 0 pids_peak 2
		holds '.peak_memory_bytes >= 16 * 1048576 and .peak_memory_bytes < 19 * 1048576'
		shim --wait-all -- "${BWRAP[@]}" "$NOOP"
		is verdict ok leftover_killed 0 pids_peak 3
	done
	shim -- "${BWRAP[@]}" --as-pid-1 sh -c 'setsid sleep 1000 & exit 3'
	is verdict nonzero-exit exit_code 3 leftover_killed 0
}

# bats test_tags=native
@test "… limits of time and output, stop, grace" {
	requires bwrap
	shim --cpu-time 0.3 -- "${BWRAP[@]}" "$PROG" spin 1 100
	is verdict cpu-time-limit
	shim --wall-time 1 -- "${BWRAP[@]}" sh -c 'setsid sleep 1000 & sleep 1000'
	is verdict wall-time-limit signal_name SIGKILL
	shim --output-limit 100 -- "${BWRAP[@]}" yes
	is verdict output-limit output_bytes 100
	# bwrap dies of SIGTERM, and the program is not asked.
	shim --wall-time 2 --grace 20 -- "${BWRAP[@]}" sh -c 'trap "echo asked; exit 0" TERM; while :; do sleep 0.1; done'
	is verdict wall-time-limit signal_name SIGTERM
	[ -z "$output" ]
	holds '.wall_seconds < 15'
}

# bats test_tags=native
@test "… how the program ends is bwrap's exit status" {
	requires bwrap
	shim -- "${BWRAP[@]}" sh -c 'kill -SEGV $$'
	is verdict nonzero-exit exit_code 139 signal null
	shim -- "${BWRAP[@]}" /nonexistent
	is verdict nonzero-exit exit_code 1 error null
}

@test "… no cgshim in it" {
	requires bwrap
	shim -- "${BWRAP[@]}" "$CGSHIM" --fd 1 --stdout /dev/null -- "$NOOP"
	is verdict nonzero-exit exit_code 125
	[ "$(jq -r '.error.errno, (.error.hint | test("read-only"))' <<<"$output")" = $'EROFS\ntrue' ]
	shim -- "$CGSHIM" --fd 1 --stdout /dev/null --mem 32M -- "${BWRAP[@]}" "$NOOP"
	is verdict ok
	[ "$(jq -r .verdict <<<"$output")" = ok ]
}

# bats test_tags=native
@test "… the sandbox of a user who has no cgroup" {
	requires bwrap user_namespaces setpriv
	run setpriv --reuid 65534 --regid 65534 --clear-groups "$CGSHIM" --best-effort --wall-time 1 -- \
		"${BWRAP[@]}" sh -c 'setsid sleep 1000 & sleep 1000' 3>&-
	[ "$(jq -r .verdict <<<"$output")" = wall-time-limit ]
}

# --- unshare ----------------------------------------------------------------------------------------

# bats test_tags=native
@test "unshare" {
	requires user_namespaces
	page "unshare"
}

# bats test_tags=native
@test "… --fork: signals" {
	requires system_python3
	shim -- unshare --pid --fork /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'
	is verdict signaled signal_name SIGSEGV
	# What process 1 sends to itself.
	shim -- unshare --pid --fork sh -c 'kill -TERM $$; exit 7'
	is verdict nonzero-exit exit_code 7
	# With the time limit comes a SIGTERM, which unshare blocks.
	shim --wall-time 1 --grace 1 -- unshare --pid --fork sh -c 'trap "echo asked; exit 0" TERM; while :; do sleep 0.1; done'
	is verdict wall-time-limit signal_name SIGKILL leftover_killed 0
	[ -z "$output" ]
	# Without --fork it is the program's.
	shim --wall-time 1 --grace 20 -- unshare --mount sh -c 'trap "echo asked; exit 0" TERM; while :; do sleep 0.1; done'
	is verdict wall-time-limit exit_code 0
	[ "$output" = asked ]
}

@test "… --fork: --pids has unshare in it, and the namespace ends with the program" {
	shim --pids 8 -- unshare --pid --fork "$PROG" forks 20
	is verdict ok pids_peak 8 pids_denied 1 leftover_killed 0
	[ "$output" = "6 EAGAIN" ]
	shim --pids 1 -- unshare --pid --fork "$NOOP"
	is verdict nonzero-exit exit_code 1 pids_denied 1
}

# --- cgshim in cgshim -------------------------------------------------------------------------------

@test "cgshim in cgshim" {
	page "cgshim in cgshim"
}

@test "… figures: the inner ones are in the outer ones" {
	shim --pids 20 -- "$CGSHIM" --output inner.json --mem 64M --pids 1 -- "$PROG" touch $((32 * MIB))
	is verdict ok limits_hit '[]'
	holds ".peak_memory_bytes >= 32 * 1048576 and .peak_memory_bytes < 48 * 1048576 and .pids_peak <= 20 and .pids_denied == 0"
	local outer=$result
	take_result inner.json
	is verdict ok pids_peak 1
	holds ".peak_memory_bytes <= 34 * 1048576"
	holds ".cpu_seconds <= $(jq .cpu_seconds <<<"$outer")"
}

@test "… too few tasks for the inner one's threads: no result, and nothing left" {
	run "$CGSHIM" --pids 3 --output outer.json -- "$CGSHIM" --output inner.json -- "$NOOP"
	[ "$status" = 2 ]
	take_result outer.json
	is verdict nonzero-exit exit_code 2 limits_hit '["pids"]'
	[ ! -e inner.json ]
}

@test "… kill -9 of the outer one" {
	"$CGSHIM" --output outer.json -- "$CGSHIM" --output inner.json -- \
		sh -c 'setsid sleep 1000 & echo $! $$ $PPID >pids; mv pids ready; wait' 3>&- &
	local outer=$! pid pids
	eventually test -e ready
	read -ra pids <ready
	[ "$(ours | wc -l)" -ge 2 ]
	kill -9 "$outer"
	for pid in "${pids[@]}"; do eventually gone "$pid"; done
	eventually nothing_left 2>/dev/null
}

@test "… another user makes no groups in it" {
	shim --user nobody -- "$CGSHIM" --fd 1 --stdout /dev/null -- "$NOOP"
	is verdict nonzero-exit exit_code 125
	[ "$(jq -r .error.errno <<<"$output")" = EACCES ]
	shim --user nobody --mem 32M -- "$CGSHIM" --best-effort --mem 16M --fd 1 --stdout /dev/null -- "$NOOP"
	is verdict ok
	[ "$(jq -r .enforced.mem <<<"$output")" = rlimit ]
}

# --- many at once -----------------------------------------------------------------------------------

# bats test_tags=native
@test "GNU parallel" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires parallel
	page "GNU parallel"
}

# bats test_tags=native
@test "… many, all at once: each has its own" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires parallel
	local i n
	n=$(times 200 24 | wc -l)
	seq "$n" | parallel -q -j8 --joblog log "$CGSHIM" --mem 32M --pids 4 --output {}.json -- sh -c 'exit $(({} % 7))' || true
	# shellcheck disable=SC2046 # file names
	jq -r '[.cgroup, .exit_code] | join(" ")' $(seq -f %g.json "$n") >results
	[ "$(cut -d ' ' -f 1 results | sort -u | wc -l)" = "$n" ]
	[ "$(cut -d ' ' -f 2 results)" = "$(for i in $(seq "$n"); do echo $((i % 7)); done)" ]
	[ "$(tail -n +2 log | sort -n | cut -f 7)" = "$(cut -d ' ' -f 2 results)" ]
}

# bats test_tags=native
@test "… its --timeout cancels" {
	requires parallel
	run parallel --timeout 3 --termseq TERM,30000,KILL,25 "$CGSHIM" --output '{#}.json' -- sleep '{}' ::: 0.1 100 3>&-
	[ "$status" = 1 ]
	take_result 1.json
	is verdict ok
	take_result 2.json
	is verdict cancelled
}

# bats test_tags=native
@test "xargs" {
	requires real_cpu # slow under emulation, and the same everywhere
	page "xargs"
}

# bats test_tags=native
@test "… stops at 255, and how it does not" {
	requires real_cpu # slow under emulation, and the same everywhere
	printf '%s\n' 'exit 255' true >list
	run xargs -n 1 -d '\n' "$CGSHIM" -- sh -c <list 3>&-
	[ "$status" = 124 ]
	[ "$(grep -c '"verdict"' <<<"$output")" = 1 ]
	run xargs -n 1 -d '\n' sh -c '"$@" || exit 1' sh "$CGSHIM" -- sh -c <list 3>&-
	[ "$status" = 123 ]
	[ "$(grep -c '"verdict"' <<<"$output")" = 2 ]
}

# --- make -------------------------------------------------------------------------------------------

# part [FILE]: what the page's makefile makes: four jobs, each of which writes to part/log when it begins and ends.
part() {
	blocks make make >Makefile
	[ -s Makefile ]
	mkdir -p part
	printf 'all: 1 2 3 4\n1 2 3 4:\n\t@echo + >>log; sleep %s; echo - >>log\n' "${1:-1}" >part/Makefile
}

# most: how many jobs of part ran at the same time.
most() { awk '{ n += $1 == "+" ? 1 : -1; if (n > most) most = n } END { print most }' part/log; }

# bats test_tags=native
@test "make" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires make
	part
	page "make"
	[ "$(most)" = 3 ]
}

# pipe: what makes the jobserver a pipe.
pipe() { ! has make_fifo || echo --jobserver-style=pipe; }

# as_nobody: the part is made by another user.
as_nobody() {
	sed -i 's/--mem/--user nobody --mem/; s/--output part.json//' Makefile
	rm -f part/log
	chmod 777 part
	chmod 755 . .. ../.. ../../.. # bats's own
}

# bats test_tags=native
@test "… without the jobserver it says so, and goes on" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires make
	part 0.2
	# shellcheck disable=SC2046
	run make -s -j3 keep= $(pipe) 3>&-
	[ "$status" = 0 ]
	[[ $output == *"jobserver unavailable"* ]]
	[ "$(most)" = 1 ]
}

# bats test_tags=native
@test "… with the jobserver of before 4.4, for another user, too" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires make
	part
	as_nobody
	# shellcheck disable=SC2046
	run make -s -j3 $(pipe) 3>&-
	[ "$(jq -r .verdict <<<"$output")" = ok ]
	[ "$(most)" = 3 ]
}

# bats test_tags=native
@test "… with the FIFO of 4.4, which takes no --keep-fd, and which another user can't open" {
	requires make_fifo
	part
	run make -s -j3 keep= --jobserver-style=fifo 3>&-
	[ "$status" = 0 ]
	[ "$(most)" = 3 ]
	as_nobody
	run make -s -j3 --jobserver-style=fifo 3>&-
	[[ $output == *"jobserver unavailable"* ]]
	[ "$(most)" = 1 ]
}

# bats test_tags=native
@test "… a run that is killed keeps the jobs that it has taken" {
	requires real_cpu # slow under emulation, and the same everywhere
	requires make
	part 1000
	sed -i 's/--mem 512M/--wall-time 3/; s/^	+/	-+/' Makefile
	run make -s -j3 3>&-
	[ "$status" = 0 ]
	[[ $output == *"jobserver tokens available; should be 3!"* ]]
	take_result part.json
	is verdict wall-time-limit
	# One that has a number of its own takes none.
	sed -i 's/\$(keep)/--env MAKEFLAGS=/; s/-C part/-s -j2 -C part/' Makefile
	rm part/log
	run make -s -j3 3>&-
	[ "$status" = 0 ]
	[[ $output != *jobserver* ]]
	[ "$(most)" = 2 ]
}
