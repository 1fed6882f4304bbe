# Part of tests/kernels: where figures are from, and that they are right.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

# Each figure of a run with limits: where it is from, and nothing of it is guessed.
check_figures() {
	if has memory; then
		shim --mem 64M --pids 8 --cpus 1 -- "$prog" hold $((4 * mib)) 0.05
	else
		shim --pids 8 --cpus 1 -- "$prog" hold $((4 * mib)) 0.05
	fi
	exits 0
	from pids_denied pids.events pids_peak "$(either pids.peak pids.peak '')" cpu_throttled_seconds cpu.stat \
		voluntary_context_switches wait4 involuntary_context_switches wait4
	case $cgroups in
	v2) figures_v2 ;;
	*) figures_v1 ;;
	esac
	how 'most tasks at once' "$(either pids.peak '`pids.peak`' null)"
}

figures_v2() {
	from cpu_seconds cpu.stat cpu_user_seconds cpu.stat cpu_system_seconds cpu.stat io_read_bytes io.stat io_write_bytes io.stat \
		pressure_cpu_some_seconds "$(either cpu.pressure cpu.pressure '')" \
		pressure_cpu_full_seconds "$(either cpu.pressure:full cpu.pressure '')" \
		pressure_io_some_seconds "$(either cpu.pressure io.pressure '')" \
		pressure_io_full_seconds "$(either cpu.pressure io.pressure '')" \
		pressure_memory_some_seconds "$(either cpu.pressure memory.pressure '')" \
		pressure_memory_full_seconds "$(either cpu.pressure memory.pressure '')"
	how 'CPU time' '`cpu.stat`'
	how 'I/O' '`io.stat`'
	case $(either cpu.pressure some none)-$(either cpu.pressure:full full none) in
	none-*) how pressure null ;;
	some-none) how pressure '`cpu.pressure`, …; `pressure_cpu_full_seconds` is null' ;;
	*) how pressure '`cpu.pressure`, …' ;;
	esac
	if ! has memory; then
		from peak_memory_bytes '' oom_kills '' peak_swap_bytes '' memory_anon_bytes ''
		how 'peak memory' null
		return
	fi
	from oom_kills memory.events peak_memory_bytes "$(either memory.peak memory.peak sampled)" \
		peak_swap_bytes "$(either memory.swap.peak memory.swap.peak "$(either memory.swap.max memory.swap.max /proc/swaps)")"
	if has memory.peak; then warns; else warns 'peak_memory_bytes is sampled every 10ms: this kernel does not keep the peak'; fi
	how 'peak memory' "$(either memory.peak '`memory.peak`' 'sampled every 10 ms; the limit, if that was reached')"
}

figures_v1() {
	local time=cpuacct.usage user=cpuacct.usage_user system=cpuacct.usage_sys pressure=
	if v1_kill; then
		time=cpu.stat user=cpu.stat system=cpu.stat
		! has cpu.pressure || pressure=pressure
	fi
	from cpu_seconds $time cpu_user_seconds $user cpu_system_seconds $system io_read_bytes wait4 io_write_bytes wait4 \
		pressure_cpu_some_seconds "${pressure:+cpu.pressure}" pressure_memory_some_seconds "${pressure:+memory.pressure}" \
		pressure_io_some_seconds "${pressure:+io.pressure}"
	how 'CPU time' "\`$time\`"
	how 'I/O' '`wait4`'
	how pressure "$(if [ -n "$pressure" ]; then echo '`cpu.pressure`, …'; else echo null; fi)"
	if ! has memory; then
		from peak_memory_bytes '' oom_kills '' peak_swap_bytes '' memory_anon_bytes ''
		how 'peak memory' null
		return
	fi
	from oom_kills memory.oom_control peak_memory_bytes memory.max_usage_in_bytes peak_swap_bytes /proc/swaps
	warns
	how 'peak memory' '`memory.max_usage_in_bytes`'
}

# The main job, and what it exists for: --pids 1 is enough, each time.
check_pids_1_fifty_times() {
	for _ in $(seq 50); do
		shim --mem 64M --pids 1 -- "$noop"
		exits 0
		is verdict '"ok"' exit_code 0 error null pids_denied 0 pids_peak "$(either pids.peak 1 null)"
	done
}

