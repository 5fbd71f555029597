package netlink

import (
	"net"

	lib "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Link is a network interface.
type Link struct {
	Index int
	Name  string
	Kind  string // veth, bridge, device …
	MTU   int
	MAC   net.HardwareAddr
	Up    bool
	Alias string
}

// Veth asks for a pair of links, the far end of which is made inside another
// namespace: moving it there afterwards would take 16 ms.
type Veth struct {
	Name     string
	MAC      net.HardwareAddr
	MTU      int
	PeerName string
	PeerMAC  net.HardwareAddr
	PeerNS   string // path of the far end's network namespace
}

// AddVeth makes the pair and returns the index of the near end, which is down.
func (h *Handle) AddVeth(v Veth) (int, error) {
	ns, err := netns.GetFromPath(v.PeerNS)
	if err != nil {
		return 0, failed("open network namespace", v.PeerNS, err)
	}
	defer ns.Close()
	attrs := lib.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = v.Name, v.MAC
	if v.MTU > 0 {
		attrs.MTU = v.MTU
	}
	link := &lib.Veth{LinkAttrs: attrs, PeerName: v.PeerName, PeerHardwareAddr: v.PeerMAC,
		PeerNamespace: lib.NsFd(int(ns)), PeerMTU: uint32(max(v.MTU, 0))}
	if err := h.h.LinkAdd(link); err != nil {
		return 0, failed("add veth", v.Name, err)
	}
	return link.Index, nil
}

// Link finds a link by its name.
func (h *Handle) Link(name string) (Link, error) {
	l, err := h.h.LinkByName(name)
	if err != nil {
		return Link{}, failed("find link", name, err)
	}
	return linkOf(l), nil
}

// Links lists all links.
func (h *Handle) Links() ([]Link, error) {
	all, err := h.h.LinkList()
	if err != nil {
		return nil, failed("list links", "", err)
	}
	out := make([]Link, len(all))
	for i, l := range all {
		out[i] = linkOf(l)
	}
	return out, nil
}

// SetUp brings a link up.
func (h *Handle) SetUp(index int) error {
	return failed("bring link up", name(index), h.h.LinkSetUp(byIndex(index)))
}

// SetDown brings a link down, and takes its routes along.
func (h *Handle) SetDown(index int) error {
	return failed("bring link down", name(index), h.h.LinkSetDown(byIndex(index)))
}

// DeleteLink removes a link, and its peer with it. It takes 16 ms: where a
// whole namespace goes, let the namespace go.
func (h *Handle) DeleteLink(index int) error {
	return failed("delete link", name(index), h.h.LinkDel(byIndex(index)))
}

func linkOf(l lib.Link) Link {
	a := l.Attrs()
	return Link{Index: a.Index, Name: a.Name, Kind: l.Type(), MTU: a.MTU, MAC: a.HardwareAddr,
		Up: a.Flags&net.FlagUp != 0, Alias: a.Alias}
}

// byIndex spares the look-up that the library's calls by name make.
func byIndex(index int) lib.Link {
	return &lib.Device{LinkAttrs: lib.LinkAttrs{Index: index}}
}
