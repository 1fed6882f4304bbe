/*
 * offers GROUP: what the kernel offers of system calls that cgshim uses, or reports: a word for each. GROUP is the directory of a
 * cgroup2 group, or "" where there is none. Landlock comes with its ABI.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, int offered)
{
	if (offered)
		printf("%s\n", name);
}

/* A child that ends at once, created by clone3(2) with these flags. */
static int clones(uint64_t flags, int group)
{
	struct clone_args args;
	memset(&args, 0, sizeof args);
	args.flags = flags;
	args.exit_signal = SIGCHLD;
	args.cgroup = group;
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

int main(int argc, char **argv)
{
	int group = argc > 1 && *argv[1] ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	say("pidfd", pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0);
	say("clone3", clones(CLONE_CLEAR_SIGHAND, 0));
	say("clone-into-cgroup", group >= 0 && clones(CLONE_INTO_CGROUP, group));
	say("close_range", syscall(SYS_close_range, 1U << 20, 1U << 20, 0) == 0);
	say("faccessat2", syscall(SYS_faccessat2, AT_FDCWD, "/", X_OK, AT_EACCESS) == 0);
	int abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi > 0)
		printf("landlock=%d\n", abi);
	return 0;
}
