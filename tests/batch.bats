#!/usr/bin/env bats
# cgshim batch: requests on stdin, answers on stdout.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

load helpers

PARENT=/cgshim-bats-batch

setup() {
	requires root
	cd "$BATS_TEST_TMPDIR" || return 1
}

# A test that failed leaves its batch to nobody, and nothing that hangs to the others.
teardown() {
	exec 7>&- 8>&-
	[ -n "${BATS_TEST_COMPLETED:-}" ] || [ -z "${batch:-}" ] || kill -9 "$batch" 2>/dev/null || true
	[ -n "${BATS_TEST_COMPLETED:-}" ] || eventually nothing_left >/dev/null 2>&1 || true
	nothing_left
}

# open_batch ARG...: a batch whose requests come from descriptor 7, and whose answers go to the file (or FIFO) $answers.
# Its pid is in $batch.
open_batch() {
	answers=$BATS_TEST_TMPDIR/answers
	rm -f requests
	mkfifo requests
	[ -p "$answers" ] || : >"$answers"
	# In the background the shell has SIGINT and SIGQUIT ignored.
	env --default-signal=INT,QUIT "$CGSHIM" batch --parent $PARENT "$@" <requests >"$answers" 2>stderr 3>&- 8>&- &
	batch=$!
	exec 7>requests
}

# ask LINE...: sends requests.
ask() { printf '%s\n' "$@" >&7; }

answered() { grep -q "^{\"id\":$1,\"type\":\"result\"" "$answers"; }

# answer ID: waits for the result of an id, as JSON, and sets $result.
answer() {
	eventually answered "$1"
	result=$(grep "^{\"id\":$1,\"type\":\"result\"" "$answers" | tail -n 1)
	untagged
}

# untagged: $result without its id, which the schema of a result does not have.
untagged() {
	result="{${result#\{\"id\":*,}"
	[ -z "${CGSHIM_RESULTS:-}" ] || echo "$result" >>"$CGSHIM_RESULTS"
}

count() { grep -c '"type":"result"' "$answers" || true; }

# counts N: so many results are there.
counts() { [ "$(count)" -ge "$1" ]; }

# close_batch STATUS: ends the requests, and waits.
close_batch() {
	exec 7>&-
	ends "$1"
}

# ends STATUS: the batch does, within a generous bound.
ends() {
	eventually gone "$batch"
	status=0
	wait "$batch" || status=$?
	batch=
	[ "$status" = "$1" ] || { echo "exit status: want $1, have $status" >&2; cat stderr >&2; return 1; }
}

# all_gone PID...: none of them is there any more.
all_gone() {
	local pid
	for pid; do gone "$pid" || return 1; done
}

clean() { nothing_left >/dev/null 2>&1; }

# sleeper ID [MEMBER...]: a request for a program that says in the file ready.ID that it runs.
sleeper() {
	local id=$1 member
	shift
	printf '{"id":"%s","argv":["sh","-c","echo $$ >ready.%s; exec sleep 1000"]' "$id" "$id"
	for member; do printf ',%s' "$member"; done
	echo '}'
}

runs() { eventually [ -s "ready.$1" ]; }

# --- requests and answers ---------------------------------------------------------------------------

@test "a request is a run's flags by their names, and its answer the result, with the id first" {
	printf '#!/bin/sh\ncat; echo "$A" "$B" "$1" >&2; exit 3\n' >prog
	chmod +x prog
	echo input >in.txt
	open_batch
	ask '{"id":"7","argv":["./prog"],"mem":"64M","pids":1,"stdin":"in.txt","stdout":"out.txt"}'
	answer '"7"'
	is verdict nonzero-exit limits.mem_bytes $((64 * MIB)) limits.pids 1 pids_denied 1 # cat
	ask '{"id":"8","argv":["./prog",5],"mem":67108864,"cpus":0.5,"wall_time":9,"stdin":"in.txt"}'
	answer '"8"'
	is verdict error error.step usage # it is wall-time
	holds '.error.message | test("wall_time")'
	ask '{"id":"8 again","argv":["./prog",5],"memory":67108864,"cpus":0.5,"wall-time":9,"env":["A=1","B=2,3"],"stdin":"in.txt","stdout":"out.txt","stderr":"err.txt","clear-env":false,"best-effort":null}'
	answer '"8 again"'
	is verdict nonzero-exit exit_code 3 limits.mem_bytes $((64 * MIB)) limits.cpus 0.5 limits.wall_time_seconds 9
	[ "$(cat out.txt)" = input ]
	[ "$(cat err.txt)" = "1 2,3 5" ]
	ask '{"id":"9","argv":["pwd"],"chdir":"/","stdout":"out.txt","ulimit":["nofile=9","core=0"],"user":"65534:65534","net":"none"}'
	answer '"9"'
	is verdict ok limits.net none limits.ulimits.nofile.soft 9
	[ "$(cat out.txt)" = / ]
	close_batch 0
}

# bats test_tags=native
@test "answers come in the order in which the programs end" {
	open_batch --jobs 2
	ask '{"id":"slow","argv":["sleep","1.5"]}' '{"id":"quick","argv":["true"]}' '{"id":"next","argv":["false"]}'
	close_batch 0
	run -0 jq -r '.id' "$answers"
	[ "$output" = $'quick\nnext\nslow' ]
}

