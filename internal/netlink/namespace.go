package netlink

import (
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// Do calls fn on a thread that is in the network namespace at path, and
// returns what fn returns. fn must not start goroutines that need to be there
// as well.
func Do(path string, fn func() error) error {
	target, err := netns.GetFromPath(path)
	if err != nil {
		return failed("open network namespace", path, err)
	}
	defer target.Close()
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked where it could not be brought back: it
		// then ends with the goroutine, instead of serving others from there.
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- failed("open network namespace", "of this thread", err)
			return
		}
		defer home.Close()
		if err := netns.Set(target); err != nil {
			done <- failed("enter network namespace", path, err)
			return
		}
		err = fn()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Sysctl returns a setting of the calling thread's network namespace:
// "net/ipv4/ip_forward".
func Sysctl(name string) (string, error) {
	data, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return "", failed("read sysctl", name, err)
	}
	return strings.TrimSpace(string(data)), nil
}

// SetSysctl changes a setting of the calling thread's network namespace.
func SetSysctl(name, value string) error {
	return failed("set sysctl "+name+" to", value, os.WriteFile("/proc/sys/"+name, []byte(value), 0))
}
