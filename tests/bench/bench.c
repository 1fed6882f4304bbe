/*
 * Runs commands in turn and prints how long each took, as a Markdown table.
 *
 *   bench [-n ROUNDS] [-r MS] [-p PARALLEL] [-b LABEL] ROW...
 *   bench -m MS ROW...
 *
 * ROW is one of
 *   :run LABEL COMMAND...                a process for each run: from posix_spawn until wait4 has returned
 *   :run-in MNT LABEL COMMAND...         the same in another mount namespace, /proc/PID/ns/mnt
 *   :coprocess LABEL REQUEST COMMAND...  a process for all runs: from writing the request, a line, until the answer is
 *                                        here, the line with "type":"result"
 *
 * -n  300 rounds. A round has each row once. The order is another one in each round, so that nobody always runs after
 *     the one that leaves most work behind; and the same one in each call of bench.
 * -r  start a run every MS milliseconds; 0: back to back.
 * -p  that many of the same row at once; each counts. {} in an argument is the number of the one, from 0.
 * -b  the row that the ratios are to (the first).
 * -m  no times: start each row once, and tell what is resident after MS milliseconds in the processes that have been
 *     started, without the program itself, which is the one named "sleeper".
 *
 * Descriptor 3 of a command is /dev/null, as 0 to 2 are. A run that fails (exit status other than 0, an answer without
 * "exit_code":0 or none) is counted, and not timed. What the first ones of a row print on stderr then is passed on.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ROWS = 32, MAX_PARALLEL = 64, WARM_UP = 3, ANSWER_MS = 60000 };

struct coprocess {
	pid_t pid;
	int in, out;
	size_t size;
	char answer[65536];
};

struct row {
	const char *label, *request;
	char **command;
	int namespace; /* or -1 */
	struct coprocess *coprocesses;
	float *wall, *cpu; /* milliseconds, of each run that succeeded */
	int runs, failed;
	double coprocess_cpu;
	long max_rss;
};

