package admission

import (
	"net/netip"

	"sampan/cluster/client"
)

// Config is what the built-in plugins need.
type Config struct {
	// Reader reads namespaces, accounts, classes and Services, unchecked.
	Reader client.Reader

	ServiceRanges []netip.Prefix // of cluster addresses; default 10.96.0.0/16
	NodePorts     PortRange      // default 30000-32767
}

// New returns the chain of all built-in plugins, in upstream's order.
func New(c Config) (*Chain, error) {
	if len(c.ServiceRanges) == 0 {
		c.ServiceRanges = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 0, 0}), 16)}
	}
	if c.NodePorts == (PortRange{}) {
		c.NodePorts = PortRange{First: 30000, Last: 32767}
	}
	services, err := NewServices(c.Reader, c.ServiceRanges, c.NodePorts)
	if err != nil {
		return nil, err
	}
	return NewChain(
		Namespaces{Reader: c.Reader},
		ServiceAccounts{Reader: c.Reader},
		Priorities{Reader: c.Reader},
		Tolerations{},
		services,
	), nil
}
