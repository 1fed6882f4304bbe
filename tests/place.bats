#!/usr/bin/env bats
# Where a run's group is made: below what bounds the caller, and never beside it.

load helpers

setup() { requires root; }

# place: the started event's manager, group and reason, of what is in $output.
place() { jq -r 'select(.type == "started") | .manager, .cgroup, .placement' <<<"$output"; }

# box SCRIPT: in a shell in a group of its own, cgshim-bats-box.
box() {
	export ROOTS
	ROOTS=$(roots)
	local root
	for root in $(roots); do mkdir -p "$root/cgshim-bats-box"; done
	run bash -c 'for root in $ROOTS; do echo 0 >"$root/cgshim-bats-box/cgroup.procs"; done; eval "$0"' "$@"
}

teardown() {
	remove_box
	nothing_left
}

@test "a run is beside /cgshim, with a name in it, and the events say why" {
	run "$CGSHIM" --events -- "$NOOP"
	[ "$(place)" = "cgroupfs
$(jq -r 'select(.type == "result") | .cgroup' <<<"$output")
no part of the hierarchy is ours in particular" ]
	[[ $(place) =~ $'\n/cgshim-'[0-9]+-[0-9a-f]{8}$'\n' ]]
	# No parent is made for that, and none of its lists is another run's. Others on the machine may make one, now and then.
	local _ new
	for _ in {1..20}; do
		shim -- find /sys/fs/cgroup -name cgshim -printf '%i %p\n'
		new=$(grep -vxF "$groups_before" <<<"$output") || break
	done
	[ -z "$new" ]
	run "$CGSHIM" --name cgshim-bats-place --events -- "$NOOP"
	[[ $(place) == $'cgroupfs\n/cgshim/cgshim-bats-place\n'* ]]
}

@test "--parent is obeyed" {
	run "$CGSHIM" --parent /cgshim-bats-place --events -- "$NOOP"
	[[ $(place) == $'cgroupfs\n/cgshim-bats-place/'*$'\nasked for by --parent' ]]
}

@test "cgshim in cgshim is below it, and both limits hold" {
	run "$CGSHIM" --name cgshim-bats-outer --mem 64M --pids 20 --output "$BATS_TEST_TMPDIR/outer" -- \
		"$CGSHIM" --mem 1G --pids 10 --events --stdout /dev/null -- sh -c 'sleep 0.3; exec "$@"' sh "$PROG" touch $((128 * MIB)) # the event first
	[[ $(place) == $'cgroupfs\n/cgshim/cgshim-bats-outer/cgshim/'*cgshim\'s* ]]
	take_result "$BATS_TEST_TMPDIR/outer"
	is verdict memory-limit
	run "$CGSHIM" --name cgshim-bats-outer --mem 64M --output "$BATS_TEST_TMPDIR/outer" -- \
		"$CGSHIM" --mem 16M --stdout /dev/null -- "$PROG" touch $((32 * MIB))
	[ "$(jq -r .verdict <<<"$output")" = memory-limit ]
	take_result "$BATS_TEST_TMPDIR/outer"
	# That was not the outer one's limit.
	is verdict nonzero-exit exit_code 137 limits_hit '[]'
}

@test "… and for whoever can't see trusted attributes" {
	requires bwrap setpriv
	local without
	for without in "setpriv --bounding-set -sys_admin --inh-caps -sys_admin" "bwrap --unshare-user --dev-bind / /"; do
		# shellcheck disable=SC2086
		run "$CGSHIM" --name cgshim-bats-outer --output /dev/null -- $without "$CGSHIM" --nest --events -- "$NOOP"
		[[ $(place) == $'cgroupfs\n/cgshim/cgshim-bats-outer/cgshim/'*cgshim\'s* ]]
	done
}

@test "… also with a controller that only the inner one has, and when the outer one ends it" {
	shim --name cgshim-bats-outer --wall-time 1 --mem 64M -- "$CGSHIM" --cpus 1 -- sleep 100
	is verdict wall-time-limit
	nothing_left
}

@test "… in a shell: on v2 only with --nest, which moves the shell" {
	requires cgroups_v2
	shim -- sh -c '"$CGSHIM" --mem 16M --fd 1 --stdout /dev/null -- true; exit 0'
	[ "$(jq -r .error.step <<<"$output")" = cgroup ]
	[[ $(jq -r .error.hint <<<"$output") == *--nest* ]]
	shim -- sh -c '"$CGSHIM" --nest --mem 16M --fd 1 --stdout /dev/null -- true && "$CGSHIM" --mem 16M --fd 1 --stdout /dev/null -- true && cat /proc/self/cgroup'
	exits 0
	[ "$(grep -c '"verdict":"ok"' <<<"$output")" = 2 ]
	[[ $output == *$'\n0::/cgshim-'*/nested ]]
}

# bats test_tags=native
@test "… in a shell: on v1 by itself" {
	requires cgroups_v1
	shim --name cgshim-bats-outer -- sh -c '"$CGSHIM" --mem 16M --events --fd 1 --stdout /dev/null -- true; exit 0'
	[[ $(place) == $'cgroupfs\n/cgshim/cgshim-bats-outer/cgshim/'* ]]
}

@test "many at once with --nest in one shell" {
	requires cgroups_v2
	shim -- sh -c 'for i in 1 2 3 4 5 6; do "$CGSHIM" --nest --mem 16M --fd 1 --stdout /dev/null -- true & done; wait'
	exits 0
	[ "$(grep -c '"verdict":"ok"' <<<"$output")" = 6 ]
}

# In a cgroup namespace the root looks like a container's.
IN_NAMESPACE='exec unshare --cgroup --mount sh -c "umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && $0"'

@test "in a container the run is below its root" {
	requires cgroups_v2 mount
	box "${IN_NAMESPACE/\$0/exec \$CGSHIM --mem 64M --events -- \$NOOP}"
	[[ $(place) == $'cgroupfs\n/cgshim-'*container* ]]
	[ "$(jq -r 'select(.type == "result") | .verdict' <<<"$output")" = ok ]
	# cgshim was the only one there: it has moved aside and back.
	[ "$(find /sys/fs/cgroup/cgshim-bats-box -type d)" = /sys/fs/cgroup/cgshim-bats-box ]
	[ -z "$(cat /sys/fs/cgroup/cgshim-bats-box/cgroup.subtree_control)" ]
}

@test "… killed, it leaves nothing there either" {
	requires cgroups_v2 mount
	box "${IN_NAMESPACE/\$0/exec \$CGSHIM --mem 64M -- sh -c \'kill -9 \\\$PPID; sleep 100\'}"
	[ "$status" = 137 ]
	eventually sh -c 'test "$(find /sys/fs/cgroup/cgshim-bats-box -type d)" = /sys/fs/cgroup/cgshim-bats-box'
	[ -z "$(cat /sys/fs/cgroup/cgshim-bats-box/cgroup.subtree_control)" ]
}

@test "… whose root has other processes, it needs --nest" {
	requires cgroups_v2 mount
	box "${IN_NAMESPACE/\$0/\$CGSHIM --mem 64M -- \$NOOP; true}"
	[[ $output == *'"step":"cgroup"'*--nest* ]]
	box "${IN_NAMESPACE/\$0/\$CGSHIM --nest --mem 64M -- \$NOOP; cat /proc/self/cgroup}"
	[[ $output == *'"verdict":"ok"'*$'\n0::/nested' ]]
}

@test "a user with a group of his own uses that" {
	requires setpriv
	make_box 65534
	run enter_box setpriv --reuid=65534 --regid=65534 --clear-groups "$CGSHIM" --mem 64M --pids 1 --events -- "$NOOP"
	echo "$output"
	[[ $(place) == $'cgroupfs\n/cgshim-bats-box/'*user* ]]
	[ "$(jq -r 'select(.type == "result") | .verdict' <<<"$output")" = ok ]
}

@test "a frozen --parent is refused at once, with its name" {
	requires root
	local dir begin parent file=cgroup.freeze
	dir=$(cgroup_file unified "" "" /cgshim-bats-frozen)
	mkdir "$dir"
	echo 1 >"$dir/$file"
	for parent in /cgshim-bats-frozen /cgshim-bats-frozen/a/b; do
		begin=$EPOCHREALTIME
		shim --parent $parent --mem 64M --wall-time 60 -- true
		exits 125
		is verdict error error.step join error.errno EBUSY pid null
		holds ".error.message | contains(\"frozen\") and contains(\"${dir%/}\\\"\")"
		holds '.error.hint | contains("cgroup.freeze")'
		awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { exit b - a > 10 }'
	done
	result=$(printf '%s\n' '{"argv":["true"],"parent":"/cgshim-bats-frozen"}' '{"argv":["true"]}' | "$CGSHIM" batch --jobs 1)
	[ "$(jq -r .verdict <<<"$result" | tr '\n' ' ')" = 'error ok ' ]
	shim --parent /cgshim-bats-frozen --best-effort -- true
	is verdict ok
	holds '.warnings[0] | contains("frozen")'
	grep -q 1 "$dir/$file" # it is not ours to thaw
	echo 0 >"$dir/$file"
	shim --parent /cgshim-bats-frozen -- true
	is verdict ok
	rmdir "$dir"
}
