/*
 * careless FILE COMMAND [ARG...]: process 1 of a container that waits for nobody but its command: orphans stay zombies. It writes to FILE
 * how many zombies there are in its pid namespace after the command has ended, and exits with the command's status.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int zombie(const char *pid)
{
	char name[300], line[512];
	snprintf(name, sizeof name, "/proc/%s/stat", pid);
	FILE *f = fopen(name, "r");
	if (!f)
		return 0;
	char *end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return end && (end[2] == 'Z' || end[2] == 'X');
}

int main(int argc, char **argv)
{
	int status, count = 0;
	struct dirent *entry;
	if (argc < 3)
		return 98;
	pid_t pid = fork();
	if (!pid) {
		execvp(argv[2], argv + 2);
		_exit(97);
	}
	while (waitpid(pid, &status, 0) != pid)
		;
	DIR *proc = opendir("/proc");
	while (proc && (entry = readdir(proc)))
		if (isdigit(entry->d_name[0]) && zombie(entry->d_name))
			count++;
	FILE *f = fopen(argv[1], "w");
	if (!f || fprintf(f, "%d\n", count) < 0 || fclose(f))
		return 96;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
