/*
 * The practical floor: what a shim has to do that gives a run cgroups of its own, and nothing else.
 *
 *   reference [--fd N] PROG [ARG...]   one run; a JSON line to descriptor N (2)
 *   reference --loop PROG [ARG...]     a run for each line on stdin, a JSON line for each on stdout
 *
 * A run: mkdir (v1: in memory, pids, cpu and cpuacct), 64 MiB of memory, one task, fork, join by the child itself
 * (v1: "0" to tasks, v2: CLONE_INTO_CGROUP), exec, wait, read the figures, rmdir. No error is overlooked. What a real
 * shim owes its caller is not here: it reads no flags, nothing dies with it, and it cleans up after nobody.
 *
 * The groups are below /cgbench, which is made when it is missing, and stays.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define BASE "/cgbench"
#define MEMORY "67108864"

enum { MEM, PIDS, CPU, CPUACCT };
static const char *const v1[] = {ROOT "/memory", ROOT "/pids", ROOT "/cpu", ROOT "/cpuacct"};
static const char *const v2[] = {ROOT};
static const char *const *roots;
static int count; /* of groups to make, join and remove */

static char dirs[4][128];

static void die(const char *format, ...)
{
	int error = errno;
	va_list args;
	va_start(args, format);
	fputs("reference: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(125);
}

static void put(const char *dir, const char *file, const char *text)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", dir, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s", path);
	close(fd);
}

/* The text of a file; empty where this kernel has no such file. */
static const char *get(const char *dir, const char *file, char *text, size_t size)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", dir, file);
	text[0] = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return text;
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (n <= 0)
		die("%s", path);
	close(fd);
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return text;
}

/* Only the first run after a boot needs it. */
static void make_base(void)
{
	char path[128];
	if (roots == v2)
		put(ROOT, "cgroup.subtree_control", "+memory +pids +cpu");
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s" BASE, roots[i]);
		if (mkdir(path, 0755) && errno != EEXIST)
			die("mkdir %s", path);
	}
	if (roots == v2)
		put(ROOT BASE, "cgroup.subtree_control", "+memory +pids +cpu");
}

static void make_groups(void)
{
	static unsigned number;
	number++;
	for (int i = 0; i < count; i++) {
		snprintf(dirs[i], sizeof dirs[i], "%s" BASE "/%d-%u", roots[i], (int)getpid(), number);
		int failed = mkdir(dirs[i], 0755);
		if (failed && i == 0 && errno == ENOENT) {
			make_base();
			failed = mkdir(dirs[i], 0755);
		}
		if (failed && i == CPUACCT && errno == EEXIST) {
			count = CPUACCT; /* it is one mount with cpu; its name remains good to read from */
			break;
		}
		if (failed)
			die("mkdir %s", dirs[i]);
	}
	if (roots == v1) {
		put(dirs[MEM], "memory.limit_in_bytes", MEMORY);
		put(dirs[PIDS], "pids.max", "1");
	} else {
		put(dirs[0], "memory.max", MEMORY);
		put(dirs[0], "pids.max", "1");
	}
}

/* The descriptors to join by: of the tasks files, or of the group. */
static void open_groups(int fds[4])
{
	char path[sizeof dirs + 8];
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s%s", dirs[i], roots == v1 ? "/tasks" : "");
		fds[i] = open(path, roots == v1 ? O_WRONLY | O_CLOEXEC : O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fds[i] < 0)
			die("%s", path);
	}
}

static pid_t start(int fds[4])
{
	if (roots == v1)
		return fork();
	struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = fds[0]};
	return syscall(SYS_clone3, &args, sizeof args);
}

/* One whole run. null is what the program gets as stdin and stdout, or -1. Returns its wait status. */
static int run(char **argv, int null, char *json, size_t size)
{
	int fds[4], status;
	struct rusage usage;
	make_groups();
	open_groups(fds);
	pid_t pid = start(fds);
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (roots == v1)
			for (int i = 0; i < count; i++)
				if (write(fds[i], "0", 1) != 1)
					_exit(126);
		if (null >= 0 && (dup2(null, 0) < 0 || dup2(null, 1) < 0))
			_exit(126);
		execve(argv[0], argv, environ);
		_exit(127);
	}
	for (int i = 0; i < count; i++)
		close(fds[i]);
	if (wait4(pid, &status, 0, &usage) != pid)
		die("wait4");

	char memory[32], pids[32], text[1024];
	uint64_t nanoseconds = 0;
	if (roots == v1) {
		get(dirs[MEM], "memory.max_usage_in_bytes", memory, sizeof memory);
		get(dirs[PIDS], "pids.peak", pids, sizeof pids);
		nanoseconds = strtoull(get(dirs[CPUACCT], "cpuacct.usage", text, sizeof text), NULL, 10);
	} else {
		get(dirs[0], "memory.peak", memory, sizeof memory);
		get(dirs[0], "pids.peak", pids, sizeof pids);
		get(dirs[0], "cpu.stat", text, sizeof text);
		if (sscanf(text, "usage_usec %ju", &nanoseconds) != 1)
			die("cpu.stat: %s", text);
		nanoseconds *= 1000;
	}
	/* A group whose last process has just been waited for can be busy for a moment. */
	for (int i = count; i-- > 0;)
		for (int tries = 0; rmdir(dirs[i]); tries++) {
			if (errno != EBUSY || tries == 1000)
				die("rmdir %s", dirs[i]);
			usleep(100);
		}
	snprintf(json, size,
		"{\"type\":\"result\",\"exit_code\":%d,\"signal\":%d,\"peak_memory_bytes\":%s,\"cpu_seconds\":%.6f,\"pids_peak\":%s}\n",
		WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		memory[0] ? memory : "null", nanoseconds / 1e9, pids[0] ? pids : "null");
	return status;
}

static void put_line(int fd, const char *line)
{
	ssize_t size = strlen(line);
	if (write(fd, line, size) != size)
		die("write");
}

int main(int argc, char **argv)
{
	char json[512];
	int fd = 2, loop = 0;
	argv++;
	if (argc > 1 && !strcmp(argv[0], "--loop")) {
		loop = 1;
		argv++;
	} else if (argc > 2 && !strcmp(argv[0], "--fd")) {
		fd = atoi(argv[1]);
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		argv += 2;
	}
	if (!argv[0]) {
		fputs("usage: reference [--fd N] PROG [ARG...]\n       reference --loop PROG [ARG...]\n", stderr);
		return 125;
	}
	roots = access(ROOT "/cgroup.controllers", F_OK) ? v1 : v2;
	count = roots == v1 ? 4 : 1;
	if (!loop) {
		int status = run(argv, -1, json, sizeof json);
		put_line(fd, json);
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}

	char requests[4096];
	ssize_t size;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		die("/dev/null");
	while ((size = read(0, requests, sizeof requests)) > 0)
		for (ssize_t i = 0; i < size; i++)
			if (requests[i] == '\n') {
				run(argv, null, json, sizeof json);
				put_line(1, json);
			}
	if (size < 0)
		die("read");
	return 0;
}
