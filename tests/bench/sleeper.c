/* Waits for so many milliseconds: the program, while the memory of those who wait for it is looked at. */
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	long ms = argc > 1 ? atol(argv[1]) : 1000;
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	return nanosleep(&t, NULL) != 0;
}