# bats test_tags=native
@test "an id is a string or a number, is told as it is, and can be left out" {
	open_batch --jobs 1
	ask '{"id":"a \"b\" \u00e4\n<&","argv":["true"]}' '{"argv":["true"],"id":12345678901234567890}' '{"id":-1.5e3,"argv":["true"]}' \
		'{"id":"","argv":["true"]}' '{"argv":["true"]}' '{"id":null,"argv":["true"]}' '{"id":"null","argv":["true"]}'
	close_batch 0
	run -0 grep -oE '^\{"id":([^"][^,]*|"([^"\\]|\\.)*"),"type":"result"' "$answers"
	[ "${#lines[@]}" = 7 ]
	[[ ${lines[1]} == '{"id":12345678901234567890,'* && ${lines[2]} == '{"id":-1.5e3,'* && ${lines[3]} == '{"id":"",'* ]]
	[[ ${lines[4]} == '{"id":null,'* && ${lines[5]} == '{"id":null,'* && ${lines[6]} == '{"id":"null",'* ]]
	run -0 jq -r 'select(.verdict == "ok") | .id' "$answers"
	[[ ${lines[0]} = 'a "b" ä' && ${lines[1]} = '<&' ]]
}

# bats test_tags=native
@test "names are bytes, raw or as Python's surrogateescape has them, and none runs another file" {
	for name in $'p\xff' $'p\xef\xbf\xbd'; do
		printf '#!/bin/sh\nprintf "%%s" "$0 $1 $A"\n' >"$name"
		chmod +x "$name"
	done
	mkdir $'d\xfe'
	open_batch --jobs 1
	ask '{"id":"\udcff","argv":["../p\udcff"," \udcc3 "],"env":["A= \u00e4\udcfe "],"chdir":"d\udcfe","stdout":" out\udcfd "}'
	answer '"\\udcff"'
	is verdict ok
	cmp $' out\xfd ' <(printf '../p\xff  \xc3   \xc3\xa4\xfe ')
	holds '.argv == ["../p\ufffd", " \ufffd "] and .argv_base64 == ["Li4vcP8=", "IMMg"]'
	ask $'{"id":2,"argv":["./p\xff","\xed\xa0\x80"],"env":["A=\xfe"],"stdout":"raw\xfd"}'
	answer 2
	is verdict ok
	cmp $'raw\xfd' <(printf './p\xff \xed\xa0\x80 \xfe')
	ask '{"id":3,"argv":["./p\ufffd"],"stdout":"out"}'
	answer 3
	cmp out <(printf './p\xef\xbf\xbd  ')
	ask '{"id":4,"argv":["true"],"mem":1.048576e6,"pids":1.0,"wall-time":1e1,"swap":-0}'
	answer 4
	is verdict ok limits.mem_bytes "$MIB" limits.pids 1 limits.wall_time_seconds 10
	ask '{"id":"\u0061","argv":["sleep","1000"]}' '{"cancel":"a"}'
	answer '"a"'
	is verdict cancelled
	close_batch 0
}

# refused ID LINE [TEXT]: the line is answered with an error of step usage, that says TEXT, and the next request works.
refused() {
	local before
	before=$(count)
	ask "$2" '{"id":"after","argv":["true"]}'
	eventually counts $((before + 2))
	result=$(grep '"step":"usage"' "$answers" | tail -n 1)
	[[ $result == "{\"id\":$1,\"type\":\"result\""* ]] || { echo "no answer with id $1 to: $2: $result" >&2; return 1; }
	untagged
	is verdict error exit_code null pid null
	[[ ${value[error.message]} == *${3:-}* ]] || { echo "no '$3' in the answer to: $2: $result" >&2; return 1; }
	run -0 tail -n 2 "$answers"
	[[ $output == *'{"id":"after","type":"result",'*'"verdict":"ok"'* ]]
	[ "$(count)" = $((before + 2)) ]
}

