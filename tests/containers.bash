# Containers on the systemd machine, with the checkout's binaries under their own paths, from which cgshim is called. Each
# runs COMMAND as process 1 of a container with a cgroup namespace of its own. See systemd.bash.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for who loads this
# What makes /sys/fs/cgroup writable, in podman's words, and in docker's.
WRITABLE=(--security-opt unmask=/sys/fs/cgroup) DOCKER_WRITABLE=(--privileged --cgroupns=private)

# rootfs USER: a root directory for containers of a user's; there is no registry to take one from.
rootfs() {
	local dir=/var/tmp/rootfs-$1 file
	if [ ! -d "$dir" ]; then
		mkdir -p "$dir"/{bin,proc,sys,dev,tmp,etc}
		cp "$(command -v busybox)" "$dir/bin/"
		for file in sh cat sleep ls grep; do ln -s busybox "$dir/bin/$file"; done
		for file in "$CGSHIM" "$PROG" "$NOOP"; do
			mkdir -p "$dir/$(dirname "$file")"
			cp "$file" "$dir/$file"
		done
		chown -R "$1" "$dir"
	fi
	echo "$dir"
}

# podman_root [OPTION...] -- COMMAND...: root's container.
podman_root() { podman_as root root_service "$@"; }

# podman_alice: the same, without root (rootless).
podman_alice() {
	[ -s /etc/subuid ] || echo alice:100000:65536 | tee /etc/subuid >/etc/subgid
	podman_as alice session "$@"
}

podman_as() {
	local dir where=$2 options command
	dir=$(rootfs "$1")
	divide "${@:3}"
	"$where" podman --log-level=error run --rm --network=none "${options[@]}" --rootfs "$dir" "${command[@]}"
}

# divide [OPTION...] -- COMMAND...: sets $options and $command.
divide() {
	options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	command=("${@:2}")
}

# docker_root [OPTION...] -- COMMAND...: root's, by Docker.
docker_root() {
	local options command
	divide "$@"
	docker_daemon || return
	docker run --rm --network=none "${options[@]}" cgshim-test "${command[@]}"
}

# docker_daemon: starts it, once, and makes an image. It needs no network, for which the machine has no modules.
docker_daemon() {
	! systemctl --quiet is-active docker.service || return 0
	echo 'DOCKER_OPTS="--iptables=false --bridge=none --storage-driver=vfs"' >/etc/default/docker
	systemctl start docker.service 3>&- && tar -C "$(rootfs root)" -c . | docker import - cgshim-test >/dev/null
}

# oci RUNTIME ro|rw COMMAND...: with runc or crun alone; ro is their default.
oci() {
	local bundle status=0
	bundle=$(mktemp -d)
	(cd "$bundle" && "$1" spec)
	printf '%s\x1e' "${@:3}" | jq --raw-input --slurp --arg rootfs "$(rootfs root)" --arg mode "$2" --slurpfile config "$bundle/config.json" '
		split("\u001e")[:-1] as $args | $config[0] |
		.process.terminal = false | .process.args = $args | .root = {path: $rootfs} |
		if $mode == "rw" then .mounts |= map(if .type == "cgroup" then .options -= ["ro"] else . end) else . end
	' >"$bundle/new" && mv "$bundle/new" "$bundle/config.json"
	"$1" run --bundle "$bundle" "$(basename "$bundle")" </dev/null || status=$?
	rm -r "$bundle"
	return $status
}
