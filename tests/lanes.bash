# Commands that are run two at a time, because an emulated machine takes one CPU, and there are two. For tests/suite and tests/machines.
# shellcheck shell=bash

# two_at_a_time DIR COMMAND...: runs commands, each of some words, in two lanes, the first ones first; prints what each has printed
# when it is done. DIR is for the queue. False is that one of them has failed.
two_at_a_time() {
	local dir=$1 ok=0
	queue "$@"
	lane "$dir" first &
	lane "$dir" second || ok=1
	wait $! || ok=1
	return "$ok"
}

# queue DIR COMMAND...: for lanes.
queue() {
	mkdir -p "$1"
	printf '%s\n' "${@:2}" >"$1/queue"
}

# lane DIR NAME: takes one command after the other from the queue.
lane() {
	local command ok=0
	while command=$(next "$1") && [ -n "$command" ]; do
		# shellcheck disable=SC2086 # words
		(eval "$command") >"$1/lane.$2" 2>&1 || ok=1
		flock "$1/queue.lock" cat "$1/lane.$2"
	done
	return "$ok"
}

# next DIR: the first line of the queue, which is taken away.
next() {
	(
		flock 9
		head -n 1 "$1/queue"
		sed -i 1d "$1/queue"
	) 9>"$1/queue.lock"
}
