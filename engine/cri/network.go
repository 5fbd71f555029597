package cri

import (
	"context"
	"net/netip"
)

// Network connects sandboxes to the network of the pods. Each call may come
// twice for the same sandbox, also after a crash in the middle of the first.
type Network interface {
	// Attach gives the sandbox its interface and addresses, the primary one
	// first.
	Attach(ctx context.Context, r NetworkRequest) (NetworkResult, error)
	// Detach takes back what Attach gave; nil if there is nothing. NetNS may
	// be gone already.
	Detach(ctx context.Context, r NetworkRequest) error
	// Status is nil when Attach can be expected to work.
	Status(ctx context.Context) error
}

// NetworkRequest is what a network is told about a sandbox.
type NetworkRequest struct {
	SandboxID   string
	NetNS       string // path of the network namespace; it has lo, up
	Namespace   string // of the pod
	Name        string
	UID         string
	Annotations map[string]string
	Ports       []PortMapping
	Bandwidth   Bandwidth
}

// PortMapping is a port of the host that leads to one of the sandbox's.
type PortMapping struct {
	Protocol      string // tcp, udp, sctp
	ContainerPort uint16
	HostPort      uint16
	HostIP        string // default: all addresses
}

// Bandwidth is what the annotations kubernetes.io/ingress-bandwidth and
// kubernetes.io/egress-bandwidth ask for, in bits a second; 0 is no limit.
type Bandwidth struct {
	IngressBits, EgressBits uint64
}

// NetworkResult is what a sandbox got.
type NetworkResult struct {
	IPs []netip.Addr
}
