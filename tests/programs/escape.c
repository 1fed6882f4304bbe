/*
 * escape PID [DIR OUT GROUP DEVICE]: tries to get at cgshim, process PID, and at what it has been given no right to. A line for each
 * way: its name, and "shut" or "open". DIR is a directory that this program may write to, with a set-user-ID copy of it, "suid"; OUT
 * one of the same user that it may not, with the files secret, victim, fifo, prog, and the socket "socket"; GROUP a cgroup of this user's.
 * There is a socket with the abstract name OUT, too.
 *
 * escape kill PID...: stops and kills these processes, if it can, and then all that it can. Its exit status is 3.
 * A PID of 0 is the parent, cgshim.
 *
 * escape serve OUT: makes these sockets, says "ready", and waits. escape euid: fails as root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static pid_t target;
static const char *dir, *out, *group, *device;

/* A path of parts, one of a few. */
static const char *path(const char *format, ...)
{
	static char paths[4][4096];
	static int next;
	char *p = paths[next++ % 4];
	va_list args;
	va_start(args, format);
	vsnprintf(p, sizeof paths[0], format, args);
	va_end(args);
	return p;
}

static int opens(const char *file, int flags)
{
	int fd = open(file, flags | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	close(fd);
	return 1;
}

/* Whether a process of its own succeeds, which may spoil itself. */
static int child(int (*attempt)(void))
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(attempt() ? 0 : 1);
	int status = 1;
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* --- processes --- */

static int signals(void) { return kill(target, 0) == 0 || kill(target, SIGCONT) == 0; }

static int stops(void)
{
	if (kill(target, SIGSTOP) != 0)
		return 0;
	kill(target, SIGCONT);
	return 1;
}

static int pidfd_signals(void)
{
	int fd = syscall(SYS_pidfd_open, target, 0);
	return fd >= 0 && syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0;
}

static int traces(void)
{
	if (ptrace(PTRACE_SEIZE, target, 0, 0) != 0)
		return 0;
	ptrace(PTRACE_DETACH, target, 0, 0);
	return 1;
}

static int descriptor(void)
{
	for (int fd = 0; fd < 20; fd++)
		if (opens(path("/proc/%d/fd/%d", target, fd), O_WRONLY | O_NONBLOCK) || opens(path("/proc/%d/fd/%d", target, fd), O_RDONLY | O_NONBLOCK))
			return 1;
	return 0;
}

static int steals(void)
{
	int pidfd = syscall(SYS_pidfd_open, target, 0);
	for (int fd = 0; pidfd >= 0 && fd < 20; fd++)
		if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0)
			return 1;
	return 0;
}

static int memory(void)
{
	return opens(path("/proc/%d/mem", target), O_RDONLY) || opens(path("/proc/%d/mem", target), O_RDWR);
}

static int reads_memory(void)
{
	char byte;
	struct iovec local = {&byte, 1}, remote = {(void *)0x400000, 1};
	return process_vm_readv(target, &local, 1, &remote, 1, 0) == 1 || errno == EFAULT;
}

static int root(void) { return opens(path("/proc/%d/root%s/secret", target, out), O_RDONLY); }

static int cwd(void) { return opens(path("/proc/%d/cwd/", target), O_RDONLY | O_DIRECTORY); }

/* --- files --- */

static int procs(void)
{
	return opens(path("%s/cgroup.procs", group), O_WRONLY) || opens(path("%s/tasks", group), O_WRONLY);
}

