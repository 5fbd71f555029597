package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sampan/internal/fault"
	"sampan/internal/linux"
	"sampan/internal/netlink"
	"sampan/internal/nft"
)

// Port leads from a port of the host to one of a container.
type Port struct {
	Protocol      string     // tcp or udp
	HostIP        netip.Addr // invalid: all addresses
	HostPort      uint16
	ContainerPort uint16
}

var protocols = map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}

// publication is a container's ports on disk: the table in the kernel can be
// made anew from all of them.
type publication struct {
	IP    netip.Addr
	Ports []Port
}

var loopback = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, 0}), 8)

func (n *Network) table() nft.Table {
	proto, port := nft.Protocol(), nft.DstPort()
	publish := []nft.Rule{
		{nft.ToHere(), nft.DNAT("ports-by-ip", nft.DstAddr(), proto, port)},
		{nft.ToHere(), nft.DNAT("ports", proto, port)},
	}
	ours := linkPrefix + "*"
	return nft.Table{
		Name: n.config.Table,
		Maps: []nft.Map{
			{Name: "ports-by-ip", Key: []nft.Type{nft.IPv4, nft.Proto, nft.Port}, Value: []nft.Type{nft.IPv4, nft.Port}},
			{Name: "ports", Key: []nft.Type{nft.Proto, nft.Port}, Value: []nft.Type{nft.IPv4, nft.Port}},
		},
		Chains: []nft.Chain{
			// route_localnet lets answers to 127.0.0.1 come back; no container may
			// begin to talk to it.
			{Name: "guard", Hook: &nft.Hook{At: nft.Prerouting, Priority: -300}, Rules: []nft.Rule{{nft.InFrom(ours), nft.To(loopback), nft.Drop()}}},
			{Name: "prerouting", Hook: &nft.Hook{NAT: true, At: nft.Prerouting, Priority: -105}, Rules: publish},
			{Name: "output", Hook: &nft.Hook{NAT: true, At: nft.Output, Priority: -105}, Rules: publish},
			{Name: "postrouting", Hook: &nft.Hook{NAT: true, At: nft.Postrouting, Priority: 105}, Rules: []nft.Rule{
				{nft.OutOf(ours), nft.From(loopback), nft.Masquerade()},
				{nft.NotOutOf(ours), nft.From(n.config.Subnet), nft.NotTo(n.config.Subnet), nft.NotToHere(), nft.Masquerade()},
			}},
		},
	}
}

func (n *Network) portsFile(id string) string {
	return filepath.Join(n.config.Dir, "ports", id+".json")
}

// publish makes ports of the host lead to the container, if nobody has them.
func (n *Network) publish(ctx context.Context, r Request, res Result) error {
	if len(r.Ports) == 0 {
		return nil
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := n.publications()
	if err != nil {
		return err
	}
	for _, p := range r.Ports {
		if protocols[p.Protocol] == 0 || p.HostIP.IsValid() && !p.HostIP.Is4() {
			return &fault.Error{Class: fault.Invalid, Op: "publish port", On: p.String(), Err: errors.New("want tcp, udp or sctp, and an IPv4 address")}
		}
		for id, other := range all {
			for _, o := range other.Ports {
				if id != r.ID && o.Protocol == p.Protocol && o.HostPort == p.HostPort && (!o.HostIP.IsValid() || !p.HostIP.IsValid() || o.HostIP == p.HostIP) {
					return taken(p, errors.New("container "+id[:min(12, len(id))]+" has it"))
				}
			}
		}
		if err := unused(ctx, p); err != nil {
			return taken(p, err)
		}
	}
	if err := netlink.SetSysctl("ipv4/conf/"+res.Link+"/route_localnet", "1"); err != nil {
		return err
	}
	data, err := json.Marshal(publication{IP: res.IP, Ports: r.Ports})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(n.portsFile(r.ID)), 0o700); err != nil {
		return &fault.Error{Op: "make directory", On: filepath.Dir(n.portsFile(r.ID)), Err: err}
	}
	if err := os.WriteFile(n.portsFile(r.ID), data, 0o600); err != nil {
		return &fault.Error{Op: "write published ports", On: n.portsFile(r.ID), Err: err}
	}
	return n.applyLocked()
}

func taken(p Port, err error) error {
	return &fault.Error{Class: fault.Conflict, Op: "publish port", On: p.String(), Err: fmt.Errorf("port is already allocated: %w", err),
		Fix: "stop what uses it, or publish on another port"}
}

func (p Port) String() string {
	ip := "0.0.0.0"
	if p.HostIP.IsValid() {
		ip = p.HostIP.String()
	}
	return fmt.Sprintf("%s:%d/%s", ip, p.HostPort, p.Protocol)
}