# bats test_tags=native
@test "a line that is no request is answered with an error, and nothing else stops" {
	requires real_cpu # slow under emulation, and the same everywhere
	open_batch --jobs 2
	ask "$(sleeper long)"
	runs long
	refused null 'no JSON' 'no JSON object'
	refused null '{' 'no JSON object'
	refused null '{"id":"1","argv":["true"]' 'no JSON object'
	refused null '[1]' 'no JSON object'
	refused null '"x"' 'no JSON object'
	refused null '{"id":"1","argv":["true"]} {"id":"2","argv":["true"]}' 'more on the line'
	refused null '{"id":"1","argv":["true"]}}' 'more on the line'
	refused null '{"id":["1"],"argv":["true"]}' '"id"'
	refused null '{"id":true,"argv":["true"]}' '"id"'
	refused '"1"' '{"id":"1"}' '"argv"'
	refused '"1"' '{"id":"1","argv":[]}' 'no program'
	refused '"1"' '{"id":"1","argv":[""]}' 'no program'
	refused '"1"' '{"id":"1","argv":"true"}' '"argv"'
	refused '"1"' '{"id":"1","argv":["true",null]}' '"argv"'
	refused '"1"' '{"id":"1","argv":[["true"]]}' '"argv"'
	refused '"1"' '{"id":"1","argv":["a\u0000b"]}' 'NUL'
	refused 1 '{"id":1,"argv":["true"],"nosuch":1}' '"nosuch"'
	refused 1 '{"id":1,"argv":["true"],"--mem":"64M"}' '"--mem"'
	refused 1 '{"id":1,"argv":["true"],"fd":1}' '"fd"'
	refused 1 '{"id":1,"argv":["true"],"output":"x"}' '"output"'
	refused 1 '{"id":1,"argv":["true"],"pretty":true}' '"pretty"'
	refused 1 '{"id":1,"argv":["true"],"events":true}' '"events"'
	refused 1 '{"id":1,"argv":["true"],"mem":1,"memory":2}' 'given twice'
	refused 1 '{"id":1,"argv":["true"],"mem":1,"mem":1}' '"mem": given twice'
	refused 1 '{"id":1,"argv":["true"],"argv":["true"]}' '"argv"'
	refused null '{"id":1,"argv":["true"],"id":2}' '"id"'
	refused 1 '{"id":1,"argv":["true"],"env":[{"A":1,"A":2}]}' '"env"'
	refused 1 '{"id":1,"argv":["true\ud800"]}' '"argv": \\ud800'
	refused 1 '{"id":1,"argv":["true"],"stdout":"\udc00"}' '"stdout": \\udc00'
	refused 1 '{"id":1,"argv":["true"],"stdout":"x\u0000"}' '"stdout": NUL'
	refused '"a\u0000"' '{"id":"a\u0000","argv":[]}' 'no program'
	refused '"\ud800"' '{"id":"\ud800","argv":[]}' 'no program'
	refused 1 '{"id":1,"argv":["true"],"mem":1.5}' '--mem "1.5"'
	refused 1 '{"id":1,"argv":["true"],"mem":"1.5"}' '--mem "1.5"'
	refused 1 '{"id":1,"argv":["true"],"memory":1e400}' '--memory "1e400"'
	refused 1 '{"id":1,"argv":["true"],"mem":-0}' '--mem "0"'
	refused 1 '{"id":1,"argv":["true"],"mem":99999999999999999999999}' '--mem "99999999999999999999999"'
	refused 1 '{"id":1,"argv":["true"],"wall-time":1e400}' '--wall-time "1e400"'
	refused 1 '{"id":1,"argv":["true"],"wall-time":-1e-9}' '--wall-time "-1e-9"'
	refused 1 '{"id":1,"argv":["true"],"mem":true}' '"mem"'
	refused 1 '{"id":1,"argv":["true"],"mem":["1M"]}' '"mem"'
	refused 1 '{"id":1,"argv":["true"],"mem":{}}' '"mem"'
	refused 1 '{"id":1,"argv":["true"],"wait-all":"yes"}' '"wait-all"'
	refused 1 '{"id":1,"argv":["true"],"env":[1,{}]}' '"env"'
	refused 1 '{"id":1,"argv":["true"],"env":["A"]}' 'A'
	refused 1 '{"id":1,"argv":["true"],"mem":"lots"}' '--mem "lots"'
	refused 1 '{"id":1,"argv":["true"],"pids":-1}' '--pids "-1"'
	refused 1 '{"id":1,"argv":["true"],"pids":1.5}' '--pids "1.5"'
	refused 1 '{"id":1,"argv":["true"],"cpu-time":"0"}' '--cpu-time'
	refused 1 '{"id":1,"argv":["true"],"name":"../x"}' '--name'
	refused 1 '{"id":1,"argv":["true"],"keep-fd":[99]}' '99'
	refused 1 '{"id":1,"argv":["true"],"swap":"1M"}' '--mem'
	refused 1 '{"id":1,"argv":["true"],"stdin":""}' '--stdin'
	refused 1 '{"id":1,"argv":["true"],"stdin":"/nonexistent"}' '/nonexistent'
	refused 1 '{"id":1,"cancel":"2"}' '"cancel"'
	refused null '{"cancel":null}' '"cancel"'
	refused null '{"cancel":["1"]}' 'id'
	refused '"long"' '{"id":"long","argv":["true"]}' 'has not been answered'
	ask '{"cancel":"long"}'
	answer '"long"'
	is verdict cancelled
	close_batch 0
	[ ! -s stderr ]
}

# bats test_tags=native
@test "… nor a line of 20 MB, binary garbage, or one without an end" {
	requires real_cpu # slow under emulation, and the same everywhere
	open_batch --jobs 1
	{ head -c 20000000 /dev/zero | tr '\0' x; echo; } >&7
	eventually counts 1
	result=$(tail -n 1 "$answers")
	[[ $result == '{"id":null,'*'longer than'* ]]
	{ printf '{"id":"long","argv":["true","'; head -c 20000000 /dev/zero | tr '\0' x; echo '"]}'; } >&7
	eventually counts 2
	head -c 3000 /dev/urandom | tr -d '\n' >&7
	ask ''
	eventually counts 3
	printf '\0\0\0\n\377\376\n' >&7
	eventually counts 5
	ask '{"id":1,"argv":["true"]}'
	answer 1
	is verdict ok
	printf '{"id":2,"argv":["tru' >&7
	close_batch 0
	[ "$(count)" = 7 ]
	result=$(tail -n 1 "$answers")
	[[ $result == '{"id":null,'*'no JSON object'* ]]
}

# bats test_tags=native
@test "empty lines are nothing; the last one needs no end; CRLF is one" {
	open_batch --jobs 1
	printf '\n  \n\t\n\r\n{"id":1,"argv":["true"]}\r\n\n{"id":2,"argv":["true"]}' >&7
	close_batch 0
	[ "$(jq -c '[.id, .verdict]' "$answers" | tr -d '\n')" = '[1,"ok"][2,"ok"]' ]
}

# bats test_tags=native
@test "no requests, no answers" {
	run -0 --separate-stderr "$CGSHIM" batch </dev/null
	[[ -z $output && -z $stderr ]]
}

# bats test_tags=native
@test "the command line is checked" {
	requires real_cpu # slow under emulation, and the same everywhere
	local args
	for args in "--jobs 0" "--jobs x" "--jobs 99999" "--jobs" "--nosuch" "prog" "--pin=1" "--manager none" "--parent x"; do
		# shellcheck disable=SC2086
		run -125 --separate-stderr "$CGSHIM" batch $args </dev/null
		[[ -z $output && $stderr == "cgshim: error: batch "* ]] || { echo "$args: $stderr"; return 1; }
	done
	run -125 --separate-stderr sh -c '"$CGSHIM" batch 1</dev/null'
	[[ $stderr == *'not open for writing'* ]]
}

# bats test_tags=native
@test "a program that could not be started is an answer like others" {
	open_batch --jobs 1
	ask '{"id":1,"argv":["/nonexistent"],"mem":"64M"}' '{"id":2,"argv":["true"],"chdir":"/nonexistent"}' '{"id":3,"argv":["/dev/null"]}' '{"id":4,"argv":["true"],"mem":"64M"}'
	answer 1
	is verdict error error.step exec error.errno ENOENT
	answer 2
	is verdict error error.step chdir
	answer 3
	is verdict error error.errno EACCES
	answer 4
	is verdict ok
	close_batch 0
}

