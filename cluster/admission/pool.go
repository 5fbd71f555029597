package admission

import (
	"errors"
	"math/rand/v2"
	"net/netip"
)

// pool chooses numbers from 0 to size-1. The first ones are left to those who
// ask for a certain number, as long as there are others: upstream's static
// band (KEP-3070, KEP-3668).
type pool struct {
	size, static int
	reserved     int // numbers from 0 that are only given on request
}

var errFull = errors.New("range is full")

// choose returns a random free number.
func (p pool) choose(free func(n int) bool) (int, error) {
	bands := [][2]int{{p.static, p.size}, {p.reserved, min(p.static, p.size)}}
	for _, b := range bands {
		n := b[1] - b[0]
		if n <= 0 {
			continue
		}
		start := rand.IntN(n)
		for i := range n {
			if c := b[0] + (start+i)%n; free(c) {
				return c, nil
			}
		}
	}
	return 0, errFull
}

// band is how many of size are the static band: a step-th part, but between
// least and most, and none of a small range.
func band(size, least, step, most int) int {
	if size < least {
		return 0
	}
	return min(max(least, size/step), most)
}

// maxAddresses bounds the part of a range that addresses are taken from;
// upstream's bound for IPv6.
const maxAddresses = 1 << 16

// addresses is a range of service addresses.
type addresses struct {
	prefix netip.Prefix
	pool   pool
}

// newAddresses leaves the first reserved addresses of a range to those who ask
// for them.
func newAddresses(p netip.Prefix, reserved int) *addresses {
	bits := p.Addr().BitLen() - p.Bits()
	size := maxAddresses
	if bits < 16 || p.Addr().Is4() {
		size = 1 << min(bits, 24)
	}
	size -= 1 // the network's own address is not given
	if p.Addr().Is4() {
		size-- // nor is the broadcast address
	}
	size = max(size, 0)
	return &addresses{prefix: p.Masked(), pool: pool{size: size, static: band(size, 16, 16, 256), reserved: reserved}}
}

// last is the last address that is given.
func (a *addresses) last() netip.Addr { return a.at(a.pool.size - 1) }

// at is the n-th address; the first is that of the kubernetes service.
func (a addresses) at(n int) netip.Addr {
	b := a.prefix.Addr().AsSlice()
	n++
	for i := len(b) - 1; n > 0; i-- {
		n += int(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

func (a addresses) String() string { return a.prefix.String() }
