// The compiler accepts a function without a body (rawSyscall6) only in a package that has an assembly file.