# Nothing of cgshim's is the program's: group, CPU clock, memory.
check_program_alone() {
	shim --mem 64M -- "$prog" cgroup
	exits 0
	value cgroup
	eval "grep -q $value stdout" || fail "it was not in its group: $(cat stdout)"
	shim --mem 64M -- "$prog" clock
	exits 0
	read -r micros kib <stdout
	[ "$kib" -le 4096 ] || fail "ru_maxrss of $kib KiB is not its own"
	[ "$micros" -le 500000 ] || fail "$micros us of CPU time are not its own"
}

check_peak() {
	shim --mem 64M -- "$prog" hold $((16 * mib)) 1
	exits 0
	is verdict '"ok"' oom_kills 0
	between $((16 * mib)) peak_memory_bytes $((20 * mib))
}

# A limit that was reached is the peak, however little of it the samples have seen.
check_peak_at_the_limit() {
	shim --mem 16M -- "$prog" touch $((64 * mib))
	is verdict '"memory-limit"'
	case $cgroups-$(either memory.peak kept sampled) in
	v2-sampled) is peak_memory_bytes $((16 * mib)) ;;
	*) between $((16 * mib - 65536)) peak_memory_bytes $((16 * mib + 65536)) ;; # the kernel may charge some pages more
	esac
}

# Memory by kind is of the moment: unknown, unless somebody has looked meanwhile.
check_memory_by_kind() {
	shim --mem 64M --sample 20ms -- "$prog" hold $((16 * mib)) 0.5
	exits 0
	between $((15 * mib)) memory_anon_bytes $((20 * mib)) # counted in batches
	from memory_anon_bytes sampled
	case $cgroups in
	v2) kernel=$(either memory.stat:kernel sampled '') ;;
	*) kernel=$(either memory.kmem.usage_in_bytes sampled '') ;;
	esac
	from memory_kernel_bytes "$kernel"
	how 'memory by kind' "$(if [ -n "$kernel" ]; then echo 'sampled'; else echo 'sampled; `memory_kernel_bytes` is null'; fi)"
	shim --mem 64M -- "$prog" hold $((16 * mib)) 0.05
	# Where the peak is sampled, these are, too.
	case $cgroups-$(either memory.peak kept sampled) in
	v2-sampled) from memory_anon_bytes sampled ;;
	*) from memory_anon_bytes '' memory_file_bytes '' memory_kernel_bytes '' ;;
	esac
}

# Pressure: of a program that waits for its limit of CPU bandwidth.
check_pressure() {
	shim --cpus 0.1 -- "$prog" spin 1 0.2
	exits 0
	if [ "$cgroups" = v2 ] || v1_kill; then
		if has cpu.pressure; then between 0.01 pressure_cpu_some_seconds 60; else is pressure_cpu_some_seconds null; fi
	else
		is pressure_cpu_some_seconds null
	fi
}

check_cpu_time_adds_up() {
	shim -- "$prog" spin 1 0.3
	exits 0
	between 0.25 cpu_seconds 5
	value cpu_seconds
	total=$value
	value cpu_user_seconds
	user=$value
	value cpu_system_seconds
	awk "BEGIN { d = $user + $value - $total; exit !(-0.000002 < d && d < 0.000002) }" || fail "$user + $value is not $total"
}

check_threads() {
	shim --pids 4 -- "$prog" spin 4 0.2
	exits 0
	is pids_denied 0 pids_peak "$(either pids.peak 4 null)"
	shim --pids 3 -- "$prog" spin 4 0.2
	exits 99
	between 1 pids_denied 1
}

# What the page cache does not have is read from a device.
check_io() {
	modprobe loop
	dd if=/dev/urandom of=/dev/shm/disk bs=1M count=4 2>/dev/null
	losetup /dev/loop1 /dev/shm/disk
	for limit in '' --device-read-bps=/dev/loop1:64M; do
		echo 1 >/proc/sys/vm/drop_caches
		shim $limit -- /bin/dd if=/dev/loop1 of=/dev/null bs=64k
		exits 0
		between $((4 * mib)) io_read_bytes $((5 * mib))
		case $cgroups-$limit in
		v2-*) from io_read_bytes io.stat ;;
		*-) from io_read_bytes wait4 ;;
		*) from io_read_bytes blkio.throttle.io_service_bytes_recursive ;; # v1 counts where it limits
		esac
	done
	losetup -d /dev/loop1
	rm /dev/shm/disk
}
