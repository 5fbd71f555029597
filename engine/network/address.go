package network

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"sampan/internal/fault"
)

// foreign marks an address that the machine uses for something else.
const foreign = "!"

// take gives the container its address, the one it has or the next free one
// after the last that was given, so that an address is reused late.
func (n *Network) take(ctx context.Context, id string) (netip.Addr, error) {
	if err := os.MkdirAll(n.config.Dir, 0o700); err != nil {
		return netip.Addr{}, &fault.Error{Op: "make directory", On: n.config.Dir, Err: err}
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unlock()
	held, err := n.held()
	if err != nil {
		return netip.Addr{}, err
	}
	for ip, owner := range held {
		if owner == id {
			return netip.ParseAddr(ip)
		}
	}
	last, _ := os.ReadFile(filepath.Join(n.config.Dir, "last"))
	ip, ok := free(n.config.Subnet, string(last), held)
	if !ok {
		return netip.Addr{}, &fault.Error{Class: fault.Unavailable, Op: "take an address of", On: n.config.Subnet.String(),
			Err: errors.New("all are in use"), Fix: "remove containers"}
	}
	// The owner is in the file before the file has the address's name, so a
	// crash leaves no address that is nobody's.
	tmp := filepath.Join(n.config.Dir, "new")
	if err := os.WriteFile(tmp, []byte(id), 0o600); err != nil {
		return netip.Addr{}, &fault.Error{Op: "take address", On: ip.String(), Err: err}
	}
	if err := os.Rename(tmp, filepath.Join(n.config.Dir, ip.String())); err != nil {
		return netip.Addr{}, &fault.Error{Op: "take address", On: ip.String(), Err: err}
	}
	// Losing this only makes an address come back sooner.
	_ = os.WriteFile(filepath.Join(n.config.Dir, "last"), []byte(ip.String()), 0o600)
	return ip, nil
}

// pass marks an address as the machine's own.
func (n *Network) pass(ip netip.Addr) error {
	if err := os.WriteFile(filepath.Join(n.config.Dir, ip.String()), []byte(foreign), 0o600); err != nil {
		return &fault.Error{Op: "pass over address", On: ip.String(), Err: err}
	}
	return nil
}

// held is which address is whose.
func (n *Network) held() (map[string]string, error) {
	entries, err := os.ReadDir(n.config.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &fault.Error{Op: "list addresses", On: n.config.Dir, Err: err}
	}
	out := map[string]string{}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil {
			continue
		}
		owner, err := os.ReadFile(filepath.Join(n.config.Dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &fault.Error{Op: "read address", On: e.Name(), Err: err}
		}
		out[e.Name()] = string(owner)
	}
	return out, nil
}

// free is the first address after last that is not held, going round. The
// first and last of the range and its .1 are left out, as users expect.
func free(subnet netip.Prefix, last string, held map[string]string) (netip.Addr, bool) {
	first := subnet.Addr().Next().Next()
	ip, err := netip.ParseAddr(last)
	if err != nil || !subnet.Contains(ip) {
		ip = first.Prev()
	}
	for range 1 << (32 - subnet.Bits()) {
		ip = ip.Next()
		if !subnet.Contains(ip.Next()) {
			ip = first
		}
		if _, taken := held[ip.String()]; !taken {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
