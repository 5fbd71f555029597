package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// Rule is a list of steps: tests that must all hold, then what is done.
type Rule []Step

// Step is a part of a rule. It is made by the functions of this file.
type Step struct {
	text  string // as nft(8) would write it
	exprs []expr.Any
}

// String is the rule about as nft(8) would write it.
func (r Rule) String() string {
	s := ""
	for i, step := range r {
		if i > 0 {
			s += " "
		}
		s += step.text
	}
	return s
}

func (r Rule) exprs() (all []expr.Any) {
	for _, s := range r {
		all = append(all, s.exprs...)
	}
	return all
}

// The kernel has sixteen registers of four bytes: keys are put together in the
// first eight, what is looked up goes into the rest.
const (
	keyReg  = 8  // NFT_REG32_00
	dataReg = 16 // NFT_REG32_08
)

// Field is something of a packet, or beside it, that a key is made of.
type Field struct {
	text string
	size uint32 // registers
	load func(reg uint32) expr.Any
}

// SrcAddr is where the packet comes from.
func SrcAddr() Field { return Field{"ip saddr", 1, payload(expr.PayloadBaseNetworkHeader, 12, 4)} }

// DstAddr is where the packet goes.
func DstAddr() Field { return Field{"ip daddr", 1, payload(expr.PayloadBaseNetworkHeader, 16, 4)} }

// DstPort is the destination port of TCP, UDP or SCTP.
func DstPort() Field { return Field{"th dport", 1, payload(expr.PayloadBaseTransportHeader, 2, 2)} }

// Protocol is the transport protocol.
func Protocol() Field {
	return Field{"meta l4proto", 1, func(r uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r} }}
}

// Random is a number from 0 to below n, drawn for each packet that asks.
func Random(n uint32) Field {
	return Field{"numgen random mod " + decimal(n), 1, func(r uint32) expr.Any {
		return &expr.Numgen{Register: r, Modulus: n, Type: 1 /* NFT_NG_RANDOM */}
	}}
}

// Const is a fixed IPv4 address.
func Const(ip netip.Addr) Field {
	return Field{ip.String(), 1, func(r uint32) expr.Any { return &expr.Immediate{Register: r, Data: ip.AsSlice()} }}
}

func payload(base expr.PayloadBase, offset, length uint32) func(uint32) expr.Any {
	return func(r uint32) expr.Any {
		return &expr.Payload{DestRegister: r, Base: base, Offset: offset, Len: length}
	}
}

// key loads fields into consecutive registers.
func key(fields []Field) (text string, all []expr.Any) {
	reg := uint32(keyReg)
	for i, f := range fields {
		if i > 0 {
			text += " . "
		}
		text += f.text
		all = append(all, f.load(reg))
		reg += f.size
	}
	return text, all
}

// Dispatch goes to the chain that a map with Jump has for the key; where it
// has none, the next rule follows.
func Dispatch(m string, fields ...Field) Step {
	text, all := key(fields)
	return Step{text + " vmap @" + m, append(all, &expr.Lookup{SourceRegister: keyReg, SetName: m, IsDestRegSet: true})}
}

// In holds if the set has the key.
func In(set string, fields ...Field) Step {
	text, all := key(fields)
	return Step{text + " @" + set, append(all, &expr.Lookup{SourceRegister: keyReg, SetName: set})}
}

// Pick takes the address and port that the map (of IPv4 and Port) has for the
// key; where it has none, the next rule follows. Remember and Send work on
// what was picked.
func Pick(m string, fields ...Field) Step {
	text, all := key(fields)
	return Step{text + " map @" + m, append(all,
		&expr.Lookup{SourceRegister: keyReg, DestRegister: dataReg, IsDestRegSet: true, SetName: m})}
}

// Send sends the connection to the address and port picked.
func Send() Step {
	return Step{"dnat to it", []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: 2,
		RegAddrMin: dataReg, RegProtoMin: dataReg + 1, Specified: true}}}
}

// Remember puts the address and port picked into the map, which Learns, for a
// time; again when it has it.
func Remember(m string, d time.Duration, fields ...Field) Step {
	text, all := key(fields)
	return Step{"update @" + m + " { " + text + " timeout " + d.String() + " : it }", append(all,
		&expr.Dynset{SrcRegKey: keyReg, SrcRegData: dataReg, SetName: m, Operation: 1 /* NFT_DYNSET_OP_UPDATE */, Timeout: d})}
}

// DNAT sends the connection to the address and port that the map (of IPv4 and
// Port) has for the key.
func DNAT(m string, fields ...Field) Step {
	pick, send := Pick(m, fields...), Send()
	return Step{"dnat to " + pick.text, append(pick.exprs, send.exprs...)}
}

