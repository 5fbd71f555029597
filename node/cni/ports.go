package cni

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sampan/internal/durable"
	"sampan/internal/fault"
	"sampan/internal/nft"
)

const (
	anyPorts = "ports"       // protocol, port → a pod's address and port
	ipPorts  = "ports-by-ip" // address, protocol, port → the same, for host ports with a hostIP
)

func (n *Network) tableName() string { return "sampan-" + n.cfg.Instance + "-pods" }

// table has the host ports, the masquerade of what leaves for elsewhere, and a
// guard: route_localnet lets answers to 127.0.0.1 come back from a pod, but no
// pod may begin to talk to it.
func (n *Network) table() nft.Table {
	proto, port := nft.Protocol(), nft.DstPort()
	publish := []nft.Rule{
		{nft.ToHere(), nft.DNAT(ipPorts, nft.DstAddr(), proto, port)},
		{nft.ToHere(), nft.DNAT(anyPorts, proto, port)},
	}
	pods := n.linkPrefix() + "*"
	return nft.Table{
		Name: n.tableName(),
		Maps: []nft.Map{
			{Name: ipPorts, Key: []nft.Type{nft.IPv4, nft.Proto, nft.Port}, Value: []nft.Type{nft.IPv4, nft.Port}},
			{Name: anyPorts, Key: []nft.Type{nft.Proto, nft.Port}, Value: []nft.Type{nft.IPv4, nft.Port}},
		},
		Chains: []nft.Chain{
			{Name: "guard", Hook: &nft.Hook{At: nft.Prerouting, Priority: -300}, Rules: []nft.Rule{
				{nft.InFrom(pods), nft.To(loopback), nft.Drop()},
			}},
			{Name: "prerouting", Hook: &nft.Hook{NAT: true, At: nft.Prerouting, Priority: -110}, Rules: publish},
			{Name: "output", Hook: &nft.Hook{NAT: true, At: nft.Output, Priority: -110}, Rules: publish},
			{Name: "postrouting", Hook: &nft.Hook{NAT: true, At: nft.Postrouting, Priority: 110}, Rules: []nft.Rule{
				{nft.OutOf(pods), nft.From(loopback), nft.Masquerade()},
				{nft.NotOutOf(pods), nft.From(n.cfg.AllPods), nft.NotTo(n.cfg.AllPods), nft.NotToHere(), nft.Masquerade()},
			}},
		},
	}
}

// published is a sandbox's host ports on disk, so that a restart can make the
// table anew.
type published struct {
	IP    netip.Addr `json:"ip"`
	Ports []Port     `json:"ports"`
}

func (n *Network) portsFile(id string) string { return filepath.Join(n.cfg.Dir, "ports", id+".json") }

func (p published) elements() (any, byIP []nft.Element) {
	for _, port := range p.Ports {
		value := nft.Bytes(p.IP, port.ContainerPort)
		if port.HostIP.IsValid() && !port.HostIP.IsUnspecified() {
			byIP = append(byIP, nft.Element{Key: nft.Bytes(port.HostIP, port.Protocol, port.HostPort), Value: value})
			continue
		}
		any = append(any, nft.Element{Key: nft.Bytes(port.Protocol, port.HostPort), Value: value})
	}
	return any, byIP
}

// publish makes a sandbox's host ports lead to it, and remembers them.
func (n *Network) publish(r Request, ip netip.Addr) error {
	p := published{IP: ip, Ports: r.Ports}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(n.portsFile(r.ID)), 0o700); err != nil {
		return &fault.Error{Op: "remember host ports of", On: r.ID, Err: err}
	}
	if err := durable.WriteFile(n.portsFile(r.ID), data, 0o600); err != nil {
		return err
	}
	any, byIP := p.elements()
	return nft.Update(n.table(), nil, []nft.Change{{Map: anyPorts, Add: any}, {Map: ipPorts, Add: byIP}})
}

// unpublish undoes publish; nil if there is nothing to undo.
func (n *Network) unpublish(id string) error {
	p, err := n.readPorts(n.portsFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	any, byIP := p.elements()
	if err := nft.Update(n.table(), nil, []nft.Change{{Map: anyPorts, Delete: any}, {Map: ipPorts, Delete: byIP}}); err != nil &&
		!errors.Is(err, fs.ErrNotExist) { // not in the kernel: the table was made anew without it
		return err
	}
	return os.Remove(n.portsFile(id))
}

func (n *Network) readPorts(path string) (p published, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	return p, err
}

// restoreTable makes the table anew, with the host ports that are on disk.
func (n *Network) restoreTable() error {
	entries, err := os.ReadDir(filepath.Join(n.cfg.Dir, "ports"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fault.Error{Op: "read host ports in", On: n.cfg.Dir, Err: err}
	}
	elements := map[string][]nft.Element{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		p, err := n.readPorts(filepath.Join(n.cfg.Dir, "ports", e.Name()))
		if err != nil {
			n.cfg.Log.Warn("host ports not read", "file", e.Name(), "err", err)
			continue
		}
		any, byIP := p.elements()
		elements[anyPorts] = append(elements[anyPorts], any...)
		elements[ipPorts] = append(elements[ipPorts], byIP...)
	}
	return nft.Replace(n.table(), elements)
}