static int limits(void)
{
	int open = opens(path("%s/cgroup.subtree_control", group), O_WRONLY);
	static const char *const files[] = {"pids.max", "memory.max", "memory.limit_in_bytes", "cgroup.kill", "cgroup.freeze", "freezer.state", "notify_on_release"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		open |= opens(path("%s/%s", group, files[i]), O_WRONLY);
	return open;
}

static int makes_group(void)
{
	if (mkdir(path("%s/more", group), 0700) != 0)
		return 0;
	rmdir(path("%s/more", group));
	return 1;
}

static int reads(void) { return opens(path("%s/secret", out), O_RDONLY); }
static int writes(void) { return opens(path("%s/secret", out), O_WRONLY); }
static int creates(void) { return opens(path("%s/new", out), O_WRONLY | O_CREAT); }
static int temporary(void) { return opens(out, O_WRONLY | O_TMPFILE); }
static int lists(void) { return opens(out, O_RDONLY | O_DIRECTORY); }
static int truncates(void) { return truncate(path("%s/secret", out), 1) == 0; }
static int removes(void) { return unlink(path("%s/victim", out)) == 0; }
static int links(void) { return link(path("%s/secret", out), path("%s/link", dir)) == 0; }
static int renames_in(void)
{
	return rename(path("%s/secret", out), path("%s/secret", dir)) == 0 && rename(path("%s/secret", dir), path("%s/secret", out)) == 0;
}
static int renames_out(void)
{
	return opens(path("%s/mine", dir), O_WRONLY | O_CREAT) && rename(path("%s/mine", dir), path("%s/mine", out)) == 0;
}

static int symbolic(void)
{
	return symlink(path("%s/secret", out), path("%s/symbolic", dir)) == 0 && opens(path("%s/symbolic", dir), O_RDONLY);
}

static int fifo(void) { return opens(path("%s/fifo", out), O_RDWR | O_NONBLOCK); }

static int device_file(void)
{
	return opens(device, O_RDWR | O_NONBLOCK);
}

static int makes_device(void)
{
	return mknod(path("%s/device", dir), S_IFCHR | 0600, makedev(1, 3)) == 0 || mknod(path("%s/device", dir), S_IFBLK | 0600, makedev(7, 0)) == 0;
}

static int executes(void)
{
	execl(path("%s/prog", out), "prog", (char *)NULL);
	return 0;
}

/* The handle of a file that this process may stat, which needs no path. */
static int handle(void)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} f;
	int mount, fd = open(dir, O_RDONLY | O_DIRECTORY);
	f.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(AT_FDCWD, path("%s/secret", out), &f.handle, &mount, 0) != 0)
		return 0;
	return open_by_handle_at(fd, &f.handle, O_RDONLY) >= 0;
}

/* --- what gives rights --- */

static int mounts(void)
{
	unshare(CLONE_NEWUSER | CLONE_NEWNS);
	return mount("none", dir, "tmpfs", 0, NULL) == 0 || mount(out, dir, NULL, MS_BIND, NULL) == 0;
}

static int user_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0 && (reads() || kill(target, 0) == 0);
}

static int chroots(void)
{
	unshare(CLONE_NEWUSER);
	return chroot(out) == 0 && opens("/secret", O_RDONLY);
}

static int set_user(void)
{
	if (geteuid() == 0) /* is root already */
		return 0;
	execl(path("%s/suid", dir), "suid", "euid", (char *)NULL);
	return 1;
}

static int anonymous(void) /* a program that is in memory only */
{
	int fd = memfd_create("program", 0), file = open("/proc/self/exe", O_RDONLY);
	char block[65536];
	for (ssize_t n; fd >= 0 && (n = read(file, block, sizeof block)) > 0;)
		if (write(fd, block, n) != n)
			return 0;
	char *const args[] = {"escape", "nothing", NULL}, *const env[] = {NULL};
	fexecve(fd, args, env);
	return 0;
}

/* --- what is no file --- */

static int connects(const char *name, int abstract)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path + abstract, sizeof address.sun_path - abstract, "%s", name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name) + !abstract;
	int ok = fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0;
	close(fd);
	return ok;
}

static int abstract_socket(void) { return connects(out, 1); }
static int path_socket(void) { return connects(path("%s/socket", out), 0); }
static int keyring(void) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1) >= 0; }
static int watches(void) { return inotify_add_watch(inotify_init1(IN_CLOEXEC), out, IN_CREATE) >= 0; }
static int changes_mode(void) { return chmod(path("%s/secret", out), 0600) == 0; }
static int changes_times(void) { return utimes(path("%s/secret", out), NULL) == 0; }
static int sees(void) { struct stat st; return stat(path("%s/secret", out), &st) == 0; }