// To holds for packets to p.
func To(p netip.Prefix) Step { return within(DstAddr(), p, expr.CmpOpEq) }

// NotTo holds for packets to anywhere but p.
func NotTo(p netip.Prefix) Step { return within(DstAddr(), p, expr.CmpOpNeq) }

// From holds for packets from p.
func From(p netip.Prefix) Step { return within(SrcAddr(), p, expr.CmpOpEq) }

func within(f Field, p netip.Prefix, op expr.CmpOp) Step {
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	text := f.text + " "
	if op == expr.CmpOpNeq {
		text += "!= "
	}
	return Step{text + p.String(), []expr.Any{
		f.load(keyReg),
		&expr.Bitwise{SourceRegister: keyReg, DestRegister: keyReg, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: keyReg, Data: p.Masked().Addr().AsSlice()},
	}}
}

// IsProtocol holds for one transport protocol.
func IsProtocol(p uint8) Step {
	return Step{"meta l4proto " + decimal(uint32(p)), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: keyReg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: keyReg, Data: []byte{p}},
	}}
}

// ToHere holds for packets to an address of this machine.
func ToHere() Step {
	return Step{"fib daddr type local", []expr.Any{
		&expr.Fib{Register: keyReg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: keyReg, Data: binaryutil.NativeEndian.PutUint32(2 /* RTN_LOCAL */)},
	}}
}

// NotToHere holds for packets to an address that is not this machine's.
func NotToHere() Step {
	s := ToHere()
	s.text = "fib daddr type != local"
	s.exprs[1].(*expr.Cmp).Op = expr.CmpOpNeq
	return s
}

// OutOf holds for packets that leave by that link; InFrom for those that came
// by it. A name that ends in "*" stands for all that begin so.
func OutOf(link string) Step { return iface("oifname", expr.MetaKeyOIFNAME, link, expr.CmpOpEq) }

// NotOutOf holds for packets that leave by another link.
func NotOutOf(link string) Step { return iface("oifname !=", expr.MetaKeyOIFNAME, link, expr.CmpOpNeq) }

// InFrom holds for packets that came by that link.
func InFrom(link string) Step { return iface("iifname", expr.MetaKeyIIFNAME, link, expr.CmpOpEq) }

func iface(text string, k expr.MetaKey, link string, op expr.CmpOp) Step {
	data := append([]byte(link), 0)
	if n := len(link); n > 0 && link[n-1] == '*' {
		data = []byte(link[:n-1])
	} else {
		data = append(data, make([]byte, 16-len(data))...)
	}
	return Step{text + " " + link, []expr.Any{
		&expr.Meta{Key: k, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}}
}

// Mark sets bits of the packet's mark.
func Mark(bits uint32) Step {
	// (mark & ^bits) ^ bits
	return Step{"meta mark set mark or " + decimal(bits), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: keyReg},
		&expr.Bitwise{SourceRegister: keyReg, DestRegister: keyReg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bits), Xor: binaryutil.NativeEndian.PutUint32(bits)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: keyReg},
	}}
}

// Marked holds for packets with one of bits in their mark.
func Marked(bits uint32) Step {
	return Step{"meta mark and " + decimal(bits) + " != 0", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: keyReg},
		&expr.Bitwise{SourceRegister: keyReg, DestRegister: keyReg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: keyReg, Data: make([]byte, 4)},
	}}
}

// Masquerade gives the connection an address of this machine as its source.
func Masquerade() Step { return Step{"masquerade", []expr.Any{&expr.Masq{}}} }

// Reject answers with ICMP port unreachable: a connect fails at once.
func Reject() Step {
	return Step{"reject", []expr.Any{&expr.Reject{Type: 0 /* ICMP unreachable */, Code: 3 /* port */}}}
}

// Reset answers TCP with a reset: a connect fails at once, also where an ICMP
// error does not come back (out of lo, on 6.18).
func Reset() Step {
	return Step{"reject with tcp reset", []expr.Any{&expr.Reject{Type: 1 /* TCP reset */}}}
}

// Drop drops the packet.
func Drop() Step { return Step{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}} }

// Bytes puts a key or value together: addresses, ports (uint16), protocols
// (uint8) and numbers (uint32), each padded to four bytes.
func Bytes(parts ...any) string {
	b := make([]byte, 0, 4*len(parts))
	for _, p := range parts {
		switch p := p.(type) {
		case netip.Addr:
			b = append(b, p.AsSlice()...)
		case uint8:
			b = append(b, p, 0, 0, 0)
		case uint16:
			b = append(binary.BigEndian.AppendUint16(b, p), 0, 0)
		case uint32:
			b = binary.NativeEndian.AppendUint32(b, p)
		default:
			panic("nft: Bytes takes netip.Addr, uint8, uint16 and uint32")
		}
	}
	return string(b)
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
