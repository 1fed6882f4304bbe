# Part of tests/kernels: ending, freezing and killing runs; batch.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

# A signal is the program's; one to stop is for the whole run.
check_cancelled() {
	"$cgshim" --output result --stop-timeout 200ms -- "$prog" deaf >stdout &
	eventually grep -q deaf stdout
	kill -TERM $!
	status=0
	wait $! || status=$?
	take_result
	exits 137
	is verdict '"cancelled"'
}

check_control() {
	"$cgshim" --output result --name controlled -- "$prog" hold 4096 600 &
	eventually running controlled
	"$cgshim" freeze controlled
	"$cgshim" stat controlled | grep -q '^state .*frozen' || fail "not frozen: $("$cgshim" stat controlled)"
	frozen controlled
	"$cgshim" thaw controlled
	! frozen controlled || fail "frozen still"
	"$cgshim" kill controlled
	wait $! || true
	take_result
	is verdict '"cancelled"'
}

# frozen NAME: the kernel says so of a run's group, by the freezer that it has.
frozen() {
	case $cgroups in
	v2) grep -q '^frozen 1$' "$groups/cgshim/$1/cgroup.events" ;;
	*) if v1_kill; then
		grep -q '^frozen 1$' "$groups/unified/cgshim/$1/cgroup.events"
	else
		grep -q '^FROZEN$' "$groups/freezer/cgshim/$1/freezer.state"
	fi ;;
	esac
}

# A program that does not run has to die all the same.
check_kill_of_a_frozen_run() {
	"$cgshim" --output result --name icy --pids 10 -- /bin/sh -c "$prog deaf & exec $prog spin 1 600" >stdout &
	eventually running icy
	eventually grep -q deaf stdout
	"$cgshim" freeze icy
	frozen icy || fail "not frozen"
	"$cgshim" kill icy
	wait $! || true
	take_result
	is verdict '"cancelled"'
	case $cgroups in
	v2) how '`freeze`' '`cgroup.freeze`' ;;
	*) how '`freeze`' "$(v1_kill && echo '`cgroup.freeze`' || echo '`freezer.state`')" ;;
	esac
}

# Without a freezer there is no freezing, and one process after the other is killed as it is.
check_no_freezer() {
	[ "$cgroups" != v2 ] && ! v1_kill && ! has freezer || return 0
	"$cgshim" --output result --name warm --pids 10 -- /bin/sh -c "$prog deaf & exec $prog deaf" >stdout &
	eventually running warm
	eventually grep -q deaf stdout
	! "$cgshim" freeze warm 2>stderr || fail "frozen, by what?"
	grep -q 'freezer' stderr || fail "$(cat stderr)"
	"$cgshim" kill warm
	wait $! || true
	take_result
	is verdict '"cancelled"'
	shim --pids 30 --wall-time 2s -- "$build/programs/hostile" bomb 60
	is verdict '"wall-time-limit"'
	how '`freeze`' refused
	how 'a run is killed by' 'a signal to each process, with `pids.max` 0'
}

# Where the kernel kills a group at once, it takes no other system call: those say here that nobody is there, which is no error.
check_killed_at_once() {
	if [ "$cgroups" = v2 ] && has cgroup.kill || v1_kill; then
		status=0
		"$build/programs/refuse" 3:kill,pidfd_send_signal "$cgshim" --output result -- /bin/sh -c "$prog deaf >/dev/null & exit 3" || status=$?
		take_result
		exits 3
		is leftover_killed 1 error null
		how 'a run is killed by' '`cgroup.kill`'
		return
	fi
	shim -- /bin/sh -c "$prog deaf >/dev/null & exit 3"
	exits 3
	is leftover_killed 1 error null
	how 'a run is killed by' "$([ "$cgroups" = v2 ] && echo '`cgroup.freeze`' || echo '`freezer.state`'), and a signal to each process"
}

running() { "$cgshim" ps | grep -q "$1"; }

check_batch() {
	{
		for i in 1 2 3 4 5 6; do echo "{\"id\":$i,\"argv\":[\"$noop\"],\"mem\":\"64M\",\"pids\":1}"; done
		echo "{\"id\":7,\"argv\":[\"$prog\",\"touch\",\"$((64 * mib))\"],\"mem\":\"16M\"}"
		echo "{\"id\":8,\"argv\":[\"$prog\",\"hold\",\"4096\",\"60\"],\"wall-time\":\"500ms\"}"
		echo '{"id":9,"argv":["/no/such/program"]}'
	} >requests
	"$cgshim" batch --jobs 2 <requests >answers
	[ "$(wc -l <answers)" = 9 ] || fail "not nine answers: $(cat answers)"
	for i in 1 2 3 4 5 6; do answer $i ok; done
	answer 7 memory-limit
	answer 8 wall-time-limit
	answer 9 error
}

# answer ID VERDICT
answer() {
	result=$(grep "^{\"id\":$1," answers)
	is verdict "\"$2\""
}

# killed_at MILLISECONDS COMMAND...: kill -9 of cgshim so long after its start leaves nothing.
killed_at() {
	local delay=$1
	shift
	"$cgshim" "$@" >/dev/null 2>&1 &
	usleep "${delay}000"
	kill -9 $! 2>/dev/null || true
	wait $! || true
	eventually nothing_left || fail "killed after $delay ms: $(left)"
}

# Half of them before the program starts, or as it does; half while it runs.
check_kill_9() {
	for i in $(seq 20); do
		killed_at $((RANDOM % (i % 2 ? 250 : 1000))) --output result --mem 64M -- \
			/bin/sh -c "$build/programs/hostile orphan; exec $prog deaf"
	done
}

check_kill_9_of_batch() {
	echo "{\"id\":1,\"argv\":[\"$prog\",\"deaf\"],\"mem\":\"64M\"}" >requests
	echo "{\"id\":2,\"argv\":[\"$build/programs/hostile\",\"orphan\"],\"mem\":\"64M\",\"wait-all\":true}" >>requests
	for _ in $(seq 3); do
		# shellcheck disable=SC2094
		killed_at $((RANDOM % 1000)) batch --jobs 2 <requests
	done
}
