#!/usr/bin/env bats
# --events and --sample: lines on the result's descriptor, which nobody waits for.

load helpers

setup() { requires root; }

# events ARG...: runs cgshim with --events. Sets $status, $lines_file and $result, the last line.
events() {
	lines_file=$BATS_TEST_TMPDIR/events
	status=0
	"$CGSHIM" --events --fd 3 "$@" 3>"$lines_file" >/dev/null 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	[ -z "${CGSHIM_RESULTS:-}" ] || cat "$lines_file" >>"$CGSHIM_RESULTS"
	# shellcheck disable=SC2034 # for is and holds
	result=$(tail -n 1 "$lines_file")
}

# seen EXPRESSION: a jq expression over the list of all lines is true.
seen() { jq -es "$1" "$lines_file" >/dev/null || { echo "false: $1 in" >&2; cut -c1-300 "$lines_file" >&2; return 1; }; }

@test "started comes first, the result last, samples between" {
	events --sample 20ms --mem 64M -- "$PROG" hold $((16 * MIB)) 0.5
	is verdict ok
	seen '.[0].type == "started" and .[-1].type == "result" and ([.[1:-1][].type] | unique == ["sample"])'
	seen '.[0].pid == .[-1].pid and .[0].cgroup == .[-1].cgroup and .[0].started_at == .[-1].started_at'
	seen 'length >= 7 and length <= 4 + .[-1].wall_seconds / 0.02'
	seen "[.[1:-1][].memory_anon_bytes] | max >= $((16 * MIB - 64 * 4096 * $(nproc --all)))" # see figures.bats
	seen '[.[1:-1][] | .wall_seconds] | . == (sort)'
	seen '[.[1:-1][] | .cpu_seconds] | . == (sort)'
	seen '.[-2].pids == 1 and .[-2].peak_memory_bytes <= .[-1].peak_memory_bytes and .[-2].pids_peak == 1'
}

@test "each limit is told once, and whether it ended the run" {
	events --wall-time 0.3 -- sleep 100
	seen '[.[].type] == ["started", "limit", "result"]'
	seen '.[1].limit == "wall_time" and .[1].ends_run and .[1].wall_seconds >= 0.3'
	events --mem 16M -- "$PROG" touch $((64 * MIB))
	seen '[.[] | select(.type == "limit") | [.limit, .ends_run]] == [["memory", true]]'
	events --pids 4 --sample 20ms -- sh -c '"$0" forks 10 & sleep 0.5' "$PROG"
	seen '[.[] | select(.type == "limit") | [.limit, .ends_run]] == [["pids", false]]'
	seen '(map(.type) | index("limit")) < length - 2' # it is seen while it runs
	events --output-limit 10 -- yes
	seen '[.[] | select(.type == "limit") | [.limit, .ends_run]] == [["output", true]]'
	events --cpu-time 0.2 -- "$PROG" spin 1 10
	seen '[.[] | select(.type == "limit") | [.limit, .ends_run]] == [["cpu_time", true]]'
}

# bats test_tags=native
@test "a program that never runs has only a result" {
	events -- /nonexistent
	[ "$status" = 127 ]
	seen '[.[].type] == ["result"]'
}

# bats test_tags=native
@test "each line is one write" {
	requires strace
	strace -f -e trace=write,sendmsg -o "$BATS_TEST_TMPDIR/trace" "$CGSHIM" --events --sample 50ms --fd 3 -- sleep 0.3 3>"$BATS_TEST_TMPDIR/out"
	local lines writes
	lines=$(wc -l <"$BATS_TEST_TMPDIR/out")
	[ "$lines" -ge 3 ]
	writes=$(grep -cE ' write\(3, "\{.*= [0-9]+$' "$BATS_TEST_TMPDIR/trace")
	[ "$writes" = "$lines" ]
}

# bats test_tags=native
@test "a dead reader breaks nothing" {
	run bash -c '"$CGSHIM" --events --sample 5ms --fd 4 -- sh -c "sleep 0.5; echo done" 4>&1 >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" | head -n 1; echo "${PIPESTATUS[0]}"'
	[[ ${lines[0]} == '{"type":"started"'* ]]
	[ "${lines[-1]}" = 125 ] # the result could not be delivered
	[ "$(cat "$BATS_TEST_TMPDIR/out")" = "done" ]
	grep -q '"verdict":"ok"' "$BATS_TEST_TMPDIR/err"
}

# bats test_tags=native
@test "a slow reader misses samples, and never the result; the run does not wait for it" {
	requires python3
	run python3 - "$CGSHIM" <<-'EOF2'
		import fcntl, json, os, subprocess, sys, time
		reader, writer = os.pipe()
		fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
		run = subprocess.Popen([sys.argv[1], "--events", "--sample", "1ms", "--fd", str(writer), "--", "sleep", "2"],
		                       pass_fds=[writer])
		os.close(writer)
		time.sleep(3)
		lines = [json.loads(line) for line in open(reader)]
		# Some 2000 samples, of which about 256 wait and the rest is left out.
		print(lines[0]["type"], lines[-1]["type"], lines[-1]["verdict"], lines[-1]["wall_seconds"] < 20, len(lines) < 1000)
	EOF2
	[ "$output" = "started result ok True True" ]
}

# bats test_tags=native
@test "a reader that never reads ends nothing but itself" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	exec 8<>"$BATS_TEST_TMPDIR/fifo"
	status=0
	timeout 100 "$CGSHIM" --events --sample 1ms --fd 8 -- sh -c 'sleep 0.7; touch "$0"' "$BATS_TEST_TMPDIR/ran" 2>"$BATS_TEST_TMPDIR/stderr" || status=$?
	exec 8<&-
	[ "$status" = 125 ]
	[ -e "$BATS_TEST_TMPDIR/ran" ]
	grep -q 'nobody reads it' "$BATS_TEST_TMPDIR/stderr"
}
