// Command cmd is the monitor: the parent of a pod's containers. It carries out
// programs of system calls, keeps standard streams and terminals, writes logs
// and exit codes, and answers daemons that come and go on a socket.
//
// It is one loop over epoll on one thread, without timers: it wakes when a
// process writes, ends or is asked about, and never else. It has a program of
// its own because one runs for every pod: it may import the kernel, the log
// writer and the wire, and nothing heavier. The daemon starts it with the
// listening socket as descriptor 3 and the pod's directory as 4.
//
// With "reaper" as its first argument it is process 1 of a process namespace
// that several containers share: it waits for orphans.
package main

import (
	"os/signal"
	"runtime"
	"syscall"

	"sampan/internal/linux"
)

const (
	listenFD = 3
	dirFD    = 4
)

func main() {
	// Children get a signal when the thread that made them ends, and namespaces
	// belong to threads: everything happens on this one.
	runtime.LockOSThread()
	if len(args()) > 1 && args()[1] == "reaper" {
		reap()
	}
	// Caught and dropped, not ignored: what is ignored, children inherit.
	signal.Notify(childSignals(), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	m, err := newMonitor()
	if err != nil {
		fatal(err)
	}
	m.run()
}

// reap is process 1 of a pod. It ends by SIGTERM or SIGINT, like pause.
func reap() {
	ch := childSignals()
	signal.Notify(ch, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for s := range ch {
		if s != syscall.SIGCHLD {
			syscall.Exit(0)
		}
		for {
			if w, err := linux.WaitAny(); err != nil || w.Pid == 0 {
				break
			}
		}
	}
}

func fatal(err error) {
	syscall.Write(2, []byte("monitor: "+err.Error()+"\n"))
	syscall.Exit(1)
}
