#!/usr/bin/env bats
# What cgshim doctor says on a host that systemd manages and in containers, pasted.

load helpers
load systemd
load containers
load doctor

setup() { requires root systemd alice; }

@test "a user: all but what her manager was not given; pasted, nothing but root's is missing" {
	AS=(session)
	doctor
	exits 0
	holds '.placement.manager == "systemd"'
	check controller-cpuset warn
	check controller-io warn
	check change-user warn
	check self-test-oom ok
	local lines
	lines=$(jq -r '.checks[] | select(.name == "controller-cpuset") | .remedy' <<<"$result")
	bash -c 'sudo() { "$@"; }; eval "$0"' "$lines"
	systemctl restart user@1000.service # as new logins do, when the last session has ended
	doctor
	rm -r /etc/systemd/system/user@.service.d
	systemctl daemon-reload
	systemctl restart user@1000.service
	exits 0
	all_but change-user
}

@test "root: everything, in a service and in a scope" {
	for AS in root_service root_scope; do
		doctor
		exits 0
		all_but
	done
}

@test "a user without a service manager: pasted, he has one" {
	useradd --uid 1001 bob 2>/dev/null || true
	local bob="setpriv --reuid=1001 --regid=1001 --clear-groups env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS" lines
	# shellcheck disable=SC2206 # they are words
	AS=($bob)
	doctor
	exits 1
	check placement fail
	lines=$(jq -r '.checks[] | select(.name == "placement") | .remedy' <<<"$result")
	paste_as "$bob" "$lines"
	echo "$output"
	loginctl disable-linger bob
	[[ $output == *$'0: doctor\n'* ]]
}

# flags TOOL CHECK: podman's or docker's, of a remedy.
flags() { jq -r --arg name "$2" '.checks[] | select(.name == $name) | .remedy' <<<"$result" | sed -n "s/^$1 run \\(.*\\) IMAGE\\b[^#]*\$/\\1/p"; }

@test "a container: read-only; with the flags from the remedies, all works" {
	local where tool options
	for where in podman_root podman_alice docker_root; do
		tool=${where%_*}
		AS=("$where" --)
		doctor
		exits 1
		check permission fail
		read -ra options <<<"$(flags "$tool" permission) $(flags "$tool" net-namespace)"
		# shellcheck disable=SC2034 # for doctor
		AS=("$where" "${options[@]}" --)
		doctor
		exits 0
		check self-test-oom ok
		check net-namespace ok
	done
}

@test "what Docker's defaults take away, and one of its flags" {
	local less=(--cap-drop=SETUID --cap-drop=SETGID --cgroupns=host --volume=/sys/fs/cgroup:/sys/fs/cgroup) options
	AS=(docker_root "${less[@]}" --)
	doctor
	exits 0
	check change-user warn
	check user-namespaces warn
	read -ra options <<<"$(flags docker change-user) $(flags docker user-namespaces)"
	# shellcheck disable=SC2034 # for doctor
	AS=(docker_root "${less[@]}" "${options[@]}" --)
	doctor
	exits 0
	check change-user ok
	check user-namespaces ok
}
