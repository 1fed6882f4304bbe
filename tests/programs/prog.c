/*
 * The test suite's program: what it is called with says what it does. Linked statically, so that its
 * memory and CPU time are its own and not a dynamic loader's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(99);
}

/* Touches every page of so many bytes, outside of malloc, which would round. */
static void touch(long bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, bytes, MADV_NOHUGEPAGE);
	for (long i = 0; i < bytes; i += 4096)
		p[i] = 1;
}

/* So many children touch so many bytes each, and all of them hold them at the same time. */
static int family(int children, long bytes)
{
	int ready[2], go[2];
	char c;
	if (pipe(ready) || pipe(go))
		die("pipe");
	for (int i = 0; i < children; i++) {
		pid_t pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			close(go[1]);
			touch(bytes);
			if (write(ready[1], "r", 1) != 1)
				die("write");
			_exit(read(go[0], &c, 1) != 0);
		}
	}
	for (int i = 0; i < children; i++)
		if (read(ready[0], &c, 1) != 1)
			die("read");
	close(go[1]);
	for (int i = 0; i < children; i++) {
		int status;
		if (wait(&status) < 0 || status != 0)
			die("wait");
	}
	return 0;
}

/* A child of a child runs out of memory; this process lives on, if it is let, and exits 0. */
static int grandchild(long bytes)
{
	if (fork() == 0) {
		if (fork() == 0) {
			touch(bytes);
			_exit(0);
		}
		wait(NULL);
		_exit(0);
	}
	wait(NULL);
	return 0;
}

static double budget;

/* Burns its share of the CPU seconds, by its own clock. */
static void *burn(void *unused)
{
	struct timespec t;
	do {
		for (volatile int i = 0; i < 20000; i++)
			;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	} while (t.tv_sec + t.tv_nsec / 1e9 < budget);
	return unused;
}

static int spin(int threads, double seconds)
{
	pthread_t id[64];
	budget = seconds / threads;
	for (int i = 1; i < threads && i < 64; i++)
		if (pthread_create(&id[i], NULL, burn, NULL))
			die("pthread_create");
	burn(NULL);
	for (int i = 1; i < threads && i < 64; i++)
		pthread_join(id[i], NULL);
	return 0;
}

/* Forks until it can't: prints how many children there were, and the errno. */
static int forks(int most)
{
	int n = 0;
	while (n < most) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (pid == 0) {
			pause();
			_exit(0);
		}
		n++;
	}
	printf("%d %s\n", n, n < most ? strerrorname_np(errno) : "-");
	return 0;
}

static int pause_for(double seconds)
{
	struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
	while (nanosleep(&t, &t) && errno == EINTR)
		;
	return 0;
}

/* Does something, and prints what getrusage(2) says of it: user and system seconds, context switches. */
static int usage_of(char **what)
{
	struct rusage u;
	if (!strcmp(what[0], "spin"))
		spin(atoi(what[1]), atof(what[2]));
	else
		for (int i = atoi(what[1]); i > 0; i--)
			pause_for(0.0001);
	getrusage(RUSAGE_SELF, &u);
	printf("%ld.%06ld %ld.%06ld %ld %ld\n", u.ru_utime.tv_sec, u.ru_utime.tv_usec, u.ru_stime.tv_sec,
	       u.ru_stime.tv_usec, u.ru_nvcsw, u.ru_nivcsw);
	return 0;
}

/* What a process has from its parent, in a line. */
static int inherited(void)
{
	cpu_set_t cpus;
	mode_t mask = umask(0);
	if (sched_getaffinity(0, sizeof cpus, &cpus))
		die("sched_getaffinity");
	printf("slack=%d nice=%d cpus=%d policy=%d umask=%03o huge=%d dumpable=%d", prctl(PR_GET_TIMERSLACK), getpriority(PRIO_PROCESS, 0),
	       CPU_COUNT(&cpus), sched_getscheduler(0), mask, prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
	for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
		struct rlimit limit;
		if (getrlimit(resource, &limit))
			die("getrlimit");
		printf(" %llu:%llu", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	}
	printf("\n");
	return 0;
}

/* Executes a command with what a shell can't set: timer slack, in ns, and no huge pages. */
static int bequeath(long slack, char **command)
{
	if (prctl(PR_SET_TIMERSLACK, slack) || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		die("prctl");
	execvp(*command, command);
	die(*command);
	return 96;
}

int main(int argc, char **argv)
{
	/* First of all: the clock and the memory that the launcher left. */
	struct timespec cpu;
	struct rusage usage;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	getrusage(RUSAGE_SELF, &usage);

	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "clock")) {
		printf("%ld %ld\n", cpu.tv_sec * 1000000 + cpu.tv_nsec / 1000, usage.ru_maxrss);
		return 0;
	}
	if (!strcmp(what, "cgroup")) { /* the groups that it was born in */
		char buf[8192];
		int fd = open("/proc/self/cgroup", O_RDONLY);
		ssize_t n = read(fd, buf, sizeof buf);
		return n <= 0 || write(1, buf, n) != n;
	}
	if (!strcmp(what, "touch") && argc > 2)
		return touch(atol(argv[2])), 0;
	if (!strcmp(what, "hold") && argc > 3)
		return touch(atol(argv[2])), pause_for(atof(argv[3]));
	if (!strcmp(what, "usage") && argc > 3)
		return usage_of(argv + 2);
	if (!strcmp(what, "family") && argc > 3)
		return family(atoi(argv[2]), atol(argv[3]));
	if (!strcmp(what, "grandchild") && argc > 2)
		return grandchild(atol(argv[2]));
	if (!strcmp(what, "spin") && argc > 3)
		return spin(atoi(argv[2]), atof(argv[3]));
	if (!strcmp(what, "forks") && argc > 2)
		return forks(atoi(argv[2]));
	if (!strcmp(what, "inherited"))
		return inherited();
	if (!strcmp(what, "bequeath") && argc > 3)
		return bequeath(atol(argv[2]), argv + 3);
	if (!strcmp(what, "deaf")) { /* ignores what can be ignored, says so, and sleeps */
		for (int sig = 1; sig < 32; sig++)
			signal(sig, SIG_IGN);
		if (write(1, "deaf\n", 5) != 5)
			return 98;
		for (;;)
			pause();
	}
	fprintf(stderr, "prog: unknown: %s\n", what);
	return 97;
}
