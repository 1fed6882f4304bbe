# Part of tests/kernels: the other limits, and that nothing outlives a run.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

check_cpu_time() {
	shim --cpu-time 500ms -- "$prog" spin 1 60
	exits 137
	is verdict '"cpu-time-limit"' limits_hit '["cpu_time"]'
	between 0.5 cpu_seconds 30
}

check_wall_time() {
	shim --wall-time 500ms -- "$prog" hold 4096 60
	exits 137
	is verdict '"wall-time-limit"' limits_hit '["wall_time"]'
	between 0.5 wall_seconds 30
}

check_output_limit() {
	shim --output-limit 100000 -- /bin/yes
	exits 137
	is verdict '"output-limit"' output_bytes 100000
	[ "$(wc -c <stdout)" = 100000 ] || fail "$(wc -c <stdout) bytes came through"
}

check_fork_denied() {
	shim --pids 3 -- "$prog" forks 10
	exits 0
	prints '2 EAGAIN'
	is verdict '"ok"' limits_hit '["pids"]' leftover_killed 2
	between 1 pids_denied 1
}

check_leftovers_killed() {
	shim --mem 64M -- /bin/sh -c "$prog deaf >/dev/null & $build/programs/hostile orphan; exit 3"
	exits 3
	is verdict '"nonzero-exit"' leftover_killed 2
}

check_wait_all() {
	shim --wait-all -- /bin/sh -c "$prog hold 4096 0.5 & exit 0"
	exits 0
	is verdict '"ok"' leftover_killed 0
	between 0.5 wall_seconds 30
}

check_fork_bomb() {
	shim --pids 30 --wall-time 2s -- "$build/programs/hostile" bomb 60
	is verdict '"wall-time-limit"'
}

check_cpus() {
	shim --cpus 0.1 -- "$prog" spin 1 0.3
	exits 0
	between 0.01 cpu_throttled_seconds 60
}

check_cpuset() {
	has cpuset || lacks cpuset
	shim --cpuset-cpus 0 -- /bin/sh -c 'sed -n "s/^Cpus_allowed_list:.//p" /proc/self/status'
	exits 0
	prints 0
	shim --cpuset-cpus 0,5 -- "$noop"
	exits 125
	is verdict '"error"' step '"usage"'
}