static const struct way {
	const char *name;
	int (*attempt)(void);
} processes[] = {
	{"signals", signals}, {"SIGSTOP", stops}, {"pidfd_send_signal", pidfd_signals}, {"ptrace", traces},
	{"/proc/PID/fd", descriptor}, {"pidfd_getfd", steals}, {"/proc/PID/mem", memory}, {"process_vm_readv", reads_memory},
	{"/proc/PID/cwd", cwd},
}, files[] = {
	{"cgroup.procs", procs}, {"limits", limits}, {"mkdir in a cgroup", makes_group},
	{"read", reads}, {"write", writes}, {"create", creates}, {"O_TMPFILE", temporary}, {"list", lists}, {"truncate", truncates},
	{"unlink", removes}, {"link", links}, {"rename from", renames_in}, {"rename to", renames_out}, {"symlink", symbolic},
	{"/proc/PID/root", root}, {"FIFO", fifo}, {"device", device_file}, {"mknod", makes_device}, {"execute", executes},
	{"file handle", handle}, {"mount", mounts}, {"user namespace", user_namespace}, {"chroot", chroots}, {"set-user-ID", set_user},
	{"abstract socket", abstract_socket}, {"memfd", anonymous}, {"path socket", path_socket}, {"keyring", keyring},
	{"inotify", watches}, {"chmod", changes_mode}, {"times", changes_times}, {"stat", sees},
};

static void try(const struct way *ways, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf("%s: %s\n", ways[i].name, child(ways[i].attempt) ? "open" : "shut");
}

/* SIGKILL and SIGSTOP to a process in every way, also by the kernel in our name. */
static int kills(pid_t pid)
{
	int fds[2], pidfd = syscall(SYS_pidfd_open, pid, 0);
	for (int i = 0; i < 2; i++) {
		int sig = i ? SIGKILL : SIGSTOP;
		kill(pid, sig);
		syscall(SYS_tgkill, pid, pid, sig);
		syscall(SYS_tkill, pid, sig);
		syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
		if (pipe2(fds, O_ASYNC) == 0 && fcntl(fds[0], F_SETFL, O_ASYNC) == 0 && fcntl(fds[0], F_SETOWN, pid) == 0 && fcntl(fds[0], F_SETSIG, sig) == 0)
			(void)!write(fds[1], "x", 1);
	}
	return 0;
}

static int serve(const char *where)
{
	for (int abstract = 0; abstract < 2; abstract++) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		snprintf(address.sun_path + abstract, sizeof address.sun_path - abstract, abstract ? "%s" : "%s/socket", where);
		socklen_t size = offsetof(struct sockaddr_un, sun_path) + abstract + strlen(address.sun_path + abstract) + !abstract;
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 100) != 0)
			return perror("bind"), 1;
	}
	puts("ready");
	fclose(stdout);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "nothing") == 0)
		return 0;
	if (argc > 1 && strcmp(argv[1], "euid") == 0)
		return geteuid() != 0; /* "open" is root */
	if (argc > 2 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc > 1 && strcmp(argv[1], "kill") == 0) {
		for (int i = 2; i < argc; i++)
			kills(atoi(argv[i]) ? atoi(argv[i]) : getppid());
		kill(-1, SIGKILL); /* what it returns, if it may kill nobody, depends on the kernel */
		return 3;
	}
	target = argc > 1 && atoi(argv[1]) ? atoi(argv[1]) : getppid();
	try(processes, sizeof processes / sizeof *processes);
	if (argc < 6)
		return 0;
	dir = argv[2], out = argv[3], group = argv[4], device = argv[5];
	try(files, sizeof files / sizeof *files);
	return 0;
}
