# Part of tests/kernels: the limit of memory, OOM kills, swap.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

check_memory_limit() {
	shim --mem 16M --pids 1 -- "$prog" touch $((64 * mib))
	exits 137
	is verdict '"memory-limit"' exit_code null signal 9 limits_hit '["memory"]'
	between $((8 * mib)) peak_memory_bytes $((16 * mib))
}

# A grandchild's end by the limit ends the run.
check_memory_limit_of_a_grandchild() {
	shim --mem 16M -- "$prog" grandchild $((64 * mib))
	is verdict '"memory-limit"' limits_hit '["memory"]' leftover_killed 0
	case $cgroups in
	v2)
		is signal 9
		how 'out of memory' 'the kernel kills all (`memory.oom.group`)'
		;;
	*) how 'out of memory' 'cgshim kills all when `memory.oom_control` tells' ;;
	esac
}

# One process is one, on every version, or unknown.
check_oom_kills_of_one() {
	for _ in 1 2 3; do
		shim --mem 16M --pids 1 -- "$prog" touch $((64 * mib))
		is verdict '"memory-limit"'
		case $cgroups-$(either oom_group_kill told unknown) in
		v2-told)
			is oom_kills 1
			from oom_kills memory.events
			;;
		v2-unknown) from oom_kills '' ;;
		*)
			is oom_kills 1
			from oom_kills memory.oom_control
			;;
		esac
	done
}

# Of three, one is too large. v2 counts the three that the kernel has killed, and v1 that one.
check_oom_kills_of_three() {
	rm -f a b
	shim --mem 16M -- /bin/sh -c "$prog deaf >a & $prog deaf >b & until [ -s a ] && [ -s b ]; do usleep 10000; done
		exec $prog touch $((64 * mib))"
	is verdict '"memory-limit"' signal 9
	case $cgroups-$(either oom_group_kill told unknown) in
	v2-told)
		# Mostly 3. The first one is not always counted twice, which was seen on a busy arm64 machine; see cgshim-result(5).
		between 2 oom_kills 3
		how 'OOM kills' '`memory.events`, less `oom_group_kill`: all processes'
		;;
	v2-unknown)
		from oom_kills ''
		how 'OOM kills' '`memory.events`, if they are 0 or 1, else null'
		;;
	*)
		is oom_kills 1
		how 'OOM kills' '`memory.oom_control`: those that the kernel chose'
		;;
	esac
}

# At a limit above the run's own it is not the program's fault, and the warning says whose limit it is.
check_memory_limit_above() {
	local memory=$groups above=/above
	[ "$cgroups" = v2 ] || memory=$groups/memory
	[ "$cgroups" != v2 ] || echo +memory +pids >"$groups/cgroup.subtree_control"
	mkdir "$memory$above"
	[ ! -e "$memory$above/memory.use_hierarchy" ] || echo 1 >"$memory$above/memory.use_hierarchy" # not the default before 5.11
	if [ "$cgroups" = v2 ]; then
		echo $((16 * mib)) >"$memory$above/memory.max"
	else
		echo $((16 * mib)) >"$memory$above/memory.limit_in_bytes"
	fi
	shim --parent "$above" --mem 64M -- "$prog" touch $((32 * mib))
	is verdict '"signaled"' signal 9 limits_hit '[]'
	warns '"/above\" (16777216 bytes)'
	case $cgroups-$(either oom_group_kill told unknown) in
	v2-unknown) from oom_kills '' ;;
	*) is oom_kills 1 ;;
	esac
	eventually rmdir "$memory$above"
	[ "$cgroups" = v2 ] || rmdir "$groups"/*/above 2>/dev/null || true
}

# swap_on: makes 64 MiB of swap. There is none otherwise.
swap_on() {
	modprobe loop
	dd if=/dev/zero of=/dev/shm/swap bs=1M count=64 2>/dev/null
	losetup /dev/loop0 /dev/shm/swap
	mkswap /dev/loop0 >/dev/null
	swapon /dev/loop0
}

swap_off() {
	swapoff /dev/loop0
	losetup -d /dev/loop0
	rm /dev/shm/swap
}

# What a program may have of it: nothing, unless --swap says so; and where the kernel can't limit it, no limit is said to hold.
check_swap() {
	local limit=memory.swap.max
	[ "$cgroups" = v2 ] || limit=memory.memsw.limit_in_bytes
	swap_on
	if has $limit; then swap_limited; else swap_unlimited; fi
	swap_off
}

swap_limited() {
	shim --mem 32M -- "$prog" touch $((48 * mib))
	exits 137
	is verdict '"memory-limit"'
	case $cgroups in
	v2)
		is peak_swap_bytes 0
		from peak_swap_bytes "$(either memory.swap.peak memory.swap.peak memory.swap.max)"
		;;
	*) from peak_swap_bytes '' ;;
	esac
	shim --mem 16M --swap 64M --sample 10ms -- "$prog" hold $((32 * mib)) 0.3
	exits 0
	is verdict '"ok"'
	between $((12 * mib)) peak_swap_bytes $((40 * mib))
	from peak_swap_bytes "$(either memory.swap.peak memory.swap.peak sampled)"
	shim --mem 16M --swap 64M -- "$prog" hold $((32 * mib)) 0.1
	exits 0
	# Where the peak of memory is sampled, that of swap is, too.
	case $cgroups-$(either memory.peak kept sampled) in
	v2-kept) from peak_swap_bytes "$(either memory.swap.peak memory.swap.peak '')" ;;
	v2-sampled) from peak_swap_bytes sampled ;;
	*) from peak_swap_bytes '' ;;
	esac
	shim --mem 16M --swap 4M -- "$prog" touch $((48 * mib))
	is verdict '"memory-limit"'
	if [ "$cgroups" = v2 ]; then
		how '`--swap`' '`memory.swap.max`'
		how 'peak swap' "$(either memory.swap.peak '`memory.swap.peak`' 'sampled with `--sample`; 0 without `--swap`')"
	else
		how '`--swap`' '`memory.memsw.limit_in_bytes`'
		how 'peak swap' 'sampled with `--sample`; 0 on a host without swap'
	fi
}

swap_unlimited() {
	shim --mem 32M -- "$noop"
	exits 125
	is verdict '"error"' step '"limit"'
	case $result in *'boot with swapaccount=1, or turn swap off'*) ;; *) fail "$result" ;; esac
	shim --mem 32M --swap 1M -- "$noop"
	exits 125
	shim --best-effort --mem 32M -- "$noop"
	exits 0
	warns 'swap: '
	how '`--swap`' 'refused, as is `--mem` if the host has swap; by `--best-effort`: `--mem` without a limit of swap'
	how 'peak swap' '0 on a host without swap'
}

check_without_memory() {
	! has memory || return 0
	shim --mem 64M -- "$noop"
	exits 125
	is verdict '"error"' step '"cgroup"'
	case $result in *'(cgshim doctor: controller-memory)'*) ;; *) fail "$result" ;; esac
	shim --best-effort --mem 64M --pids 2 -- "$prog" touch $((128 * mib))
	exits 99
	is verdict '"nonzero-exit"' mem '"rlimit"' pids '"cgroup"'
	from peak_memory_bytes wait4
	shim --pids 1 -- "$noop"
	exits 0
	how '`--mem`' 'refused; by `--best-effort`: `RLIMIT_DATA`'
}
