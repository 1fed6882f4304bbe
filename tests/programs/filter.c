/*
 * filter ERRNO CALL... -- PROG [ARG...]: runs PROG in a seccomp filter that refuses system calls, as some containers and
 * sandboxes do. ERRNO is a number.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	int number;
} calls[] = {
	{"ioctl", SYS_ioctl},
	{"landlock_create_ruleset", SYS_landlock_create_ruleset},
	{"landlock_restrict_self", SYS_landlock_restrict_self},
	{"memfd_create", SYS_memfd_create},
	{"pipe2", SYS_pipe2},
	{"prctl", SYS_prctl},
	{"sendmsg", SYS_sendmsg},
	{"socketpair", SYS_socketpair},
	{"unshare", SYS_unshare},
};

static int number_of(const char *name)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(name, calls[i].name) == 0)
			return calls[i].number;
	fprintf(stderr, "filter: no such call: %s\n", name);
	exit(97);
}

int main(int argc, char **argv)
{
	enum { most = 16 };
	struct sock_filter filter[2 + 2 * most] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	unsigned short length = 1;
	int i = 2;
	for (; i < argc && i < 2 + most && strcmp(argv[i], "--") != 0; i++) {
		filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number_of(argv[i]), 0, 1);
		filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(argv[1]));
	}
	filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {length, filter};
	if (i + 1 >= argc || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("filter");
		return 96;
	}
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 94;
}
