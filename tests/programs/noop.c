/* The smallest program that libc can make: what is reported for it is the floor. */
int main(void) { return 0; }
