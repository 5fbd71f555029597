// Package ipam hands out the addresses of a range, one file per address, so
// that several processes can share a range and a crash loses nothing.
//
// It does not know what an address is for: it is given owners' IDs.
package ipam

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"sampan/internal/durable"
	"sampan/internal/fault"
)

// Pool is a range of IPv4 addresses. Set the fields; the directory is made at
// first use. It is safe for concurrent use, also by several processes.
type Pool struct {
	Dir   string
	Range netip.Prefix // of at least 8 addresses
}

// foreign owns addresses that something else on the machine uses.
const foreign = "!"

// Take returns owner's address: the one it has, or the next free one after the
// last that was given, so that an address is reused late. The first two
// addresses of the range and its last are never given.
func (p Pool) Take(ctx context.Context, owner string) (netip.Addr, error) {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return netip.Addr{}, &fault.Error{Op: "make directory", On: p.Dir, Err: err}
	}
	lock, err := durable.Exclusive(ctx, filepath.Join(p.Dir, "lock"))
	if err != nil {
		return netip.Addr{}, err
	}
	defer lock.Unlock()
	held, err := p.Held()
	if err != nil {
		return netip.Addr{}, err
	}
	for ip, who := range held {
		if who == owner {
			return ip, nil
		}
	}
	last, _ := os.ReadFile(filepath.Join(p.Dir, "last"))
	ip, ok := p.free(string(last), held)
	if !ok {
		return netip.Addr{}, &fault.Error{Class: fault.Unavailable, Op: "take an address of", On: p.Range.String(),
			Err: errors.New("all are in use")}
	}
	// The owner is in the file before the file has the address's name, so a
	// crash leaves no address that is nobody's.
	tmp := filepath.Join(p.Dir, "new")
	if err := os.WriteFile(tmp, []byte(owner), 0o600); err != nil {
		return netip.Addr{}, &fault.Error{Op: "take address", On: ip.String(), Err: err}
	}
	if err := os.Rename(tmp, filepath.Join(p.Dir, ip.String())); err != nil {
		return netip.Addr{}, &fault.Error{Op: "take address", On: ip.String(), Err: err}
	}
	// Losing this only makes an address come back sooner.
	_ = os.WriteFile(filepath.Join(p.Dir, "last"), []byte(ip.String()), 0o600)
	return ip, nil
}

// Pass marks the address that owner was given as used by something else on
// the machine, so that the next Take gives another.
func (p Pool) Pass(ip netip.Addr) error {
	if err := os.WriteFile(filepath.Join(p.Dir, ip.String()), []byte(foreign), 0o600); err != nil {
		return &fault.Error{Op: "pass over address", On: ip.String(), Err: err}
	}
	return nil
}

// Release gives back the addresses of owner; nil if it has none.
func (p Pool) Release(ctx context.Context, owner string) error {
	if _, err := os.Stat(p.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := durable.Exclusive(ctx, filepath.Join(p.Dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	held, err := p.Held()
	if err != nil {
		return err
	}
	for ip, who := range held {
		if who != owner {
			continue
		}
		if err := os.Remove(filepath.Join(p.Dir, ip.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fault.Error{Op: "release address", On: ip.String(), Err: err}
		}
	}
	return nil
}

// Held is which address is whose, those passed over included.
func (p Pool) Held() (map[netip.Addr]string, error) {
	entries, err := os.ReadDir(p.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.Error{Op: "list addresses", On: p.Dir, Err: err}
	}
	out := map[netip.Addr]string{}
	for _, e := range entries {
		ip, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		owner, err := os.ReadFile(filepath.Join(p.Dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &fault.Error{Op: "read address", On: e.Name(), Err: err}
		}
		out[ip] = string(owner)
	}
	return out, nil
}

// Owned is Held without the addresses that were passed over.
func (p Pool) Owned() (map[netip.Addr]string, error) {
	held, err := p.Held()
	for ip, who := range held {
		if who == foreign {
			delete(held, ip)
		}
	}
	return held, err
}

func (p Pool) free(last string, held map[netip.Addr]string) (netip.Addr, bool) {
	first := p.Range.Masked().Addr().Next().Next()
	ip, err := netip.ParseAddr(last)
	if err != nil || !p.Range.Contains(ip) {
		ip = first.Prev()
	}
	for range 1 << (32 - p.Range.Bits()) {
		ip = ip.Next()
		if !p.Range.Contains(ip.Next()) {
			ip = first
		}
		if _, taken := held[ip]; !taken {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