// unused asks the kernel whether a process of the host has the port.
func unused(ctx context.Context, p Port) error {
	host := ""
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	at := net.JoinHostPort(host, fmt.Sprint(p.HostPort))
	var l net.ListenConfig
	switch p.Protocol {
	case "tcp":
		s, err := l.Listen(ctx, "tcp4", at)
		if err != nil {
			return err
		}
		return s.Close()
	case "udp":
		s, err := l.ListenPacket(ctx, "udp4", at)
		if err != nil {
			return err
		}
		return s.Close()
	}
	return nil
}

// unpublishLocked takes a container's ports back, if it had any.
func (n *Network) unpublishLocked(id string) error {
	err := os.Remove(n.portsFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fault.Error{Op: "remove published ports", On: id, Err: err}
	}
	return n.applyLocked()
}

// applyLocked gives the kernel the table as the files say, in one step.
func (n *Network) applyLocked() error {
	all, err := n.publications()
	if err != nil {
		return err
	}
	elements := map[string][]nft.Element{}
	for _, p := range all {
		for _, port := range p.Ports {
			value := nft.Bytes(p.IP, port.ContainerPort)
			if port.HostIP.IsValid() && !port.HostIP.IsUnspecified() {
				elements["ports-by-ip"] = append(elements["ports-by-ip"], nft.Element{Key: nft.Bytes(port.HostIP, protocols[port.Protocol], port.HostPort), Value: value})
				continue
			}
			elements["ports"] = append(elements["ports"], nft.Element{Key: nft.Bytes(protocols[port.Protocol], port.HostPort), Value: value})
		}
	}
	return nft.Replace(n.table(), elements)
}

func (n *Network) publications() (map[string]publication, error) {
	files, err := filepath.Glob(n.portsFile("*"))
	if err != nil {
		return nil, err
	}
	out := map[string]publication{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var p publication
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil {
			return nil, &fault.Error{Op: "read published ports", On: f, Err: err, Fix: "remove the file"}
		}
		out[strings.TrimSuffix(filepath.Base(f), ".json")] = p
	}
	return out, nil
}

// uplink is what is remembered of the way out of the machine.
type uplink struct {
	NetNS   uint64 // cookie of the network namespace: another one starts anew
	Link    string
	Forward string // the link's setting before
}

// openOutside lets containers reach what is beyond the machine: replies on the
// link of the default route are forwarded and what leaves by it is masqueraded.
// Only that link's setting changes. On a machine without a default route there
// is nothing to do.
func (n *Network) openOutside(ctx context.Context, host *netlink.Handle) error {
	ns, err := linux.NetNSCookie()
	if err != nil {
		return &fault.Error{Op: "read network namespace", Err: err}
	}
	file := filepath.Join(n.config.Dir, "uplink")
	if b, err := os.ReadFile(file); err == nil {
		var u uplink
		if json.Unmarshal(b, &u) == nil && u.NetNS == ns {
			return nil
		}
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	routes, err := host.Routes()
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Refused || r.Link == 0 || r.Dst.IsValid() && (r.Dst.Bits() != 0 || !r.Dst.Addr().Is4()) || r.Via.IsValid() && !r.Via.Is4() {
			continue
		}
		links, err := host.Links()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Index != r.Link {
				continue
			}
			setting := "ipv4/conf/" + l.Name + "/forwarding"
			was, err := netlink.Sysctl(setting)
			if err != nil {
				return err
			}
			b, err := json.Marshal(uplink{NetNS: ns, Link: l.Name, Forward: was})
			if err != nil {
				return err
			}
			// Remembered before it is changed: a crash between leaves nothing
			// that Reset does not know of.
			if err := os.WriteFile(file, b, 0o600); err != nil {
				return &fault.Error{Op: "write", On: file, Err: err}
			}
			if was != "1" {
				if err := netlink.SetSysctl(setting, "1"); err != nil {
					return err
				}
			}
			return n.applyLocked()
		}
	}
	return nil
}

// closeOutside undoes openOutside and takes the table away.
func (n *Network) closeOutside() error {
	b, err := os.ReadFile(filepath.Join(n.config.Dir, "uplink"))
	if err == nil {
		var u uplink
		ns, _ := linux.NetNSCookie()
		if json.Unmarshal(b, &u) == nil && u.NetNS == ns && u.Forward == "0" {
			if err := netlink.SetSysctl("ipv4/conf/"+u.Link+"/forwarding", u.Forward); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if ports, _ := filepath.Glob(n.portsFile("*")); err != nil && len(ports) == 0 {
		if _, err := os.Stat(filepath.Join(n.config.Dir, "ports")); errors.Is(err, fs.ErrNotExist) {
			return nil // no table was ever made
		}
	}
	return nft.Delete(n.config.Table, false)
}
