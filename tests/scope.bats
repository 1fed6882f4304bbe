#!/usr/bin/env bats
# On a host that systemd manages: runs are in scopes, or below what is delegated.

load helpers
load systemd

setup() { requires root systemd alice; }

# started: the manager, the group and the reason of the run that wrote $output.
started() { jq -r 'select(.type == "started") | .manager, .cgroup, .placement' <<<"$output"; }

# of_result EXPRESSION: of the results in $output, which may have cgshim's complaints between them.
of_result() { grep '^{' <<<"$output" | jq -r "select(.type == \"result\") | $1"; }

verdict() { of_result .verdict; }

# units: those of ours that a manager still knows.
units() {
	systemctl list-units --all --plain --no-legend 'cgshim*'
	session systemctl --user list-units --all --plain --no-legend 'cgshim*'
}

no_units() { [ -z "$(units)" ]; }

# scopes: directories of scopes of ours.
scopes() { find /sys/fs/cgroup -type d -name 'cgshim-*.scope'; }

teardown() {
	[ -z "$(scopes)" ]
	eventually no_units
	nothing_left
}

APP=/user.slice/user-1000.slice/user@1000.service/app.slice

@test "a user needs nothing: the run is in a scope of her manager's" {
	run -0 session "$CGSHIM" --name first --mem 64M --pids 1 --events -- "$NOOP"
	[ "$(started)" = "systemd
$APP/cgshim-first.scope/first
systemd manages the hierarchy, and has not delegated us a part of it" ]
	[ "$(verdict)" = ok ]
	# shellcheck disable=SC2034 # for shim
	local VIA=session
	shim --mem 32M -- "$PROG" touch $((64 * MIB))
	is verdict memory-limit signal 9
	shim --mem 64M --pids 1 -- "$NOOP"
	is verdict ok pids_peak 1
	holds '.peak_memory_bytes <= 786432' # nothing of cgshim
}

@test "make run's program works for her as it is" {
	run -0 --separate-stderr session "$TOP/tests/demo" "$CGSHIM"
	[ "$(jq -r .verdict <<<"$stderr")" = ok ]
}

@test "without systemd's own socket it is asked by the bus" {
	local hide='for s in /run/systemd/private /run/user/1000/systemd/private; do mount --bind /dev/null "$s" || exit 99; done; exec "$@"'
	run -0 unshare --mount sh -c "$hide" sh "$CGSHIM" --manager systemd --mem 64M -- "$NOOP"
	[ "$(verdict)" = ok ]
	run -0 unshare --mount sh -c "$hide" sh setpriv --reuid=1000 --regid=1000 --clear-groups \
		env XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus \
		"$CGSHIM" --manager systemd --mem 64M -- "$NOOP"
	[ "$(verdict)" = ok ]
}

@test "root's is in a scope of the system's, and the hierarchy is as before" {
	local before after
	before=$(cat /sys/fs/cgroup/cgroup.subtree_control /sys/fs/cgroup/system.slice/cgroup.subtree_control)
	run -0 root_service "$CGSHIM" --name first --mem 64M --cpuset-cpus 0 --events -- "$NOOP"
	[[ $(started) == $'systemd\n/system.slice/cgshim-first.scope/first\n'* ]]
	[ "$(verdict)" = ok ]
	# Not ours to compare: what systemd adds for the scope.
	after=$(cat /sys/fs/cgroup/cgroup.subtree_control /sys/fs/cgroup/system.slice/cgroup.subtree_control)
	local controller
	for controller in $before; do [[ $after == *$controller* ]]; done
	run -0 "$CGSHIM" --manager systemd --parent /machine.slice --name a@b+c --events -- "$NOOP"
	[[ $(started) == $'systemd\n/machine.slice/cgshim-a'*'/a@b+c'* ]]
}

@test "in a unit that is delegated the run is below it" {
	run -0 root_scope "$CGSHIM" --mem 64M --events -- "$NOOP"
	[[ $(started) =~ ^cgroupfs.*/system.slice/run-.*\.scope/cgshim/ && $(verdict) = ok ]]
	run -0 user_scope "$CGSHIM" --mem 64M --events -- "$NOOP"
	[[ $(started) =~ ^cgroupfs.*/app.slice/run-.*\.scope/cgshim/ && $(verdict) = ok ]]
}

@test "… if others are in it, only with --nest" {
	local where
	for where in root_scope user_scope; do
		run $where sh -c '"$0" --mem 64M -- "$1"; exit 0' "$CGSHIM" "$NOOP"
		[[ $output == *'"step":"cgroup"'*--nest* ]]
		run -0 $where sh -c '"$0" --nest --mem 64M -- "$1" && "$0" --mem 64M -- "$1"' "$CGSHIM" "$NOOP"
		[ "$(verdict)" = $'ok\nok' ]
	done
}

@test "in a batch job of somebody else's a user does not leave its limits unasked" {
	local alice="setpriv --reuid=1000 --regid=1000 --clear-groups env XDG_RUNTIME_DIR=/run/user/1000"
	# shellcheck disable=SC2086
	run -125 root_scope $alice "$CGSHIM" --mem 64M -- "$NOOP"
	[[ $(of_result '.error.step, .error.errno, .error.hint') == $'cgroup\nEACCES\n'*'--manager systemd'* ]]
	# shellcheck disable=SC2086
	run -0 root_scope $alice "$CGSHIM" --manager systemd --mem 64M -- "$NOOP"
	[ "$(verdict)" = ok ]
}

@test "a name that is taken is refused" {
	session "$CGSHIM" --name twice --fd 1 --stdout /dev/null -- sleep 1000 >"$BATS_TEST_TMPDIR/one" 2>/dev/null 3>&- &
	eventually test -d "/sys/fs/cgroup$APP/cgshim-twice.scope/twice"
	run -125 session "$CGSHIM" --name twice -- "$NOOP"
	[[ $output == *'"step":"cgroup","errno":"EEXIST"'* ]]
	# root sees alice's runs, and can end them.
	run -0 "$CGSHIM" ps
	[[ $output == *twice*'sleep 1000'* ]]
	run -0 session "$CGSHIM" kill twice
	eventually grep -q cancelled "$BATS_TEST_TMPDIR/one"
}

@test "kill -9 of cgshim leaves nothing, nor a unit" {
	session "$CGSHIM" --name killed --fd 1 -- sh -c 'setsid sleep 1000 & sleep 1000' >/dev/null 2>&1 3>&- &
	eventually test -d "/sys/fs/cgroup$APP/cgshim-killed.scope/killed"
	eventually pids_of_two
	kill -9 "$("$CGSHIM" stat --json killed | jq .cgshim_pid)"
	eventually test ! -d "/sys/fs/cgroup$APP/cgshim-killed.scope"
	eventually no_units
}

pids_of_two() { [ "$("$CGSHIM" stat --json killed | jq .pids)" = 3 ]; }

@test "… and of its guardian: gc" {
	session "$CGSHIM" --name killed --fd 1 -- sh -c 'setsid sleep 1000 & sleep 1000' >/dev/null 2>&1 3>&- &
	eventually test -d "/sys/fs/cgroup$APP/cgshim-killed.scope/killed"
	eventually pids_of_two
	local shim
	shim=$("$CGSHIM" stat --json killed | jq .cgshim_pid)
	kill -9 "$(pgrep -P "$shim" -x cg-guardian)" "$shim"
	eventually gone "$shim"
	run -0 session "$CGSHIM" gc
	[ "$output" = "$APP/cgshim-killed.scope/killed" ]
	eventually test ! -d "/sys/fs/cgroup$APP/cgshim-killed.scope"
}

@test "what moves about in the scope ends with the run" {
	# shellcheck disable=SC2016
	run -0 session "$CGSHIM" --name roams -- bash -c '
		scope=/sys/fs/cgroup$(sed -n "s/^0:://p" /proc/self/cgroup)/..
		setsid sh -c "echo \$\$ >$scope/cgshim-supervisor/cgroup.procs; exec sleep 987654" &
		until [ "$(wc -l <$scope/cgshim-supervisor/cgroup.procs)" -ge 2 ]; do sleep 0.05; done'
	[ "$(verdict)" = ok ]
	run -1 pgrep -f 'sleep 987654'
	# Its main program, too.
	# shellcheck disable=SC2016
	run session "$CGSHIM" --name roams --wall-time 1 -- bash -c '
		echo $$ >/sys/fs/cgroup$(sed -n "s/^0:://p" /proc/self/cgroup)/../cgshim-supervisor/cgroup.procs; exec sleep 987654'
	[ "$(verdict)" = wall-time-limit ]
	run -1 pgrep -f 'sleep 987654'
}

@test "runs in a slice of a slice are found" {
	"$CGSHIM" --manager systemd --parent /cgshimtest-a.slice --name deep --output "$BATS_TEST_TMPDIR/deep" -- sleep 1000 3>&- &
	eventually "$CGSHIM" kill deep 2>/dev/null
	eventually [ -s "$BATS_TEST_TMPDIR/deep" ]
	take_result "$BATS_TEST_TMPDIR/deep"
	is verdict cancelled
	[[ $(jq -r .cgroup <<<"$result") == /cgshimtest.slice/cgshimtest-a.slice/* ]]
	systemctl stop cgshimtest.slice
}

@test "a manager that does not answer does not hold up the end" {
	local manager begin
	manager=$(systemctl show --property MainPID --value user@1000.service)
	kill -STOP "$manager"
	setpriv --reuid=1000 --regid=1000 --clear-groups env XDG_RUNTIME_DIR=/run/user/1000 \
		"$CGSHIM" --manager systemd --name unanswered --fd 1 --stdout /dev/null -- "$NOOP" >"$BATS_TEST_TMPDIR/one" 2>/dev/null 3>&- &
	sleep 2
	kill -0 $!
	begin=$SECONDS
	kill -TERM $!
	eventually [ -s "$BATS_TEST_TMPDIR/one" ]
	kill -CONT "$manager"
	[ $((SECONDS - begin)) -lt 20 ] # systemd may take 30 s
	take_result "$BATS_TEST_TMPDIR/one"
	is verdict error error.step cgroup
	holds '(.error.message | contains("systemd does not answer: told to stop")) and (.error.hint | contains("systemctl status"))'
	eventually gone $!
}

@test "many at once" {
	run -0 session sh -c 'for i in 1 2 3 4 5; do "$0" --mem 64M --pids 1 -- "$1" & done; wait' "$CGSHIM" "$NOOP"
	[ "$(verdict | grep -c ok)" = 5 ]
}

@test "a launch that is tried again stays in the scope (--best-effort, no network namespace for a user with --allow-new-privs)" {
	run -0 session "$CGSHIM" --best-effort --net none --allow-new-privs --mem 64M -- "$NOOP"
	[ "$(jq -c '[.verdict, (.enforced | del(.shield))]' <<<"$output")" = '["ok",{"mem":"cgroup","net":"none"}]' ]
}

@test "no network for a user, in a user namespace" {
	run -0 session "$CGSHIM" --net none --mem 64M --pids 1 -- "$NOOP"
	[ "$(jq -c '[.verdict, .pids_peak, (.enforced | del(.shield))]' <<<"$output")" = '["ok",1,{"mem":"cgroup","net":"namespace","pids":"cgroup"}]' ]
}

@test "what the manager has not been delegated: the hint's commands make it work" {
	run -125 session "$CGSHIM" --cpuset-cpus 0 -- "$NOOP"
	local hint
	hint=$(of_result .error.hint)
	[[ $hint == 'as root: '*'; and log in again'* ]]
	hint=${hint#as root: }
	bash -c "${hint%; and log in again*}"
	systemctl restart user@1000.service # as new logins do, when the last session has ended
	run -0 session "$CGSHIM" --cpuset-cpus 0 -- "$NOOP"
	[ "$(verdict)" = ok ]
	rm -r /etc/systemd/system/user@.service.d
	systemctl daemon-reload
	systemctl restart user@1000.service
}

@test "a user without a manager is told how to get one" {
	useradd --uid 1001 bob 2>/dev/null || true
	local bob="setpriv --reuid=1001 --regid=1001 --clear-groups env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS"
	# shellcheck disable=SC2086
	run -125 $bob "$CGSHIM" --mem 64M -- "$NOOP"
	[[ $(of_result .error.hint) == *'loginctl enable-linger'* ]]
	# shellcheck disable=SC2086
	run -0 $bob "$CGSHIM" --best-effort --mem 64M -- "$NOOP"
	loginctl enable-linger bob
	eventually systemctl is-active user@1001.service
	# shellcheck disable=SC2086
	run -0 $bob "$CGSHIM" --mem 64M -- "$NOOP"
	[ "$(verdict)" = ok ]
	loginctl disable-linger bob
}
