#!/usr/bin/env bats
# The figures, against an independent reading of the same.

load helpers

setup() { requires root; }

# disk SIZE: a loop device of that size, as $disk. Removed by teardown.
disk() {
	requires loop
	truncate -s "$1" "$BATS_TEST_TMPDIR/disk"
	disk=$(losetup --find --show "$BATS_TEST_TMPDIR/disk")
	number=$((16#$(stat -c %t "$disk"))):$((16#$(stat -c %T "$disk")))
}

teardown() {
	[ -z "${disk:-}" ] || losetup -d "$disk"
	nothing_left
}

# close A B: within two per cent, or half of a hundredth.
close() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(d <= 0.02 * b || d <= 0.005) }' || { echo "$1 is not $2" >&2; return 1; }; }

@test "CPU time is what the program's own clock says" {
	shim -- "$PROG" usage spin 1 0.5
	is verdict ok
	local user system
	read -r user system _ <<<"$output" # by getrusage at its end
	holds '(.cpu_user_seconds + .cpu_system_seconds - .cpu_seconds) | fabs < 0.00001'
	close "$(field cpu_seconds)" "$(awk -v a="$user" -v b="$system" 'BEGIN { print a + b }')"
}

@test "context switches are those that the program counts itself" {
	local voluntary involuntary
	shim -- "$PROG" usage sleeps 500
	is verdict ok sources.voluntary_context_switches wait4
	read -r _ _ voluntary involuntary <<<"$output"
	[ "$voluntary" -ge "$(has real_cpu && echo 500 || echo 250)" ] # a sleep that is over before another has the CPU is none
	holds ".voluntary_context_switches >= $voluntary and .voluntary_context_switches <= $voluntary * 1.02 + 3"
	holds ".involuntary_context_switches >= $involuntary and .involuntary_context_switches <= $involuntary * 1.02 + 3"
	shim -- "$NOOP"
	holds '.voluntary_context_switches <= 20'
}

@test "bytes read and written are those of the device" {
	disk 64M
	local file
	file=$(cgroup_file blkio blkio.throttle.io_service_bytes_recursive io.stat /cgshim/cgshim-bats-io)
	cat "$(command -v dd)" >/dev/null # in the page cache
	shim --name cgshim-bats-io -- sh -c 'dd if="$0" of=/dev/null bs=1M count=16 iflag=direct 2>/dev/null; [ ! -e "$1" ] || cat "$1"' "$disk" "$file"
	is verdict ok
	holds ".io_read_bytes >= 16777216 and .io_read_bytes <= 17112760"
	# The kernel's own words, for this device. v1 counts only devices that are throttled.
	if has cgroups_v2; then
		grep -q "^$number rbytes=16777216 " <<<"$output"
		is sources.io_read_bytes io.stat
	else
		is sources.io_read_bytes wait4
	fi
	shim -- dd if=/dev/zero of="$disk" bs=1M count=8 oflag=direct
	is verdict ok
	holds ".io_write_bytes >= 8388608 and .io_write_bytes <= 8556380"
	shim -- "$NOOP"
	holds '.io_write_bytes == 0'
}

@test "a throttled device is slower, in bytes and in operations" {
	disk 64M
	local free
	read_disk() { shim "$@" -- dd if="$disk" of=/dev/null bs=64K count=32 iflag=direct; is verdict ok; }
	write_disk() { shim "$@" -- dd if=/dev/zero of="$disk" bs=64K count=32 oflag=direct; is verdict ok; }
	# How long it takes without: the least, for a busy machine may be slow once.
	free() { for _ in $(times 3 2); do "$1"; field wall_seconds; done | sort -g | head -n 1; }
	free=$(free read_disk)
	# 2 MiB at 1 MiB/s, 32 requests at 16/s; the kernel lets the first tenth or so through at once.
	read_disk --device-read-bps "$disk:1M"
	is enforced.device_read_bps cgroup "limits.device_read_bps.$number" 1048576
	holds ".wall_seconds > 1.5 and .wall_seconds > 3 * $free"
	read_disk --device-read-iops "$disk:16"
	holds ".wall_seconds > 1.5 and .wall_seconds > 3 * $free"
	free=$(free write_disk)
	write_disk --device-write-bps "$disk:1M"
	holds ".wall_seconds > 1.5 and .wall_seconds > 3 * $free"
	write_disk --device-write-iops "$disk:16"
	holds ".wall_seconds > 1.5 and .wall_seconds > 3 * $free"
	# Several for one device, and one that does not concern it.
	read_disk --device-write-bps "$disk:1M" --device-write-iops "$disk:10" --device-read-iops "$disk:100000"
	holds ".wall_seconds < 0.5 + 3 * $free"
}

@test "memory by kind: what is held while it is looked at" {
	local late=$((64 * 4096 * $(nproc --all))) # of what the kernel has counted, but not added up
	shim --sample 20ms -- "$PROG" hold $((32 * MIB)) 0.5
	is verdict ok sources.memory_anon_bytes sampled
	holds ".memory_anon_bytes >= $((32 * MIB - late)) and .memory_anon_bytes <= $((34 * MIB))"
	shim --sample 20ms -- sh -c 'head -c 16M /dev/zero >"$0"; sleep 0.5' "$BATS_TEST_TMPDIR/cache"
	is verdict ok
	holds ".memory_file_bytes >= $((16 * MIB - late)) and .memory_file_bytes <= $((20 * MIB)) and .memory_kernel_bytes > 0"
	# A kill is preceded by a look, too.
	shim --wall-time 0.5 -- "$PROG" hold $((16 * MIB)) 1000
	holds ".memory_anon_bytes >= $((16 * MIB - late)) and .memory_anon_bytes <= $((18 * MIB))"
}

@test "memory by kind is null where nobody has looked while it was there" {
	shim --mem 200M -- "$PROG" touch $((100 * MIB))
	is verdict ok memory_anon_bytes null memory_file_bytes null memory_kernel_bytes null sources.memory_anon_bytes null
	holds ".peak_memory_bytes >= $((100 * MIB))"
	# An OOM kill is none that could be preceded by a look.
	shim --mem 32M -- "$PROG" touch $((100 * MIB))
	is verdict memory-limit memory_anon_bytes null memory_file_bytes null memory_kernel_bytes null
}

@test "figures of wait4 are null where not all processes were waited for" {
	disk 64M
	local all='voluntary_context_switches involuntary_context_switches' key
	has cgroups_v2 || all+=' io_read_bytes io_write_bytes'
	known() { for key in $all; do holds ".$key != null"; done; }
	unknown() { for key in $all; do is "$key" null "sources.$key" null; done; }
	write='dd if=/dev/zero of="$0" bs=1M count=32 oflag=direct 2>/dev/null'
	shim -- sh -c "$write" "$disk"
	is verdict ok
	known
	holds ".io_write_bytes >= 33554432"
	# An orphan that has ended before, one that was killed, and children that nobody waits for.
	shim -- sh -c "($write & ); sleep 2" "$disk"
	is verdict ok leftover_killed 0
	unknown
	! has cgroups_v2 || holds ".io_write_bytes >= 33554432"
	shim -- sh -c '(sleep 1000 & )'
	is verdict ok leftover_killed 1
	unknown
	shim -- bash -c "trap '' CHLD; $write"' & sleep 2' "$disk"
	is verdict ok
	known # the shell waits all the same
	requires python3
	shim -- python3 -c 'import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    os.execvp("dd", ["dd", "if=/dev/zero", "of=" + sys.argv[1], "bs=1M", "count=32", "oflag=direct", "status=none"])
time.sleep(2)' "$disk"
	is verdict ok
	unknown
}

@test "pressure is the kernel's total, where it has one" {
	requires psi
	shim --name cgshim-bats-psi --pids 20 -- sh -c '"$0" spin 1 0.4 & "$0" spin 1 0.4 & "$0" spin 1 0.4 & "$0" spin 1 0.4 & wait; cat "$1"' "$PROG" \
		"$(has cgroups_v2 && echo /sys/fs/cgroup || echo /sys/fs/cgroup/unified)/cgshim/cgshim-bats-psi/cpu.pressure"
	is verdict ok sources.pressure_cpu_some_seconds cpu.pressure
	local total
	total=$(sed -n 's/^some.*total=//p' <<<"$output")
	[ "$total" -gt 100000 ] # four that want two CPUs
	holds ".pressure_cpu_some_seconds >= $total / 1e6 and .pressure_cpu_some_seconds <= $total / 1e6 * 1.02 + 0.01"
	holds '.pressure_memory_full_seconds == 0 and .pressure_io_some_seconds >= 0'
}

@test "each figure that is known has a source, and each that is not has none" {
	shim --mem 64M --cpus 2 -- true
	holds '. as $r | [to_entries[] | select(.key | test("_bytes$|_seconds$|_kills$|^pids_|switches$")) |
		select(.key | IN("wall_seconds", "setup_seconds", "teardown_seconds", "output_bytes") | not) |
		select((.value == null) != ($r.sources[.key] == null)) | .key] == []'
	is peak_swap_bytes 0 cpu_throttled_seconds 0
	# A host without swap, or a run that may have none.
	holds '.sources.peak_swap_bytes | IN("memory.swap.peak", "memory.swap.max", "/proc/swaps")'
}
