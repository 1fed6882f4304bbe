# Part of tests/kernels: what this kernel has, and what it is known to have.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

# probe_v2 DIR: what a cgroup2 group has.
probe_v2() {
	for file in cgroup.kill cgroup.freeze memory.peak memory.swap.max memory.swap.peak memory.oom.group memory.events.local pids.peak; do
		[ ! -e "$1/$file" ] || echo "$file"
	done
	grep -q '^kernel ' "$1/memory.stat" 2>/dev/null && echo memory.stat:kernel
	grep -q '^oom_group_kill ' "$1/memory.events" 2>/dev/null && echo oom_group_kill
	grep -q '^some ' "$1/cpu.pressure" 2>/dev/null && echo cpu.pressure
	grep -q '^full ' "$1/cpu.pressure" 2>/dev/null && echo cpu.pressure:full
}

# probe: a word for each feature that this kernel has, as it has been booted.
probe() {
	local unified=$groups
	case $cgroups in
	v2)
		for controller in memory pids cpu cpuset io; do
			echo "+$controller" 2>/dev/null >"$groups/cgroup.subtree_control" && echo "$controller"
		done
		;;
	*)
		for controller in memory pids cpu cpuset blkio cpuacct freezer; do
			mkdir "$groups/$controller/probe" 2>/dev/null && [ -e "$groups/$controller/probe/tasks" ] && echo "$controller"
		done
		for file in memory.memsw.limit_in_bytes memory.kmem.usage_in_bytes; do
			[ ! -e "$groups/memory/probe/$file" ] || echo "$file"
		done
		[ ! -e "$groups/pids/probe/pids.peak" ] || echo pids.peak
		rmdir "$groups"/*/probe
		unified=$groups/unified
		;;
	esac
	if [ -e "$unified/cgroup.procs" ]; then
		mkdir "$unified/probe"
		probe_v2 "$unified/probe"
		"$build/programs/offers" "$unified/probe"
		rmdir "$unified/probe"
	else
		"$build/programs/offers" ""
	fi
	# As it was: what a run needs it has to enable.
	if [ "$cgroups" = v2 ]; then
		read -r controllers <"$groups/cgroup.subtree_control" || true
		for controller in $controllers; do echo "-$controller" >"$groups/cgroup.subtree_control"; done
	fi
}

# all_features: those that a machine of this kind can have.
all_features() {
	echo pidfd clone3 close_range faccessat2
	echo memory pids cpu cpuset pids.peak
	[ "$cgroups" = v2 ] || echo blkio cpuacct freezer memory.memsw.limit_in_bytes memory.kmem.usage_in_bytes
	[ "$cgroups" = v1 ] || echo cgroup.kill cgroup.freeze cpu.pressure cpu.pressure:full clone-into-cgroup
	[ "$cgroups" != v2 ] || echo io memory.peak memory.swap.max memory.swap.peak memory.oom.group memory.events.local \
		memory.stat:kernel oom_group_kill
}

# expected: what is known to be lacking on this machine. The newest kernel may have more, and nothing less.
expected() {
	case ${CGSHIM_VM:-} in
	bullseye-*) # 5.10
		case $cgroups in
		v2) echo memory.peak memory.swap.peak memory.stat:kernel oom_group_kill ;;
		esac
		echo pids.peak cgroup.kill cpu.pressure:full
		;;
	bookworm-*) # 6.1
		case $cgroups in
		v2) echo memory.swap.peak ;;
		esac
		;;
	trixie-* | sid-*) # 6.12, and the newest: of these controllers Debian's kernels have v2's only
		case $cgroups in
		v2) ;;
		*) echo memory cpuset memory.memsw.limit_in_bytes memory.kmem.usage_in_bytes ;;
		esac
		;;
	*) echo "an unknown machine" ;;
	esac
	for parameter in ${CGSHIM_VM_APPEND:-}; do
		case $parameter in
		psi=0) echo cpu.pressure cpu.pressure:full ;;
		swapaccount=0) echo memory.swap.max memory.memsw.limit_in_bytes ;;
		cgroup_disable=memory)
			echo memory memory.peak memory.swap.max memory.swap.peak memory.oom.group memory.events.local memory.stat:kernel oom_group_kill \
				memory.memsw.limit_in_bytes memory.kmem.usage_in_bytes
			;;
		cgroup_disable=freezer) echo freezer ;;
		*) echo "an unknown parameter" ;;
		esac
	done
}

# has FEATURE
has() { case $features in *" $1 "*) true ;; *) false ;; esac; }

# either FEATURE YES NO: prints YES if the kernel has it.
either() { if has "$1"; then echo "$2"; else echo "$3"; fi; }

# v1_kill: on v1, with cgroup2 beside it, runs have a cgroup2 directory, too, if that has a cgroup.kill.
v1_kill() { [ "$cgroups" = hybrid ] && has cgroup.kill; }

check_features() {
	for feature in $(all_features); do
		case " $(expected | tr '\n' ' ')" in
		*" $feature "*)
			case $CGSHIM_VM in
			sid-*) ;;
			*) ! has "$feature" || fail "$feature is there, and is known not to be" ;;
			esac
			;;
		*) has "$feature" || fail "$feature is lacking, and is known to be there: $features" ;;
		esac
	done
	case $(expected) in *unknown*) fail "$(expected): $CGSHIM_VM" ;; esac
}

# abi: Landlock's, 0 for none.
abi() {
	local word abi=0
	for word in $features; do case $word in landlock=*) abi=${word#landlock=} ;; esac; done
	echo "$abi"
}

check_landlock() {
	local abi want
	abi=$(abi)
	case $CGSHIM_VM in
	bullseye-*) want=0 ;;
	bookworm-*) want=2 ;;
	trixie-*) want=6 ;;
	sid-*) [ "$abi" -ge 7 ] && want=$abi ;;
	esac
	[ "$abi" = "$want" ] || fail "Landlock's ABI: want $want, have $abi"
	case $CGSHIM_VM in sid-*) abi='7 or newer' ;; esac
	if [ "$abi" = 0 ]; then how Landlock 'none'; else how Landlock "ABI $abi"; fi
}

# A program of the same user signals nobody, where the kernel has the scope for that. Without, nothing is said in each result.
check_shield() {
	if [ "$(abi)" -ge 6 ]; then
		sleep 1000 &
		shim -- "$build/programs/escape" kill 0 1 $!
		exits 3
		kill $! || fail "the bystander is dead"
		is verdict '"nonzero-exit"' shield '"landlock"' warnings '[]'
		shim -- "$build/programs/escape" 0
		is verdict '"ok"'
		! grep open stdout || fail "not shut"
		how '`--shield`' 'Landlock'
		return
	fi
	shim -- "$noop"
	is verdict '"ok"' shield '"none"'
	case $result in *'"warnings":['*landlock*) fail "noise: $result" ;; esac
	shim --shield on -- "$noop"
	exits 125
	is verdict '"error"' step '"landlock"'
	shim --shield on --best-effort -- "$noop"
	is verdict '"ok"' shield '"none"'
	warns 'landlock: '
	how '`--shield`' 'none; `--shield on` is refused'
}

check_files() {
	local abi
	abi=$(abi)
	mkdir "$work/in" "$work/out" "$work/group"
	echo secret | tee "$work/out/secret" >"$work/out/victim"
	mkfifo "$work/out/fifo"
	cp "$build/programs/escape" "$work/out/prog"
	if [ "$abi" -lt 3 ]; then
		shim --fs-system --fs-rw "$work/in" -- "$noop"
		exits 125
		is verdict '"error"' step '"landlock"'
		shim --best-effort --fs-system --fs-rw "$work/in" --fs-ro "$build" -- /bin/sh -c "echo 1 >$work/in/x; cat $work/out/secret"
		if [ "$abi" = 0 ]; then
			is verdict '"ok"' fs '"none"' shield '"none"'
			how '`--fs-ro`, `--fs-rw`, `--fs-system`' 'refused'
		else
			is verdict '"nonzero-exit"' fs '"landlock"' shield '"none"'
			how '`--fs-ro`, `--fs-rw`, `--fs-system`' 'refused; by `--best-effort` they are Landlock without truncate'
		fi
		warns 'landlock: '
		return
	fi
	"$build/programs/escape" serve "$work/out" >"$work/ready" &
	eventually [ -s "$work/ready" ]
	shim --fs-system --fs-rw "$work/in" --fs-ro "$build/programs" -- "$build/programs/escape" 0 "$work/in" "$work/out" "$groups" /dev/kmsg
	kill $!
	is verdict '"ok"' fs '"landlock"' shield '"landlock"' warnings '[]'
	[ "$(wc -l <stdout)" = 41 ] || fail "$(cat stdout)"
	[ "$abi" -ge 9 ] || grep -qx 'path socket: open' stdout || fail "path sockets are shut: $(cat stdout)"
	[ "$abi" -lt 9 ] || grep -qx 'path socket: shut' stdout || fail "path sockets are open: $(cat stdout)"
	! grep ': open' stdout | grep -vE '^(memfd|path socket|keyring|inotify|chmod|times|stat): ' || fail "$(cat stdout)"
	how '`--fs-ro`, `--fs-rw`, `--fs-system`' "Landlock; sockets by path are $([ "$abi" -ge 9 ] && echo shut || echo open)"
}
