package main

import (
	"os"
	"runtime"
)

// fewProcessors is up to how many of them one more makes a difference.
const fewProcessors = 8

// oneForTheDisk has Go run on one processor more than there are, if they are
// few. Each write waits for the disk in a system call (fdatasync(2)), which
// keeps its processor from other goroutines until the runtime takes it away,
// mostly for as long as the call takes: of two, one was idle while requests
// waited for it. A GOMAXPROCS in the environment is obeyed.
func oneForTheDisk() {
	if n := runtime.GOMAXPROCS(0); n <= fewProcessors && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + 1)
	}
}
