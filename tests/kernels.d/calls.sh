# Part of tests/kernels: system calls that an old kernel, or a container, refuses; and what doctor says of it all.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

# refusing CALLS COMMAND...: shim, where a seccomp filter refuses system calls as an old kernel, or an old container, does.
refusing() {
	local calls=$1
	shift
	status=0
	"$build/programs/refuse" "$calls" "$cgshim" --output result "$@" >stdout 2>stderr || status=$?
	take_result
}

# Without clone3 the program joins by itself, still before its first instruction.
check_clone3_refused() {
	for errno in 1 38; do
		refusing $errno:clone3 --mem 64M --pids 1 -- "$noop"
		exits 0
		is verdict '"ok"' pids_peak "$(either pids.peak 1 null)"
		refusing $errno:clone3 --mem 64M -- "$prog" cgroup
		exits 0
		value cgroup
		eval "grep -q $value stdout" || fail "it was not in its group: $(cat stdout)"
		examine "$build/programs/refuse" $errno:clone3 "$cgshim"
		if [ "$cgroups" = v2 ] || v1_kill; then
			doctor_says clone-into-cgroup warn
		else
			doctor_says clone-into-cgroup ok
		fi
	done
	if [ "$cgroups" = v2 ] || v1_kill; then
		how '… if `clone3` is refused' 'the program writes to `cgroup.procs`'
	else
		how '… if `clone3` is refused' 'the same'
	fi
}

# Without pidfds a run is waited for, and killed, by pids.
check_pidfd_refused() {
	for errno in 1 38; do
		refusing $errno --wall-time 300ms -- "$prog" deaf
		exits 137
		is verdict '"wall-time-limit"' leftover_killed 0 error null
		refusing $errno -- /bin/sh -c "$prog deaf >/dev/null & exit 3"
		exits 3
		is leftover_killed 1 error null
		refusing $errno --mem 16M -- "$prog" grandchild $((64 * mib))
		is verdict '"memory-limit"'
	done
	examine "$build/programs/refuse" 38 "$cgshim"
	doctor_says pidfd warn
}

# As before Linux 5.3.
check_old_system_calls() {
	local all=clone3,close_range,faccessat2,pidfd_open,pidfd_send_signal
	for errno in 1 38; do
		refusing $errno:$all --mem 64M --user 65534:65534 -- sh -c 'id -u; ls /proc/self/fd | wc -l'
		exits 0
		prints "65534
4"
	done
	echo "{\"id\":1,\"argv\":[\"$noop\"],\"mem\":\"64M\",\"pids\":1}" >requests
	"$build/programs/refuse" 38:$all "$cgshim" batch <requests >answers
	answer 1 ok
}

# examine COMMAND...: doctor, by way of cgshim or what starts it.
examine() { "$@" doctor --json >report || true; }

# doctor_says CHECK STATUS
doctor_says() {
	grep -q "{\"name\":\"$1\",\"status\":\"$2\"" report || fail "doctor: $1 is not $2: $(cat report)"
	echo "$1" >>told
}

# doctor_list STATUS: the checks that have it.
doctor_list() {
	local list
	list=$(grep -o '"name":"[a-z-]*","status":"[a-z]*"' report | sed -n "s/.*:\"\(.*\)\",.*:\"$1\"/\1/p" | tr '\n' ',')
	list=${list%,}
	echo "${list:-nothing}" | sed 's/,/, /g'
}

# doctor_tells FEATURE CHECK...: ok if the kernel has it, else a warning.
doctor_tells() {
	local feature=$1
	shift
	for check; do doctor_says "$check" "$(either "$feature" ok warn)"; done
}

# It warns of what is lacking, and of nothing else.
check_doctor() {
	examine "$cgshim"
	for check in cgroup-mount placement permission controller-pids controller-cpu controller-io clone-into-cgroup pidfd self-test-pids \
		self-test-wall-time self-test-cpu-time change-user net-namespace user-namespaces; do
		doctor_says $check ok
	done
	doctor_says landlock "$([ "$(abi)" -ge 3 ] && echo ok || echo warn)"
	doctor_says shield "$([ "$(abi)" -ge 6 ] && echo ok || echo warn)"
	doctor_tells cpuset controller-cpuset
	doctor_tells pids.peak pids-peak
	if has memory; then
		doctor_says controller-memory ok
		doctor_says self-test-oom ok
	else
		doctor_says controller-memory fail
		doctor_says self-test-oom fail
	fi
	case $cgroups in
	v2)
		doctor_tells memory.swap.max swap-accounting
		doctor_tells memory.peak memory-peak
		doctor_tells cgroup.kill cgroup-kill
		doctor_tells cpu.pressure pressure
		! has memory || doctor_tells oom_group_kill oom-kills
		;;
	*)
		doctor_tells memory.memsw.limit_in_bytes swap-accounting
		doctor_tells memory memory-peak
		doctor_says cgroup-kill "$(v1_kill && echo ok || echo warn)"
		doctor_says pressure "$(v1_kill && has cpu.pressure && echo ok || echo warn)"
		! has memory || doctor_says oom-kills ok
		;;
	esac
	[ "$(grep -o '{"name":"' report | wc -l)" = "$(sort -u told | wc -l)" ] || fail "doctor has other checks, too: $(cat report)"
	how '`doctor` warns of' "$(doctor_list warn)"
	has memory || how '`doctor` fails' "$(doctor_list fail)"
	case $cgroups in
	v2) how 'the program is in its group by' '`CLONE_INTO_CGROUP`' ;;
	*) how 'the program is in its group by' "$(v1_kill && echo '`CLONE_INTO_CGROUP`, and ')writing 0 to \`tasks\`" ;;
	esac
}
