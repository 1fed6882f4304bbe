# Part of tests/kernels: the program, and where it runs.
# shellcheck shell=dash disable=SC2016,SC2034,SC2154,SC2317,SC2329,SC3028,SC3043 # Markdown; what tests/kernels has; called by name

check_user() {
	shim --mem 64M --user 65534:65534 -- /bin/sh -c 'id -u; id -g; id -G; grep -E "NoNewPrivs|CapEff" /proc/self/status'
	exits 0
	prints "65534
65534
65534
CapEff:	0000000000000000
NoNewPrivs:	1"
}

check_no_network() {
	shim --mem 64M --net none -- /bin/sh -c 'sed -n "s/ *\(.*\):.*/\1/p" /proc/self/net/dev; ip link show lo | grep -q ,UP && echo up'
	exits 0
	prints "lo
up"
}

check_exit_status_of_the_program() {
	shim -- /bin/sh -c 'exit 42'
	exits 42
	is verdict '"nonzero-exit"' exit_code 42
	shim -- /bin/sh -c 'kill -USR1 $$'
	exits 138
	is verdict '"signaled"' signal 10 signal_name '"SIGUSR1"'
}

check_exit_status_of_cgshim() {
	shim -- /no/such/program
	exits 127
	is verdict '"error"' step '"exec"' errno '"ENOENT"'
	shim -- /etc/passwd
	exits 126
	is verdict '"error"' step '"exec"' errno '"EACCES"'
	shim --chdir /no/such/directory -- "$noop"
	exits 125
	is verdict '"error"' errno '"ENOENT"'
	status=0
	"$cgshim" --mem nonsense -- "$noop" >stdout 2>stderr || status=$?
	[ $status = 125 ] || fail "a usage error: exit status $status"
}

check_result_descriptor() {
	"$cgshim" --fd 3 -- /bin/sh -c 'ls /proc/self/fd | wc -l' 3>result >stdout
	take_result
	is verdict '"ok"'
	prints 4 # and the one that ls has open
}

# A run in a run is below it, and counted in it.
check_nested() {
	shim --mem 64M --pids 20 -- "$cgshim" --output inner --mem 32M --pids 1 -- "$prog" touch $((4 * mib))
	exits 0
	IFS= read -r result <inner
	is verdict '"ok"' pids_denied 0
	case $cgroups in
	v2)
		value cgroup
		case $value in '"/cgshim'*/*) ;; *) fail "the inner group is $value" ;; esac
		;;
	esac
	shim --mem 16M -- "$cgshim" --output inner --mem 64M -- "$prog" touch $((32 * mib))
	is verdict '"memory-limit"' limits_hit '["memory"]'
}

# A user with a group of his own needs no privileges. v1 has no way to hand one over whole.
check_user_in_his_own_group() {
	local group=$groups/users
	[ "$cgroups" = v2 ] || return 0
	echo +memory +pids +cpu >"$groups/cgroup.subtree_control"
	mkdir -p "$group/shell"
	chown 65534 "$group" "$group"/cgroup.procs "$group"/cgroup.subtree_control "$group/shell" "$group/shell/cgroup.procs"
	chmod 755 "$work"
	grep -q '^nobody:' /etc/passwd || echo 'nobody:x:65534:65534::/:/bin/sh' >>/etc/passwd
	sh -c "echo 0 >$group/shell/cgroup.procs && exec su -s /bin/sh nobody -c '$cgshim --fd 3 --mem 64M --pids 1 -- $noop'" \
		3>result >stdout 2>stderr || fail "$(cat result stderr)"
	take_result
	is verdict '"ok"' pids_peak "$(either pids.peak 1 null)"
	case $result in *'"cgroup":"/users/'*) ;; *) fail "not in his group: $result" ;; esac
	eventually rmdir "$group/shell"
	eventually rmdir "$group"
}

# Where nothing is mounted, or the controller is not there: refused, or with --best-effort what there is.
check_without_cgroups() {
	status=0
	unshare -m sh -c 'for dir in $(awk "/ cgroup/ { print \$2 }" /proc/mounts | sort -r); do umount -l "$dir"; done; exec "$@"' sh \
		"$cgshim" --output result --best-effort --mem 64M --cpu-time 10s -- "$noop" >stdout 2>stderr || status=$?
	take_result
	exits 0
	is verdict '"ok"' cgroup null mem '"rlimit"'
	from peak_memory_bytes wait4 cpu_seconds wait4 io_read_bytes wait4 pids_peak '' oom_kills ''
	warns 'no cgroup: '
}
