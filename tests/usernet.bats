#!/usr/bin/env bats
# --net none of who may not make a network namespace: in a user namespace.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

PARENT=/cgshim-bats-net

# Each hierarchy has a group of the user's, and a place in it for who calls cgshim.
setup() {
	requires root setpriv user_namespaces
	cd "$BATS_TEST_TMPDIR" && chmod 755 . || return 1
	export WHO=65533 # without processes
	caller=/sys/fs/cgroup/unified$PARENT/caller
	local controllers='+memory +pids +cpu +io'
	if has cgroups_v2; then
		echo "$controllers" >/sys/fs/cgroup/cgroup.subtree_control
		tops=("/sys/fs/cgroup$PARENT")
		caller=/sys/fs/cgroup$PARENT/caller
	else
		local dir
		tops=()
		for dir in /sys/fs/cgroup/*/; do tops+=("${dir%/}$PARENT"); done
	fi
	local top
	for top in "${tops[@]}"; do
		mkdir "$top"
		! has cgroups_v2 || echo "$controllers" >"$top/cgroup.subtree_control"
		[ "$top/caller" != "$caller" ] || mkdir "$caller"
		chown -R "$WHO" "$top"
	done
}

teardown() {
	[ ! -d "$caller" ] || eventually rmdir "$caller" 2>/dev/null
	rmdir "${tops[@]}" || true
	nothing_left
}

# as_user COMMAND...: as the user, who has another group besides; from the user's cgroup.
as_user() {
	# shellcheck disable=SC2016 # for sh
	sh -c '[ ! -e "$0" ] || echo 0 >"$0" && exec setpriv --reuid "$WHO" --regid "$WHO" --groups 4 "$@"' "$caller/cgroup.procs" "$@"
}

# user ARG...: shim, as the user.
user() { VIA=as_user shim --parent $PARENT "$@"; }

@test "a user: no network, and limits and figures as ever" {
	cat "$NOOP" >/dev/null # else who reads it first is charged for it
	user --net none --mem 64M --pids 1 --cpus 1 -- "$NOOP"
	is verdict ok pids_peak 1 warnings '[]'
	enforced_is '{"cpus":"cgroup","mem":"cgroup","net":"namespace","pids":"cgroup"}'
	holds '.peak_memory_bytes <= 1048576' # with what the kernel takes for the namespaces
	user --net none --pids 5 -- "$PROG" forks 10
	is verdict ok pids_peak 5 pids_denied 1
	[ "$output" = "4 EAGAIN" ]
	user --net none --mem 16M -- "$PROG" touch $((64 * MIB))
	is verdict memory-limit
	user --net none --cpu-time 0.3 -- "$PROG" spin 1 100
	is verdict cpu-time-limit
	user --net none --wall-time 0.3 -- sh -c 'setsid sleep 1000 & sleep 1000'
	is verdict wall-time-limit
}

# bats test_tags=native
@test "loopback, which works, and nothing else" {
	only_loopback user
}

@test "the program is who it was, with its rights, and without capabilities" {
	local file
	for file in own others group; do echo "$file" >$file && chmod 640 $file; done
	chown "$WHO:$WHO" own
	chown 1:4 group
	mkdir -m 777 dir
	user --net none -- sh -c 'id -u; id -g; cat own others group 2>/dev/null; touch dir/new
		stat -c %u own others; grep -E "^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):" /proc/self/status'
	[ "$output" = "$WHO
$WHO
own
group
$WHO
65534
CapInh:	0000000000000000
CapPrm:	0000000000000000
CapEff:	0000000000000000
CapAmb:	0000000000000000
NoNewPrivs:	1" ]
	[ "$(stat -c %u:%g dir/new)" = "$WHO:$WHO" ]
}

@test "a batch: each has its own, and the next one the caller's again" {
	local n
	for n in 1 2 3; do
		echo "{\"id\":\"none$n\",\"argv\":[\"readlink\",\"/proc/self/ns/net\"],\"stdout\":\"none$n\",\"net\":\"none\",\"pids\":1}"
		echo "{\"id\":\"host$n\",\"argv\":[\"readlink\",\"/proc/self/ns/net\"],\"stdout\":\"host$n\"}"
	done >requests
	echo '{"id":"usage","argv":["true"],"net":"none","allow-new-privs":true}' >>requests
	chown "$WHO" .
	as_user "$CGSHIM" batch --jobs 1 --parent $PARENT <requests >answers
	[ "$(grep -c '"verdict":"ok"' answers)" = 6 ]
	[ "$(grep -c '"pids_peak":1,.*"enforced":{"net":"namespace","pids":"cgroup",' answers)" = 3 ]
	grep -q '^{"id":"usage",.*"step":"usage"' answers
	for n in 1 2 3; do
		[ "$(cat host$n)" = "$(readlink /proc/self/ns/net)" ]
		[ "$(cat none$n)" != "$(cat host$n)" ]
	done
}

@test "kill -9 of cgshim leaves nothing of it" {
	as_user "$CGSHIM" --fd 2 --parent $PARENT --net none -- sh -c 'setsid sleep 1000 & echo $! $$; exec sleep 1000' >pids 2>/dev/null 3>&- &
	local daemon program
	eventually test -s pids
	read -r daemon program <pids
	kill -9 "$(ps -o ppid= -p "$program" | tr -d ' ')"
	eventually gone "$program"
	eventually gone "$daemon"
	eventually no_runs
}

no_runs() { [ -z "$(find "${tops[@]}" -mindepth 1 -type d ! -name caller)" ]; }

# bats test_tags=native
@test "with --allow-new-privs, which would do nothing there, it is a usage error" {
	user --net none --allow-new-privs -- true
	exits 125
	is verdict error error.step usage error.errno EPERM pid null
	holds '(.error.message | test("--allow-new-privs.*--net none")) and (.error.hint | test("set-user-ID"))'
	user --best-effort --net none --allow-new-privs -- readlink /proc/self/ns/net
	is verdict ok enforced.net none
	[ "$output" = "$(readlink /proc/self/ns/net)" ]
	holds '[.warnings[] | select(startswith("net: "))] | length == 1'
	shim --net none --allow-new-privs -- true
	is verdict ok enforced.net namespace
}

# refused ERRNO HINT: what the result says.
refused() {
	exits 125
	is verdict error error.step net error.errno "$1" pid null
	[[ $(field error.hint) == *$2*'(cgshim doctor: net-namespace)' ]] || { echo "hint: $(field error.hint)" >&2; return 1; }
}

# bats test_tags=native
@test "where that is forbidden: an error with a hint, or --best-effort" {
	local filter="$TOP/build/programs/filter" limit
	# A security module, or a container's seccomp profile; and one that allows the namespace, but no capability in it.
	for call in unshare ioctl; do
		VIA="as_user setpriv --no-new-privs $filter 1 $call --" shim --parent $PARENT --net none -- true
		refused EPERM "seccomp"
		VIA="as_user setpriv --no-new-privs $filter 1 $call --" shim --parent $PARENT --best-effort --net none --pids 3 -- "$PROG" forks 5
		is verdict ok enforced.net none enforced.pids cgroup
		[ "$output" = "2 EAGAIN" ]
		holds '.warnings == ["net: operation not permitted"]'
	done
	# A limit, of root in a user namespace that may make neither.
	for limit in max_user_namespaces:user.max_user_namespaces max_net_namespaces:max_net_namespaces; do
		shim_in "echo 0 >/proc/sys/user/${limit%:*}"
		refused ENOSPC "${limit#*:}"
	done
}

# bats test_tags=native
@test "a /proc that is read-only" {
	requires mount
	status=0
	# shellcheck disable=SC2016 # for sh
	unshare --mount sh -c 'mount -o remount,bind,ro /proc && exec "$@"' sh setpriv --bounding-set=-sys_admin "$CGSHIM" --fd 3 --net none -- true 3>result 2>stderr || status=$?
	take_result result
	refused EROFS "/proc"
}

# shim_in COMMANDS: after these, in a user namespace, a run by root without CAP_SYS_ADMIN.
shim_in() {
	status=0
	unshare --user --map-root-user sh -c "$1"' && exec setpriv --bounding-set=-sys_admin "$@"' sh \
		"$CGSHIM" --fd 3 --net none -- true 3>result 2>stderr || status=$?
	take_result result
}

# bats test_tags=native
@test "who may make a network namespace gets it without a user namespace" {
	shim --net none -- readlink /proc/self/ns/user
	is verdict ok enforced.net namespace
	[ "$output" = "$(readlink /proc/self/ns/user)" ]
	shim --net none -- cat /proc/net/dev
	[ "$(wc -l <<<"$output")" = 3 ]
	ambient +sys_admin,+net_admin --net none -- readlink /proc/self/ns/user
	[ "$output" = "$(readlink /proc/self/ns/user)" ]
	ambient +sys_admin --net none -- readlink /proc/self/ns/user # loopback takes the other one
	[ "$output" != "$(readlink /proc/self/ns/user)" ]
	requires strace
	strace -f -qq -o trace -e trace=unshare,setns,clone,clone3 "$CGSHIM" --output result --net none -- "$NOOP"
	[ "$(grep -c CLONE_NEWNET trace)" = 1 ]
	[ "$(grep -c CLONE_NEWUSER trace)" = 0 ]
}

# ambient CAPABILITIES ARG...: shim, as the user with these.
ambient() {
	VIA="setpriv --reuid $WHO --regid $WHO --clear-groups --inh-caps $1 --ambient-caps $1" shim --best-effort "${@:2}"
	is verdict ok enforced.net namespace
}

@test "root without CAP_SYS_ADMIN: without capabilities, and with --user" {
	VIA="setpriv --bounding-set=-sys_admin" shim --net none -- sh -c 'id -u; grep -E "^Cap(Prm|Eff):" /proc/self/status; wc -l </proc/net/dev'
	is verdict ok enforced.net namespace
	[ "$output" = "0
CapPrm:	0000000000000000
CapEff:	0000000000000000
3" ]
	VIA="setpriv --bounding-set=-sys_admin" shim --net none --user "$WHO:$WHO" -- sh -c 'id -u; cat /proc/self/uid_map; wc -l </proc/net/dev'
	is verdict ok enforced.net namespace
	[ "$(tr -s ' \n' ' ' <<<"$output")" = "$WHO $WHO $WHO 1 3 " ]
}

@test "resource limits count as without it, and are no obstacle" {
	# shellcheck disable=SC2016 # for sh
	as_user sh -c 'echo $$; exec sleep 1000' >sleeper 3>&- &
	eventually test -s sleeper
	user --net none --ulimit nproc=50 --ulimit nofile=3 --ulimit fsize=0 --ulimit core=0 -- "$NOOP"
	is verdict ok
	user --ulimit nproc=8 -- "$PROG" forks 10
	local without=$output
	user --net none --ulimit nproc=8 -- "$PROG" forks 10
	kill "$(cat sleeper)"
	[[ $without == [0-6]" EAGAIN" ]]
	[ "$output" = "$without" ]
}

# bats test_tags=native
@test "a cgshim that its user may execute, and not read" {
	install -m 711 "$CGSHIM" copy
	CGSHIM=$PWD/copy user --net none -- cat /proc/net/dev
	is verdict ok enforced.net namespace
}

@test "within it: cgshim with --net none, and bwrap" {
	user --net none -- "$CGSHIM" --fd 1 --stdout /dev/null --pids 1 --net none -- cat /proc/net/dev
	take_result stdout
	is verdict ok
	enforced_is '{"net":"namespace","pids":"cgroup"}'
	requires bwrap
	user --net none -- bwrap --unshare-user --unshare-pid --dev-bind / / --proc /proc cat /proc/net/dev
	is verdict ok
	[ "$(tail -n +3 <<<"$output" | cut -d: -f1 | tr -d ' ')" = lo ]
}

# bats test_tags=native
@test "hostile: the way back to the caller's network, and to cgshim's descriptors, is closed" {
	# shellcheck disable=SC2016 # for sh
	user --shield off --net none -- sh -c 'nsenter --net="/proc/$PPID/ns/net" true; cat "/proc/$PPID/fd/3"; nsenter --net=/proc/1/ns/net true
		unshare --user --map-root-user sh -c "nsenter --net=/proc/$PPID/ns/net true; tail -n +3 /proc/net/dev"; kill -0 $PPID && echo there' 
	[[ $output == *lo:*$'\nthere' && $(wc -l <<<"$output") == 2 ]]
	[ "$(grep -c 'denied\|not permitted' stderr)" = 4 ]
}
