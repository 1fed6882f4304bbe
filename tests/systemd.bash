# The places of a systemd host from which cgshim is called; for the suites of the systemd machine. See vm/README.md.
# Each runs COMMAND and returns its exit status; the command has the caller's standard files and descriptor 3.
# shellcheck shell=bash

# session COMMAND...: as alice, in a session of her own, as ssh makes one: /user.slice/user-1000.slice/session-N.scope.
session() {
	XDG_SESSION_TYPE=tty XDG_SESSION_CLASS=user runuser --login -c 'exec "$@"' alice -- sh "$@"
}

# user_scope COMMAND...: as alice, in a group that her service manager has delegated to her.
user_scope() { session systemd-run --user --scope --quiet -p Delegate=yes "$@"; }

# root_scope COMMAND...: as root, in a group that systemd has delegated.
root_scope() { systemd-run --scope --quiet -p Delegate=yes "$@"; }

# root_service COMMAND...: as root, as systemd starts services: in a group that is not delegated, by systemd itself.
root_service() {
	# It inherits no descriptor 3; and $ means something to systemd.
	systemd-run --quiet --collect --pipe --wait --working-directory="$PWD" --setenv=PATH="$PATH" \
		bash -c 'exec "$$@" 3>>"$$0"' "/proc/$BASHPID/fd/3" "${@//\$/\$\$}"
}

# group_of WHERE...: the cgroup that a command is in there.
group_of() { "$@" sed -n 's/^0:://p' /proc/self/cgroup; }