# --- descriptors ------------------------------------------------------------------------------------

# bats test_tags=native
@test "a program has no descriptor of the batch's: it can't read requests, nor forge answers" {
	open_batch --jobs 2
	ask "$(sleeper other '"mem":"64M"')"
	runs other
	for id in 1 2 3; do
		# shellcheck disable=SC2016
		ask "{\"id\":$id,\"argv\":[\"sh\",\"-c\",\"readlink /proc/\$\$/fd/*; cat; echo forged; echo forged >&2\"],\"stdout\":\"fds\",\"mem\":\"64M\"}"
		answer $id
		is verdict ok
		[ "$(cat fds)" = "/dev/null
$BATS_TEST_TMPDIR/fds
$BATS_TEST_TMPDIR/stderr
forged" ]
	done
	# shellcheck disable=SC2016
	ask '{"id":4,"argv":["sh","-c","fds=$(readlink /proc/$$/fd/[01]); echo \"$fds\" >fds; echo lost"]}'
	answer 4
	[ "$(cat fds)" = $'/dev/null\n/dev/null' ]
	ask '{"cancel":"other"}'
	close_batch 0
	[ "$(count)" = 5 ]
	[ "$(cat stderr)" = $'forged\nforged\nforged' ]
}

# bats test_tags=native
@test "a batch whose answers or requests a job could write is refused, and so is a request for them" {
	local bad
	mkfifo fifo
	exec 5<>fifo # what is written to it stays until it is read
	for bad in '2>&1 | cat' '>>both 2>>both; cat both' '<>fifo >/dev/null 2>&0; timeout 10 head -n 1 <&5'; do
		# shellcheck disable=SC2016
		run bash -c 'echo "{\"argv\":[\"touch\",\"ran\"]}" >requests; "$CGSHIM" batch --parent '"$PARENT <requests $bad"
		[[ $output == "cgshim: error: batch: standard error"*forge* ]] || { echo "$bad: $output" >&2; return 1; }
	done
	exec 5<&-
	rm requests fifo
	run -0 bash -c '"$CGSHIM" batch --parent '$PARENT' </dev/null >/dev/null 2>&1'
	open_batch --jobs 1
	for bad in stdout stderr; do
		ask '{"id":"'$bad'","argv":["touch","ran"],"'$bad'":"'"$answers"'"}'
		answer '"'$bad'"'
		is verdict error error.step usage
		holds '.error.message | test("forge")'
	done
	[ "$(count)" = 2 ] # what was there is still there
	ask '{"id":3,"argv":["touch","ran"],"stdin":"requests"}' '{"id":4,"argv":["touch","ran"],"stdout":"requests"}'
	answer 3
	is verdict error error.step usage
	answer 4
	is verdict error error.step usage
	ask '{"id":5,"argv":["cat"],"stdin":"'"$answers"'"}'
	answer 5
	is verdict ok
	close_batch 0
	[ ! -e ran ]
}

# bats test_tags=native
@test "/dev/null is each job's own: flags and locks are gone with it" {
	open_batch --jobs 2
	ask '{"id":1,"argv":["sh","-c","dd iflag=nonblock count=0 status=none; dd oflag=nonblock count=0 status=none; flock 0; flock 1; echo >ready.1; exec sleep 1000"]}'
	runs 1
	ask '{"id":2,"argv":["cat","/proc/self/fdinfo/0"],"stdout":"flags"}'
	answer 2
	is verdict ok
	[ $((0$(sed -n 's/^flags:[[:space:]]*//p' flags) & 04000)) = 0 ] || { cat flags >&2; return 1; }
	ask '{"cancel":1}'
	answer 1
	flock --nonblock /dev/null true
	ask '{"id":3,"argv":["sh","-c","cat /proc/self/fdinfo/1 >flags"]}'
	answer 3
	[ $((0$(sed -n 's/^flags:[[:space:]]*//p' flags) & 04000)) = 0 ] || { cat flags >&2; return 1; }
	close_batch 0
}

# bats test_tags=native
@test "… also if it is the batch's standard error" {
	local i
	for i in $(seq 10); do
		echo '{"id":'"$i"',"argv":["sh","-c","cat /proc/self/fdinfo/2 >flags.'"$i"'; dd oflag=nonblock count=0 status=none >&2"]}'
	done >lines
	# Of the last one, standard error is a file of its own.
	echo '{"id":11,"argv":["sh","-c","echo err >&2"],"stderr":"err"}' >>lines
	"$CGSHIM" batch --parent $PARENT --jobs 1 <lines >answers 2>/dev/null 3>&-
	jq -es 'length == 11 and all(.exit_code == 0)' answers
	for i in $(seq 10); do
		[ $((0$(sed -n 's/^flags:[[:space:]]*//p' "flags.$i") & 04000)) = 0 ] || { echo "$i:" >&2; cat "flags.$i" >&2; return 1; }
	done
	[ "$(cat err)" = err ]
}

# bats test_tags=native
@test "stdin, stdout and stderr are files, also the same one for both" {
	requires real_cpu # slow under emulation, and the same everywhere
	open_batch --jobs 1
	echo old content, longer than the new one >both
	ask '{"id":1,"argv":["sh","-c","echo out; echo err >&2; echo out; echo err >&2"],"stdout":"both","stderr":"both"}'
	answer 1
	[ "$(cat both)" = $'out\nerr\nout\nerr' ]
	ask '{"id":2,"argv":["sh","-c","echo out; echo err >&2"],"stderr":"err"}' '{"id":3,"argv":["wc","-c"],"stdin":"both","stdout":"out"}'
	answer 3
	[[ $(cat err) = err && $(cat out) = 16 ]]
	ask '{"id":4,"argv":["true"],"stdout":"/nonexistent/x"}' '{"id":5,"argv":["yes"],"stdout":"cut","output-limit":100}'
	answer 4
	is verdict error error.step usage
	holds '.error.message | test("no such file")'
	answer 5
	is verdict output-limit output_bytes 100
	[ "$(stat -c %s cut)" = 100 ]
	ask '{"id":6,"argv":["printf","hello"],"stdout":"/dev/full","output-limit":100}'
	answer 6
	is verdict error error.step output error.errno ENOSPC exit_code 0
	close_batch 0
}

# bats test_tags=native
@test "a FIFO that nobody has open at the other end holds nothing up" {
	requires real_cpu # slow under emulation, and the same everywhere
	open_batch --jobs 1
	mkfifo fifo
	ask '{"id":1,"argv":["cat"],"stdin":"fifo"}' '{"id":2,"argv":["true"],"stdout":"fifo"}' '{"id":3,"argv":["true"]}'
	answer 3
	answer 2
	is verdict error error.step usage
	holds '.error.message | test("no such device or address")'
	answer 1
	is verdict ok
	close_batch 0
}

# bats test_tags=native
@test "no descriptor, thread, process or memory is lost over thousands of runs" {
	requires real_cpu # slow under emulation, and the same everywhere
	local runs before after fds
	runs=$(has real_cpu && echo 1000 || echo 100)
	yes '{"argv":["'"$NOOP"'"],"mem":"64M","pids":1}' | head -n "$runs" >many
	open_batch --jobs 2
	cat many >&7
	eventually counts "$runs"
	before=$(awk '/^VmRSS/ {print $2}' "/proc/$batch/status")
	fds=$(find "/proc/$batch/fd" | wc -l)
	cat many >&7
	eventually counts $((2 * runs))
	after=$(awk '/^VmRSS/ {print $2}' "/proc/$batch/status")
	echo "resident: $before KiB, then $after KiB; $(find "/proc/$batch/task" -maxdepth 1 | wc -l) threads"
	[ "$after" -le $((before + 2048)) ]
	[ "$(find "/proc/$batch/fd" | wc -l)" -le $((fds + 2)) ] # a group made ahead comes and goes
	[ "$(ps --ppid "$batch" -o pid= | wc -l)" -le 4 ] # a stage for each job, the pool's, and the one that the first thread waits with
	close_batch 0
	run -0 jq -r '"\(.verdict) \(.pids_peak) \(.error)"' "$answers"
	[ "$(sort -u <<<"$output")" = "ok 1 null" ]
	[ "${#lines[@]}" = $((2 * runs)) ]
	jq -s '[.[].cgroup] | unique | length' "$answers" | grep -qx $((2 * runs))
}

# --- several at once --------------------------------------------------------------------------------

# bats test_tags=native
@test "as many programs run at the same time as there are jobs, and not more" {
	requires real_cpu # slow under emulation, and the same everywhere
	local jobs i
	for jobs in 1 2 3; do
		open_batch --jobs $jobs
		: >log
		for i in $(seq $((3 * jobs))); do ask '{"argv":["sh","-c","echo + >>log; sleep 0.3; echo - >>log"]}'; done
		close_batch 0
		[ "$(awk '/[+]/ {n++} /-/ {n--} n > most {most = n} END {print most}' log)" = $jobs ]
		[ "$(count)" = $((3 * jobs)) ]
	done
}

# bats test_tags=native
@test "without --jobs it is one for each CPU" {
	open_batch
	for i in $(seq "$(nproc)"); do ask "$(sleeper "$i")"; done
	for i in $(seq "$(nproc)"); do runs "$i"; done
	ask "$(sleeper over)"
	sleep 0.5
	[ ! -e ready.over ]
	for i in $(seq "$(nproc)") over; do ask '{"cancel":"'"$i"'"}'; done
	close_batch 0
}

@test "--pin gives each job a core of its own" {
	requires two_cores
	open_batch --jobs 2 --pin
	for i in 1 2; do
		ask '{"id":'"$i"',"argv":["sh","-c","grep Cpus_allowed_list: /proc/self/status >cpus.'"$i"'; echo >ready.'"$i"'; sleep 1000"]}'
		runs "$i"
	done
	cat cpus.*
	[ "$(cut -f 2 cpus.1 cpus.2 | tr ',' '\n' | sort | uniq -d)" = "" ]
	ask '{"cancel":1}'
	answer 1
	holds '.limits.cpuset_cpus != null and .enforced.cpuset_cpus == "cgroup"'
	ask '{"id":3,"argv":["true"],"cpuset-cpus":"0"}'
	answer 3
	is verdict error error.step usage
	ask '{"cancel":2}'
	close_batch 0
	run -125 "$CGSHIM" batch --pin --jobs $(($(nproc) + 1)) </dev/null
	[[ $output == *'each needs one of its own'* ]]
}

@test "--pin for all the cores that there are" {
	open_batch --pin
	ask '{"id":1,"argv":["grep","Cpus_allowed_list","/proc/self/status"],"stdout":"cpus"}'
	answer 1
	is verdict ok
	cat cpus
	close_batch 0
}

@test "a job that is out of memory is no other's concern" {
	open_batch --jobs 2
	ask "$(sleeper other '"mem":"64M"')"
	runs other
	for i in $(times 10 2); do
		ask '{"id":"oom'"$i"'","argv":["'"$PROG"'","touch","67108864"],"mem":"16M"}'
		answer "\"oom$i\""
		is verdict memory-limit limits_hit '["memory"]' signal 9
		ask '{"id":"fits'"$i"'","argv":["'"$PROG"'","touch","8388608"],"mem":"16M"}'
		answer "\"fits$i\""
		is verdict ok oom_kills 0 limits_hit '[]'
	done
	ask '{"cancel":"other"}'
	answer '"other"'
	is verdict cancelled oom_kills 0 limits_hit '[]'
	# Both at once.
	for i in 1 2; do ask '{"id":'"$i"',"argv":["'"$PROG"'","touch","67108864"],"mem":"16M"}'; done
	for i in 1 2; do
		answer "$i"
		is verdict memory-limit
	done
	close_batch 0
}

@test "limits of time hold for each job" {
	open_batch --jobs 2
	ask '{"id":1,"argv":["sleep","100"],"wall-time":"300ms"}' '{"id":2,"argv":["'"$PROG"'","spin","1","10"],"cpu-time":0.2}' \
		'{"id":3,"argv":["sh","-c","trap : TERM; sleep 100 & wait; exit 4"],"wall-time":3,"grace":20}' '{"id":4,"argv":["sh","-c","sleep 100 & sleep 0.2"],"wait-all":true,"wall-time":1}'
	answer 1
	is verdict wall-time-limit
	answer 2
	is verdict cpu-time-limit
	answer 3
	is verdict wall-time-limit exit_code 4
	answer 4
	is verdict wall-time-limit
	close_batch 0
}

@test "… also if nobody looks when a program goes over them, and ends" {
	open_batch --jobs 2
	mkfifo go1 go2
	exec 8<>go1 9<>go2
	ask '{"id":1,"argv":["sh","-c","echo $$ >ready.1; read -r go; exec '"$PROG"' spin 1 1.5"],"cpu-time":1,"stdin":"go1"}' \
		'{"id":2,"argv":["sh","-c","echo $$ >ready.2; read -r go"],"wall-time":3,"stdin":"go2"}'
	runs 1
	runs 2
	kill -STOP "$batch"
	sleep 3.1
	echo >&8
	echo >&9
	eventually gone "$(<ready.1)"
	eventually gone "$(<ready.2)"
	kill -CONT "$batch"
	exec 8>&- 9>&-
	answer 1
	is verdict cpu-time-limit exit_code 0 limits_hit '["cpu_time"]'
	answer 2
	is verdict wall-time-limit exit_code 0 limits_hit '["wall_time"]'
	ask '{"id":3,"argv":["'"$PROG"'","spin","1","10"],"ulimit":"cpu=1"}'
	answer 3
	is verdict signaled signal 9 limits_hit '["ulimit_cpu"]'
	close_batch 0
}

@test "a program that forks, or spins with 50 threads, does not starve the others, nor the batch" {
	local hog
	for hog in '["bash","-c","b() { b & b & wait; }; b 2>/dev/null"],"pids":50' "[\"$PROG\",\"spin\",\"50\",\"1000\"]"; do
		open_batch --jobs 3
		ask '{"id":"hog","argv":'"$hog"',"wall-time":100,"stderr":"/dev/null"}' '{"id":"hog2","argv":'"$hog"',"wall-time":100,"stderr":"/dev/null"}'
		sleep 0.5
		local begin=$EPOCHREALTIME other
		ask '{"id":"sleep","argv":["sleep","1"]}'
		other=$(alone sh -c 'sleep 1; sleep 0.1; sleep 0.1') # several of them: one may have had luck
		answer '"sleep"'
		is verdict ok
		# By the result: on a busy machine looking for the answer takes this shell its time.
		holds ".teardown_seconds + .wall_seconds + $(date -d "$(field started_at)" +%s.%N) - $begin < 10 * $other"
		holds '.wall_seconds >= 1'
		! answered '"hog"'
		ask '{"cancel":"hog"}' '{"cancel":"hog2"}'
		answer '"hog"'
		answer '"hog2"'
		close_batch 0
	done
}

# --- cancelling -------------------------------------------------------------------------------------

# bats test_tags=native
@test "what runs, what waits, and what nobody knows can be cancelled by id" {
	requires real_cpu # slow under emulation, and the same everywhere
	open_batch --jobs 1
	ask "$(sleeper one)" '{"id":"two","argv":["touch","two"]}' '{"id":3,"argv":["touch","three"]}' '{"id":"4","argv":["touch","four"]}'
	runs one
	ask '{"cancel":"nobody"}' '{"cancel":4}' '{"cancel":3}' # 4 is not "4"
	answer 3
	is verdict cancelled error.step cancelled pid null
	ask '{"cancel":"one"}'
	answer '"one"'
	is verdict cancelled signal 15
	answer '"4"'
	is verdict ok
	ask '{"cancel":"4"}' '{"cancel":"one"}' '{"id":"one","argv":["true"]}' # an id can be used again
	answer '"4"'
	close_batch 0
	[[ -e two && ! -e three && -e four ]]
	[ "$(count)" = 5 ]
	[ "$(tail -n 1 "$answers" | jq -r .verdict)" = ok ]
}

# bats test_tags=native
@test "what is cancelled may take its stop timeout, and is killed then" {
	open_batch --jobs 2
	ask '{"id":1,"argv":["'"$PROG"'","deaf"],"stdout":"deaf","stop-timeout":"300ms"}' \
		'{"id":2,"argv":["sh","-c","trap \"exit 7\" TERM; echo >ready.2; while :; do sleep 0.05; done"],"stop-timeout":100}'
	runs 2
	eventually [ -s deaf ]
	ask '{"cancel":1}' '{"cancel":2}' '{"cancel":1}' '{"cancel":2}'
	answer 1
	is verdict cancelled signal 9
	answer 2
	is verdict cancelled exit_code 7
	close_batch 0
	[ "$(count)" = 2 ]
}

# --- the end ----------------------------------------------------------------------------------------

# bats test_tags=native
@test "at the end of the requests those that there are are finished" {
	requires real_cpu # slow under emulation, and the same everywhere
	open_batch --jobs 1
	for i in $(seq 20); do ask '{"id":'"$i"',"argv":["sh","-c","sleep 0.05; exit '"$i"'"]}'; done
	close_batch 0
	[ "$(jq .exit_code "$answers" | tr '\n' ' ')" = "$(seq 20 | tr '\n' ' ')" ]
}

# bats test_tags=native
@test "SIGTERM, INT, HUP and QUIT end it: what runs and what waits is answered as cancelled" {
	requires real_cpu # slow under emulation, and the same everywhere
	local name i
	for name in TERM INT HUP QUIT; do
		open_batch --jobs 2
		rm -f ready.*
		ask "$(sleeper 1 '"mem":"64M"')" "$(sleeper 2)"
		for i in $(seq 3 200); do ask '{"id":"'"$i"'","argv":["touch","never"]}'; done
		runs 1
		runs 2
		kill -s "$name" "$batch"
		ends $((128 + $(kill -l "$name")))
		exec 7>&-
		[ ! -e never ]
		[ "$(jq -r .verdict "$answers" | sort | uniq -c | tr -s ' ')" = " 200 cancelled" ]
		[ "$(jq -r .id "$answers" | sort -u | wc -l)" = 200 ]
		all_gone "$(cat ready.1)" "$(cat ready.2)"
		nothing_left
	done
}

# Regression: it waited for the reader for ever.
# bats test_tags=native
@test "… also when nobody reads the answers, and when nobody asks" {
	local name
	# shellcheck disable=SC2043
	for name in $(has real_cpu && echo TERM INT HUP QUIT || echo TERM); do
		rm -f ready.* answers
		mkfifo answers
		exec 8<>answers
		dd if=/dev/zero of=answers bs=4096 count=64 oflag=nonblock 2>/dev/null || true # until it is full
		open_batch --jobs 2 --events
		ask "$(sleeper 1 '"mem":"64M"')" '{"id":"2","argv":["true"]}' "$(sleeper 3)" '{"id":"4","argv":["true"]}'
		runs 1
		printf '{"id":' >&7 # and half a line
		kill -s "$name" "$batch"
		ends 125
		grep -q '^cgshim: error: batch: writing a result: nobody reads it' stderr
		gone "$(cat ready.1)"
		nothing_left
		exec 7>&- 8>&-
		rm answers
		open_batch
		sleep 0.2
		kill -s "$name" "$batch"
		ends $((128 + $(kill -l "$name")))
		exec 7>&-
		nothing_left
	done
}

# bats test_tags=native
@test "… within the stop timeout, and a second signal changes nothing" {
	local deaf begin
	# shellcheck disable=SC2089
	deaf='"argv":["sh","-c","trap \"\" TERM INT; setsid sleep 1000 & echo $$ $! >ready.1; while :; do sleep 1; done"]'
	open_batch --jobs 2
	ask '{"id":1,'"$deaf"',"stop-timeout":1}'
	runs 1
	begin=$EPOCHREALTIME
	kill "$batch"
	sleep 0.3
	ask '{"id":2,"argv":["touch","never"]}' # which is too late
	kill -INT "$batch"
	ends 130
	awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { print b - a, "seconds"; exit !(b - a >= 0.9 && b - a < 20) }' # the default is 5, and the program would stay for 1000
	answer 1
	is verdict cancelled signal 9
	# shellcheck disable=SC2046
	all_gone $(cat ready.1)
	[ ! -e never ]
	nothing_left
}

# bats test_tags=native
@test "a signal while requests come in: each is answered or was never read, and nothing hangs" {
	requires real_cpu # slow under emulation, and the same everywhere
	local i
	for i in $(times 20 3); do
		open_batch --jobs 2
		: >"$answers"
		(trap '' PIPE; i=0; while echo '{"id":'$((i += 1))',"argv":["'"$NOOP"'"]}' >&7; do :; done 2>/dev/null) 3>&- &
		local feeder=$!
		exec 7>&-
		eventually counts 1
		sleep "0.0$((i % 10))"
		kill "$batch"
		ends 143
		wait $feeder || true
		[ ! -s stderr ] || { cat stderr >&2; return 1; }
		# No gap but at the end, and no answer twice.
		[ "$(jq .id "$answers" | sort -n | uniq -d)" = "" ]
		[ "$(jq .id "$answers" | sort -n | tail -n 1)" = "$(count)" ]
		nothing_left
	done
}

# bats test_tags=native
@test "… also when it has nothing to do at that moment" {
	for i in $(times 40 3); do
		open_batch --jobs 1
		ask '{"id":1,"argv":["'"$NOOP"'"]}'
		eventually_soon counts 1
		kill "$batch"
		(trap '' PIPE && for _ in 1 2 3 4 5 6 7 8; do ask '{"id":2,"argv":["'"$NOOP"'"]}' || break; done) 2>/dev/null
		ends 143
		[ ! -s stderr ] || { cat stderr >&2; return 1; }
		nothing_left
	done
}

# eventually_soon is eventually, looking more often.
eventually_soon() {
	local i
	for ((i = 0; i < 3000; i++)); do
		! "$@" || return 0
		pause 0.01
	done
	return 1
}

# all_there: the three runs have four processes each, which are in $pids.
all_there() {
	pids=$(cat /sys/fs/cgroup/{,unified/,pids/}$PARENT/*/cgroup.procs 2>/dev/null | sort -u)
	[ "$(wc -w <<<"$pids")" -ge 12 ]
}

@test "kill -9 of it: everything is gone within seconds, daemons too" {
	local daemons='"argv":["sh","-c","setsid sleep 1000 & setsid sh -c \"sleep 1000 & wait\" & echo $$ $! >ready.ID; wait"]' begin i
	for i in $(times 5 1); do
		open_batch --jobs 3
		rm -f ready.*
		for id in 1 2 3; do ask '{"id":'$id','"${daemons/ID/$id}"',"mem":"64M","name":"cgshim-bats-'$id'"}'; done
		for id in 4 5; do ask '{"id":'$id',"argv":["true"]}'; done
		for id in 1 2 3; do runs $id; done
		local pids stages
		eventually all_there # the daemons' children come after what says that they run
		stages=$(pgrep -P "$batch")
		begin=$EPOCHREALTIME
		kill -9 "$batch"
		# shellcheck disable=SC2086
		eventually all_gone $pids $stages
		eventually clean
		echo "$(took "$begin") seconds"
		ends 137
		exec 7>&-
	done
}

@test "… at any moment" {
	for i in $(times 40 4); do
		open_batch --jobs 2
		yes '{"argv":["'"$NOOP"'"],"mem":"64M"}' | head -n 500 >many
		cat many >&7 3>&- &
		local feeder=$!
		sleep "0.0$(printf %02d $((RANDOM % 60)))"
		kill -9 "$batch"
		eventually clean
		wait "$batch" "$feeder" || true
		exec 7>&-
	done
}

# bats test_tags=native
@test "a reader that is gone ends it" {
	mkfifo answers
	exec 8<>answers
	open_batch --jobs 2
	ask "$(sleeper 1)" "$(sleeper 3)"
	runs 1
	exec 8>&-
	ask '{"cancel":"3"}' '{"id":2,"argv":["true"]}'
	ends 125
	gone "$(cat ready.1)"
	grep -q '^cgshim: error: batch: writing a result: broken pipe' stderr
	[ "$(wc -l <stderr)" = 1 ]
	nothing_left
}

# bats test_tags=native
@test "… and a full disk, too" {
	open_batch --jobs 1
	close_batch 0
	run -125 --separate-stderr sh -c 'echo "{\"argv\":[\"true\"]}" | "$CGSHIM" batch >/dev/full'
	[[ $stderr == *'no space left'* ]]
}

# bats test_tags=native
@test "a reader that is slow holds up no limits, and loses no result" {
	requires real_cpu # slow under emulation, and the same everywhere
	local i
	mkfifo answers
	exec 8<>answers
	open_batch --jobs 2 --events
	ask "$(sleeper wall '"wall-time":1,"sample":"1ms"')"
	runs wall
	local begin=$EPOCHREALTIME pause
	for i in $(seq 300); do ask '{"id":'"$i"',"argv":["true"]}'; done
	sleep 3
	exec 7>&-
	pause=$(took "$begin")
	cat answers >all 3>&- 8>&- &
	local reader=$!
	ends 0
	exec 8>&-
	wait $reader
	answers=all
	answer '"wall"'
	is verdict wall-time-limit
	holds ".wall_seconds < $pause" # while nobody read
	[ "$(count)" = 301 ]
	[ "$(jq -r 'select(.type == "result") | .id' all | sort -u | wc -l)" = 301 ]
}

# --- beside it --------------------------------------------------------------------------------------

@test "ps and kill see its runs, and not the groups made ahead" {
	open_batch --jobs 2
	ask "$(sleeper one '"name":"one"')" "$(sleeper two '"mem":"64M"')"
	runs one
	runs two
	sleep 0.3
	run -0 "$CGSHIM" ps --parent $PARENT --json
	[ "${#lines[@]}" = 2 ]
	[ "$(jq -r '"\(.state) \(.cgshim_pid) \(.argv[-1])"' <<<"$output" | sort -u)" = "running $batch 1000" ]
	[ "$(jq .pid <<<"$output" | sort -n)" = "$(sort -n ready.one ready.two)" ]
	local two=$output
	run -0 "$CGSHIM" freeze --parent $PARENT one
	run -0 "$CGSHIM" thaw --parent $PARENT one
	run -0 "$CGSHIM" gc --parent $PARENT
	[ -z "$output" ]
	run -0 "$CGSHIM" kill --parent $PARENT --signal KILL one
	answer '"one"'
	is verdict signaled signal 9 cgroup $PARENT/one
	run -0 "$CGSHIM" kill --parent $PARENT "$(basename "$(jq -r 'select(.name != "one") | .cgroup' <<<"$two")")"
	answer '"two"'
	is verdict signaled signal 15 # and nothing is told to the batch
	run -0 "$CGSHIM" ps --parent $PARENT --json
	[ -z "$output" ]
	close_batch 0
}

@test "a request has its own name and parent, which go with it" {
	open_batch --jobs 1
	ask '{"id":1,"argv":["true"],"parent":"/cgshim-bats-other/below","name":"mine"}' '{"id":2,"argv":["true"]}' '{"id":3,"argv":["true"],"best-effort":true}'
	answer 1
	is verdict ok cgroup /cgshim-bats-other/below/mine
	answer 2
	[[ $(field cgroup) == $PARENT/* ]]
	answer 3
	is verdict ok
	[[ $(field cgroup) == $PARENT/* ]]
	run -0 find /sys/fs/cgroup -type d -path '*cgshim-bats-other*'
	[ -z "$output" ]
	close_batch 0
}

# bats test_tags=native
@test "events have the id, too, and come in order: started, limits and samples, the result" {
	open_batch --jobs 2 --events
	ask '{"id":"a","argv":["sleep","0.5"],"sample":"50ms"}' '{"id":2,"argv":["sleep","100"],"wall-time":0.3}' '{"id":"c","argv":["/nonexistent"]}'
	close_batch 0
	run -0 jq -r 'select(.id == "a") | .type' "$answers"
	[[ ${lines[0]} = started && ${lines[-1]} = result ]]
	[ "$(printf '%s\n' "${lines[@]}" | sort -u | tr '\n' ' ')" = "result sample started " ]
	[ "$(jq -r 'select(.id == 2) | .type' "$answers" | tr '\n' ' ')" = "started limit result " ]
	[ "$(jq -r 'select(.id == "c") | .type' "$answers" | tr '\n' ' ')" = "result " ]
	grep -vq '^{"id":' "$answers" && return 1
	jq -c 'del(.id)' "$answers" >/dev/null
}

# bats test_tags=native
@test "without --events there are results only, --sample or not" {
	open_batch --jobs 1
	ask '{"id":1,"argv":["sleep","0.3"],"sample":"50ms"}'
	close_batch 0
	[ "$(wc -l <"$answers")" = 1 ]
}
