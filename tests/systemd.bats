#!/usr/bin/env bats
# The systemd machine is what the suites for such hosts take it for. See vm/README.md.

load helpers
load systemd

setup() { requires root systemd alice cgroups_v2; }

@test "systemd is process 1, has nothing but cgroup v2, and has started all that it should" {
	[ "$(cat /proc/1/comm)" = systemd ]
	[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]
	[ "$(grep -c ' cgroup2\? ' /proc/self/mounts)" = 1 ]
	systemctl is-active dbus.service systemd-logind.service user@1000.service
	[ -z "$(systemctl list-units --failed --plain --no-legend)" ]
}

@test "a session: alice's own scope, which is not hers to write to" {
	local group
	group=$(group_of session)
	echo "# $group" >&3
	[[ $group =~ ^/user.slice/user-1000.slice/session-[c0-9]+.scope$ ]]
	[ "$(session id -un)" = alice ]
	session sh -c '[ "$XDG_RUNTIME_DIR" = /run/user/1000 ] && [ -S "$XDG_RUNTIME_DIR/bus" ]'
	run -1 session sh -c '[ -w "/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)/cgroup.procs" ]'
}

@test "alice's service manager has the controllers that cgshim needs" {
	local manager=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service
	echo "# $(cat $manager/cgroup.controllers)" >&3
	grep -qw cpu $manager/cgroup.controllers
	grep -qw memory $manager/cgroup.controllers
	grep -qw pids $manager/cgroup.controllers
	[ "$(stat -c %U $manager/cgroup.procs)" = alice ]
}

@test "a scope of alice's: delegated to her, with those controllers" {
	local group
	group=$(group_of user_scope)
	echo "# $group" >&3
	[[ $group =~ ^/user.slice/user-1000.slice/user@1000.service/app.slice/run-[^/]+.scope$ ]]
	user_scope sh -c 'cd "/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)" && [ -w cgroup.procs ] && mkdir below &&
		rmdir below && [ "$(cat cgroup.controllers)" = "cpu memory pids" ]'
}

# delegated WHERE...: whether systemd has marked that group so.
delegated() {
	"$@" python3 -c 'import os
os.getxattr("/sys/fs/cgroup" + open("/proc/self/cgroup").read()[3:-1], "user.delegate")'
}

@test "a scope of root's: delegated, with every controller" {
	[[ $(group_of root_scope) =~ ^/system.slice/run-[^/]+.scope$ ]]
	root_scope sh -c 'cd "/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)" &&
		[ "$(cat cgroup.controllers)" = "cpuset cpu io memory pids" ]'
	delegated root_scope
}

@test "a service of root's: not delegated" {
	[[ $(group_of root_service) =~ ^/system.slice/run-[^/]+.service$ ]]
	run -1 delegated root_service
	[ "$(root_service sh -c 'echo "$1"' sh 'a  $b')" = 'a  $b' ]
}

@test "each has the caller's descriptor 3, and gives the exit status" {
	local where
	for where in session user_scope root_scope root_service; do
		run -7 "$where" sh -c 'echo "$0" >&3; exit 7' "$where" 3>>"$BATS_TEST_TMPDIR/three"
	done
	[ "$(tr '\n' ' ' <"$BATS_TEST_TMPDIR/three")" = "session user_scope root_scope root_service " ]
}

@test "a result from each of them" {
	# shellcheck disable=SC2034 # for shim
	for VIA in session user_scope root_scope root_service; do
		shim --best-effort -- "$NOOP"
		is verdict ok
	done
}