static struct row rows[MAX_ROWS];
static int own_namespace, directory;
static int row_count, rounds = 300, rhythm, parallel = 1, memory_after;
static const char *base;
static posix_spawnattr_t attributes;
static volatile sig_atomic_t stopped; /* by this signal: when the run is over, so that nothing is left of it */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void sleep_until(double when)
{
	struct timespec t = {.tv_sec = when / 1e3, .tv_nsec = fmod(when, 1e3) * 1e6};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static double cpu_ms(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e3 + (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e3;
}

static void stop(int signal)
{
	stopped = signal;
}

static void prepare_signals(void)
{
	sigset_t changed;
	sigemptyset(&changed);
	sigaddset(&changed, SIGPIPE); /* a coprocess that ends is seen by what it does not answer */
	sigaddset(&changed, SIGINT);  /* a shell's background job ignores it already */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigdefault(&attributes, &changed);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
}

/* Starts a command; 0, 1 and 2 are these, or /dev/null if negative. Returns -1 if it can't. */
static pid_t spawn(char **command, int in, int out, int err)
{
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	int fds[] = {in, out, err, -1};
	for (int i = 0; i < 4; i++)
		posix_spawn_file_actions_adddup2(&actions, fds[i] < 0 ? 3 : fds[i], i);
	pid_t pid;
	int error = posix_spawn(&pid, command[0], &actions, &attributes, command, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (error)
		dprintf(err < 0 ? 3 : err, "%s", strerror(error));
	return error ? -1 : pid;
}

/* Takes the calling thread into the namespace of a row, and back. */
static void enter(const struct row *row)
{
	if (row->namespace >= 0 && setns(row->namespace, CLONE_NEWNS))
		die("setns");
}

static void leave(const struct row *row)
{
	if (row->namespace >= 0 && (setns(own_namespace, CLONE_NEWNS) || fchdir(directory)))
		die("setns");
}

/* Tells on one line why a run failed. */
static void show(const struct row *row, int err, int status)
{
	char text[4096];
	ssize_t size = pread(err, text, sizeof text - 1, 0);
	text[size > 0 ? size : 0] = 0;
	for (char *p = text; (p = strchr(p, '\n'));)
		*p = ' ';
	fprintf(stderr, "bench: %s: wait status %d: %s\n", row->label, status, text);
}

static void count(struct row *row, int ok, double wall, double cpu)
{
	pthread_mutex_lock(&lock);
	if (ok) {
		row->wall[row->runs] = wall;
		row->cpu[row->runs++] = cpu;
	} else
		row->failed++;
	pthread_mutex_unlock(&lock);
}

static void run_command(struct row *row, char **command, int measured)
{
	struct rusage usage = {0};
	int status = -1, err = -1;
	if (!measured)
		err = memfd_create("stderr", MFD_CLOEXEC);
	enter(row);
	double begin = now();
	pid_t pid = spawn(command, -1, -1, err);
	leave(row);
	if (pid > 0 && wait4(pid, &status, 0, &usage) != pid)
		die("wait4");
	double wall = now() - begin;
	if (!measured) {
		if (status != 0)
			show(row, err, status);
		close(err);
		return;
	}
	count(row, status == 0, wall, cpu_ms(&usage));
	pthread_mutex_lock(&lock);
	if (usage.ru_maxrss > row->max_rss)
		row->max_rss = usage.ru_maxrss;
	pthread_mutex_unlock(&lock);
}

static void open_coprocess(struct row *row, struct coprocess *c)
{
	int in[2], out[2];
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		die("pipe2");
	c->pid = spawn(row->command, in[0], out[1], STDERR_FILENO);
	if (c->pid < 0)
		die(row->command[0]);
	close(in[0]);
	close(out[1]);
	c->in = in[1];
	c->out = out[0];
}

static void close_coprocess(struct row *row, struct coprocess *c)
{
	struct rusage usage;
	int status;
	close(c->in);
	if (wait4(c->pid, &status, 0, &usage) != c->pid)
		die("wait4");
	close(c->out);
	if (status != 0) {
		fprintf(stderr, "bench: %s: ended with wait status %d\n", row->label, status);
		row->failed++;
	}
	row->coprocess_cpu += cpu_ms(&usage);
	if (usage.ru_maxrss > row->max_rss)
		row->max_rss = usage.ru_maxrss;
}

/* Reads until the result is there; false if it does not come. What follows it in the pipe is left there. */
static int read_result(struct coprocess *c, char *line, size_t size)
{
	double deadline = now() + ANSWER_MS;
	for (;;) {
		char *end = memchr(c->answer, '\n', c->size);
		if (end) {
			size_t length = end - c->answer;
			snprintf(line, size, "%.*s", (int)length, c->answer);
			c->size -= length + 1;
			memmove(c->answer, end + 1, c->size);
			if (strstr(line, "\"type\":\"result\""))
				return 1;
			continue;
		}
		struct pollfd ready = {.fd = c->out, .events = POLLIN};
		double left = deadline - now();
		if (left <= 0 || c->size == sizeof c->answer || poll(&ready, 1, left + 1) < 0)
			return 0;
		if (!ready.revents)
			continue;
		ssize_t n = read(c->out, c->answer + c->size, sizeof c->answer - c->size);
		if (n <= 0)
			return 0;
		c->size += n;
	}
}

static void ask_coprocess(struct row *row, struct coprocess *c, int measured)
{
	char line[16384] = "";
	size_t length = strlen(row->request);
	double begin = now();
	int ok = write(c->in, row->request, length) == (ssize_t)length && read_result(c, line, sizeof line) &&
		strstr(line, "\"exit_code\":0,");
	double wall = now() - begin;
	if (measured)
		count(row, ok, wall, 0);
	else if (!ok)
		fprintf(stderr, "bench: %s: no good answer: %s\n", row->label, line);
}

/* One of those that run at the same time. */
struct worker {
	pthread_t thread;
	struct row *row;
	int number, measured;
	char **commands[MAX_ROWS];
};

static pthread_barrier_t begin_together, end_together;

static void work(struct worker *w)
{
	if (w->row->coprocesses)
		ask_coprocess(w->row, &w->row->coprocesses[w->number], w->measured);
	else
		run_command(w->row, w->commands[w->row - rows], w->measured);
}

static void *worker(void *argument)
{
	if (unshare(CLONE_FS)) /* else it can't change its namespace */
		die("unshare");
	for (;;) {
		pthread_barrier_wait(&begin_together);
		work(argument);
		pthread_barrier_wait(&end_together);
	}
	return NULL;
}

static struct worker workers[MAX_PARALLEL];

/* The command of a worker, which has its number for each {}. */
static char **numbered(char **command, int number)
{
	int n = 0;
	while (command[n])
		n++;
	char **copy = calloc(n + 1, sizeof *copy);
	for (int i = 0; i < n; i++) {
		char *braces = strstr(command[i], "{}");
		if (!braces)
			copy[i] = command[i];
		else if (asprintf(&copy[i], "%.*s%d%s", (int)(braces - command[i]), command[i], number, braces + 2) < 0)
			die("asprintf");
	}
	return copy;
}

static void run_row(struct row *row, int measured)
{
	for (int i = 0; i < parallel; i++) {
		workers[i].row = row;
		workers[i].measured = measured;
	}
	if (parallel == 1) {
		work(&workers[0]);
		return;
	}
	pthread_barrier_wait(&begin_together);
	pthread_barrier_wait(&end_together);
}

static void shuffle(int *order)
{
	static uint32_t state = 1;
	for (int i = row_count - 1; i > 0; i--) {
		state = state * 1664525 + 1013904223;
		int j = (state >> 8) % (i + 1), swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
}

static void measure(void)
{
	int order[MAX_ROWS];
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 << 10);
	pthread_barrier_init(&begin_together, NULL, parallel + 1);
	pthread_barrier_init(&end_together, NULL, parallel + 1);
	for (int i = 0; i < parallel; i++) {
		workers[i].number = i;
		for (int j = 0; j < row_count; j++)
			workers[i].commands[j] = numbered(rows[j].command, i);
		if (parallel > 1 && (errno = pthread_create(&workers[i].thread, &small, worker, &workers[i])))
			die("pthread_create");
	}
	for (int i = 0; i < row_count; i++) {
		struct row *row = &rows[i];
		order[i] = i;
		row->wall = calloc((size_t)rounds * parallel, sizeof *row->wall);
		row->cpu = calloc((size_t)rounds * parallel, sizeof *row->cpu);
		if (row->request) {
			row->coprocesses = calloc(parallel, sizeof *row->coprocesses);
			for (int j = 0; j < parallel; j++)
				open_coprocess(row, &row->coprocesses[j]);
		}
	}
	double next = now();
	for (int round = -WARM_UP; round < rounds; round++) {
		shuffle(order);
		for (int i = 0; i < row_count; i++) {
			if (rhythm) {
				while (next < now()) /* one that took longer is followed by a rest, too */
					next += rhythm;
				sleep_until(next);
			}
			run_row(&rows[order[i]], round >= 0);
			if (stopped)
				exit(128 + stopped);
		}
		if (isatty(STDERR_FILENO) && round >= 0 && (round + 1) % 10 == 0)
			fprintf(stderr, "\r%d of %d rounds ", round + 1, rounds);
	}
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	for (int i = 0; i < row_count; i++)
		for (int j = 0; rows[i].coprocesses && j < parallel; j++)
			close_coprocess(&rows[i], &rows[i].coprocesses[j]);
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

/* Of sorted values; the nearest rank. */
static float percentile(const float *values, int n, double p)
{
	int rank = ceil(p * n);
	return values[rank > 0 ? rank - 1 : 0];
}

static void print_table(void)
{
	struct row *reference = &rows[0];
	for (int i = 0; i < row_count; i++) {
		qsort(rows[i].wall, rows[i].runs, sizeof(float), by_size);
		qsort(rows[i].cpu, rows[i].runs, sizeof(float), by_size);
		if (base && !strcmp(rows[i].label, base))
			reference = &rows[i];
	}
	printf("| | median ms | p99 ms | median ÷ reference | p99 ÷ reference | CPU ms | max RSS MiB | failed |\n");
	printf("|---|--:|--:|--:|--:|--:|--:|--:|\n");
	for (int i = 0; i < row_count; i++) {
		struct row *row = &rows[i];
		int n = row->runs;
		if (!n) {
			printf("| %s | | | | | | | %d of %d |\n", row->label, row->failed, row->failed);
			continue;
		}
		double median = percentile(row->wall, n, 0.5), p99 = percentile(row->wall, n, 0.99);
		double cpu = row->coprocesses ? row->coprocess_cpu / (rounds + WARM_UP) / parallel : percentile(row->cpu, n, 0.5);
		printf("| %s | %.2f | %.2f ", row->label, median, p99);
		if (reference->runs)
			printf("| %.2f | %.2f ", median / percentile(reference->wall, reference->runs, 0.5),
				p99 / percentile(reference->wall, reference->runs, 0.99));
		else
			printf("| | ");
		printf("| %.2f | %.1f | ", cpu, row->max_rss / 1024.0);
		if (row->failed)
			printf("%d of %d |\n", row->failed, row->failed + n);
		else
			printf("0 |\n");
	}
}

/* What is in a file of /proc; empty if the process is gone. */
static char *proc(char *text, size_t size, int pid, const char *file)
{
	char path[300];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

static long kib(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	return p ? strtol(p + strlen(name), NULL, 10) : 0;
}

struct memory {
	long rss, peak, anonymous, pss;
	int processes, programs;
};

/* A process and those below it, without the program. */
static void add_tree(int pid, struct memory *sum)
{
	char text[8192], path[300];
	if (!strcmp(proc(text, sizeof text, pid, "comm"), "sleeper\n"))
		sum->programs++;
	else {
		sum->processes++;
		/* The figures in status can be some pages per CPU behind, these are counted. */
		proc(text, sizeof text, pid, "smaps_rollup");
		long rss = kib(text, "\nRss:");
		sum->rss += rss;
		sum->anonymous += kib(text, "\nAnonymous:");
		sum->pss += kib(text, "\nPss:");
		long peak = kib(proc(text, sizeof text, pid, "status"), "VmHWM:");
		sum->peak += peak > rss ? peak : rss;
	}
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *tasks = opendir(path); /* each thread has children of its own */
	if (!tasks)
		return;
	for (struct dirent *task; (task = readdir(tasks));) {
		snprintf(path, sizeof path, "task/%s/children", task->d_name);
		char *end, *p = proc(text, sizeof text, pid, path);
		for (long child; child = strtol(p, &end, 10), end != p; p = end)
			add_tree(child, sum);
	}
	closedir(tasks);
}

static void print_memory(void)
{
	printf("| | processes | RSS MiB | peak RSS MiB | anonymous MiB | PSS MiB |\n|---|--:|--:|--:|--:|--:|\n");
	for (int i = 0; i < row_count; i++) {
		struct memory sum = {0};
		int status, err = memfd_create("stderr", MFD_CLOEXEC);
		enter(&rows[i]);
		pid_t pid = spawn(numbered(rows[i].command, 0), -1, -1, err);
		leave(&rows[i]);
		status = -1;
		if (pid > 0) {
			sleep_until(now() + memory_after);
			add_tree(pid, &sum);
			if (waitpid(pid, &status, 0) != pid)
				die("waitpid");
		}
		if (status != 0)
			show(&rows[i], err, status);
		close(err);
		if (stopped)
			exit(128 + stopped);
		if (status != 0 || sum.programs != 1)
			printf("| %s | failed | | | | |\n", rows[i].label);
		else if (!sum.processes)
			printf("| %s | 0 | | | | |\n", rows[i].label);
		else
			printf("| %s | %d | %.1f | %.1f | %.1f | %.1f |\n", rows[i].label, sum.processes, sum.rss / 1024.0,
				sum.peak / 1024.0, sum.anonymous / 1024.0, sum.pss / 1024.0);
		fflush(stdout);
	}
}

static void usage(void)
{
	fputs("usage: bench [-n ROUNDS] [-r MS] [-p PARALLEL] [-b LABEL] ROW...\n"
	      "       bench -m MS ROW...\n"
	      "rows:  :run LABEL COMMAND... | :run-in MNT LABEL COMMAND... | :coprocess LABEL REQUEST COMMAND...\n", stderr);
	exit(2);
}

static char *next(char ***p)
{
	if (!**p)
		usage();
	return *(*p)++;
}

/* The next row's first argument becomes the NULL that ends a command. */
static void parse_rows(char **p)
{
	while (*p) {
		struct row *row = &rows[row_count++];
		const char *kind = *p;
		*p++ = NULL;
		if (row_count > MAX_ROWS)
			usage();
		row->namespace = -1;
		if (!strcmp(kind, ":run-in")) {
			row->namespace = open(next(&p), O_RDONLY | O_CLOEXEC);
			if (row->namespace < 0)
				die(p[-1]);
		}
		row->label = next(&p);
		if (!strcmp(kind, ":coprocess")) {
			char *line;
			if (asprintf(&line, "%s\n", next(&p)) < 0)
				die("asprintf");
			row->request = line;
		} else if (strncmp(kind, ":run", 4))
			usage();
		row->command = p;
		next(&p);
		while (*p && strcmp(*p, ":run") && strcmp(*p, ":run-in") && strcmp(*p, ":coprocess"))
			p++;
	}
	if (!row_count)
		usage();
}

int main(int argc, char **argv)
{
	int option;
	while ((option = getopt(argc, argv, "+n:r:p:b:m:")) != -1)
		switch (option) {
		case 'n': rounds = atoi(optarg); break;
		case 'r': rhythm = atoi(optarg); break;
		case 'p': parallel = atoi(optarg); break;
		case 'b': base = optarg; break;
		case 'm': memory_after = atoi(optarg); break;
		default: usage();
		}
	if (rounds < 1 || rhythm < 0 || parallel < 1 || parallel > MAX_PARALLEL)
		usage();
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 3) < 0)
		die("/dev/null");
	if (null != 3)
		close(null);
	own_namespace = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	directory = open(".", O_RDONLY | O_CLOEXEC);
	if (own_namespace < 0 || directory < 0)
		die("/proc/self/ns/mnt");
	parse_rows(argv + optind);
	prepare_signals();
	if (memory_after)
		print_memory();
	else {
		measure();
		print_table();
	}
	return 0;
}
