package main

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host stands for a machine: a network namespace, and a thread in it. What the
// thread starts, and the sockets that it opens, are in that namespace.
type host struct {
	do chan func()
	ns *os.File
}

// newHost makes a machine that knows nothing but its own lo, which is up.
func newHost() (*host, error) {
	h := &host{do: make(chan func())}
	made := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			err = loopbackUp()
		}
		made <- err
		if err != nil {
			return
		}
		for f := range h.do {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return h, nil
}

// run calls f on the machine. A nil host is the one that this process is on.
func (h *host) run(f func() error) error {
	if h == nil {
		return f()
	}
	ended := make(chan error)
	h.do <- func() { ended <- f() }
	return <-ended
}

func (h *host) close() error {
	close(h.do)
	return h.ns.Close()
}

// The cable between this process's machine and another: two addresses of a
// range that is nobody's (RFC 5737).
const (
	nearAddress = "192.0.2.1/24"
	farAddress  = "192.0.2.2/24"
)

// connect lays the cable to h. There is no route but to its two ends.
func (h *host) connect() error {
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cable"}, PeerName: "cable", PeerNamespace: netlink.NsFd(int(h.ns.Fd()))})
	if err != nil {
		return fmt.Errorf("make a veth pair: %w", err)
	}
	if err := plug(nearAddress); err != nil {
		return err
	}
	return h.run(func() error { return plug(farAddress) })
}

func plug(address string) error {
	link, err := netlink.LinkByName("cable")
	if err != nil {
		return err
	}
	ip, subnet, err := net.ParseCIDR(address)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: subnet.Mask}}); err != nil {
		return fmt.Errorf("give %s to the cable: %w", address, err)
	}
	return netlink.LinkSetUp(link)
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
