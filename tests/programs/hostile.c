/* Programs that nobody should trust: what it is called with says which. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *sleeps(void *arg)
{
	const char *threads = arg; /* a cgroup.threads file to be in */
	prctl(PR_SET_NAME, "hostile-lives");
	if (threads) {
		int fd = open(threads, O_WRONLY);
		if (write(fd, "0", 1) != 1)
			_exit(97);
	}
	sleep(600);
	return arg;
}

/* Its first thread ends, another one lives on. */
static int leaderless(char *threads)
{
	pthread_t t;
	prctl(PR_SET_PDEATHSIG, 0);
	pthread_create(&t, NULL, sleeps, threads);
	syscall(SYS_exit, 0);
	return 1;
}

static void *fills(void *arg)
{
	static char block[4096];
	for (;;)
		if (write(1, block, sizeof block) < 0)
			return arg;
}

/* Fills the pipe at descriptor 1 whenever it has room, and makes room. */
static int fillpipe(void)
{
	pthread_t t;
	for (int i = 0; i < 6; i++)
		pthread_create(&t, NULL, fills, NULL);
	usleep(300000);
	for (int size = 17 * 4096; size <= 1 << 20; size += 4096) {
		fcntl(1, F_SETPIPE_SZ, size);
		usleep(3000);
	}
	return 0;
}

/* Has the kernel hang up its parent's process group: one that is orphaned again, with somebody in it stopped. */
static int orphaned(void)
{
	int group, pipes[2], status;
	char stat[512] = "", name[64], byte;
	snprintf(name, sizeof name, "/proc/%d/stat", getppid());
	int fd = open(name, O_RDONLY);
	if (fd < 0 || read(fd, stat, sizeof stat - 1) < 0 || sscanf(strrchr(stat, ')'), ") %*c %*d %d", &group) != 1)
		return 97;
	signal(SIGHUP, SIG_IGN);
	if (pipe(pipes))
		return 97;
	if (!fork()) {
		setpgid(0, 0);
		pid_t child = fork();
		if (!child) {
			setpgid(0, group);
			(void)!write(pipes[1], "b", 1);
			raise(SIGSTOP);
			pause();
		}
		(void)!read(pipes[0], &byte, 1);
		waitpid(child, &status, WUNTRACED);
		return 0;
	}
	wait(&status);
	usleep(300000);
	return 0;
}

/* So many orphans, one after the other, that end at once, with so many milliseconds after every tenth. Says how many could not be made. */
static int orphans(int count, int pause)
{
	int denied = 0, status;
	for (; count > 0; count--) {
		if (count % 10 == 0)
			usleep(pause * 1000);
		pid_t child = fork();
		if (!child) {
			pid_t orphan = fork();
			_exit(orphan < 0);
		}
		if (child < 0 || waitpid(child, &status, 0) < 0 || status)
			denied++;
	}
	printf("denied %d\n", denied);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "leaderless"))
		return leaderless(argv[2]);
	if (!strcmp(what, "orphan")) /* the same, without a parent */
		return fork() ? 0 : leaderless(NULL);
	if (!strcmp(what, "fillpipe"))
		return fillpipe();
	if (!strcmp(what, "traceme")) { /* has its parent trace it */
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		signal(SIGUSR1, SIG_IGN);
		raise(SIGUSR1);
		usleep(200000);
		raise(SIGUSR2);
		return 0;
	}
	if (!strcmp(what, "bomb")) { /* all processes that there may be, for so many seconds; each tries every so many microseconds */
		time_t end = time(NULL) + atoi(argv[2]);
		int pause = argc > 3 ? atoi(argv[3]) : 20000;
		setsid();
		for (int first = fork(); time(NULL) < end; usleep(first ? 1000000 : pause))
			if (!first)
				(void)!fork();
		return 0;
	}
	if (!strcmp(what, "orphans"))
		return orphans(atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 0);
	if (!strcmp(what, "zombies")) { /* so many children of its parent's, which end at once; then so many seconds */
		for (int i = atoi(argv[2]); i > 0; i--)
			if (!syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0, 0))
				_exit(0);
		return sleep(atoi(argv[3]));
	}
	if (!strcmp(what, "orphaned"))
		return orphaned();
	if (!strcmp(what, "seize") && argc > 2) { /* traces another one */
		ptrace(PTRACE_SEIZE, atoi(argv[2]), 0, 0);
		pause();
	}
	return 98;
}
