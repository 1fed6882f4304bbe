/*
 * refuse ERRNO[:CALL,...] PROG [ARG...]: runs PROG in a seccomp filter that refuses system calls, as some containers and
 * sandboxes do, and as kernels do that do not have them (38, ENOSYS). ERRNO is a number. Without a list it is pidfd_open(2)
 * and pidfd_send_signal(2) that are refused.
 */
#include <errno.h>
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
	{"pidfd_open", SYS_pidfd_open}, {"pidfd_send_signal", SYS_pidfd_send_signal}, {"clone3", SYS_clone3},
	{"close_range", SYS_close_range}, {"faccessat2", SYS_faccessat2}, {"kill", SYS_kill},
};
enum { CALLS = sizeof calls / sizeof *calls };

static int number_of(const char *name)
{
	for (int i = 0; i < CALLS; i++)
		if (!strcmp(calls[i].name, name))
			return calls[i].number;
	fprintf(stderr, "refuse: unknown: %s\n", name);
	exit(97);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 97;
	int error = atoi(argv[1]), refused[CALLS], n = 0;
	char *names = strchr(argv[1], ':');
	char list[] = "pidfd_open,pidfd_send_signal";
	for (char *name = strtok(names ? names + 1 : list, ","); name && n < CALLS; name = strtok(NULL, ","))
		refused[n++] = number_of(name);

	struct sock_filter filter[2 * CALLS + 2] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog program = {1, filter};
	for (int i = 0; i < n; i++) {
		filter[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
		filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
	}
	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("seccomp");
		return 96;
	}
	for (int i = 0; i < n; i++)
		if (syscall(refused[i], -1, -1, -1, -1) != -1 || errno != error) { /* which does nothing, should it be let through */
			perror("not refused");
			return 95;
		}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 94;
}
