#!/usr/bin/env bats
# Many runs of all kinds at once, some of them killed: the short form of make soak.

load helpers

setup() { requires root python3; }

@test "nothing leaks, whatever the programs do, and whichever cgshim is killed" {
	run "$TOP/tests/soak" "$(has real_cpu && echo 1000 || echo 50)" 8
	echo "$output"
	[ "$status" = 0 ]
}
