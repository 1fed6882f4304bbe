package main

// growStack makes the stack of the calling goroutine as large as a run needs it, at once: else it is copied again and again
// while it grows.
func growStack()
