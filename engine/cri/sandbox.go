package cri

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine"
	"sampan/internal/fault"
)

// RunPodSandbox makes the sandbox and connects it. On an error nothing is left.
func (s *Server) RunPodSandbox(ctx context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	if r.RuntimeHandler != "" && r.RuntimeHandler != Handler {
		return nil, invalid("run sandbox", r.GetConfig().GetMetadata().GetName(), "no runtime for "+strconv.Quote(r.RuntimeHandler)+" is configured",
			"use a RuntimeClass with the handler "+Handler+", or none")
	}
	config, err := sandboxConfig(r.Config)
	if err != nil {
		return nil, rpc(err)
	}
	box, err := s.engine.CreateSandbox(ctx, config)
	if err != nil {
		return nil, rpc(err)
	}
	if config.Network != engine.NetworkHost {
		if err := s.connect(ctx, box, r.Config); err != nil {
			clean := context.WithoutCancel(ctx)
			if s.config.Network != nil {
				if e := s.config.Network.Detach(clean, networkRequest(box, r.Config)); e != nil {
					s.log.Warn("cannot disconnect a sandbox that could not be connected", "key", box.ID, "error", e)
				}
			}
			if e := s.engine.RemoveSandbox(clean, box.ID); e != nil {
				s.log.Warn("cannot remove a sandbox that could not be connected", "key", box.ID, "error", e)
			}
			return nil, rpc(err)
		}
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: box.ID}, nil
}

func (s *Server) connect(ctx context.Context, box engine.Sandbox, c *runtimeapi.PodSandboxConfig) error {
	var ips []netip.Addr
	if s.config.Network != nil {
		res, err := s.config.Network.Attach(ctx, networkRequest(box, c))
		if err != nil {
			return err
		}
		ips = res.IPs
	}
	_, err := s.engine.SetAddresses(ctx, box.ID, ips)
	return err
}

func networkRequest(box engine.Sandbox, c *runtimeapi.PodSandboxConfig) NetworkRequest {
	m := c.GetMetadata()
	r := NetworkRequest{SandboxID: box.ID, NetNS: box.NetNS, Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUid(),
		Annotations: c.GetAnnotations()}
	for _, p := range c.GetPortMappings() {
		r.Ports = append(r.Ports, PortMapping{Protocol: map[runtimeapi.Protocol]string{runtimeapi.Protocol_UDP: "udp", runtimeapi.Protocol_SCTP: "sctp"}[p.Protocol],
			ContainerPort: uint16(p.ContainerPort), HostPort: uint16(p.HostPort), HostIP: p.HostIp})
		if last := &r.Ports[len(r.Ports)-1]; last.Protocol == "" {
			last.Protocol = "tcp"
		}
	}
	r.Bandwidth = Bandwidth{IngressBits: bits(c, "kubernetes.io/ingress-bandwidth"), EgressBits: bits(c, "kubernetes.io/egress-bandwidth")}
	return r
}

// bits reads a bandwidth annotation; what is no quantity asks for nothing.
func bits(c *runtimeapi.PodSandboxConfig, annotation string) uint64 {
	q, err := resource.ParseQuantity(c.GetAnnotations()[annotation])
	if err != nil || q.Value() < 0 {
		return 0
	}
	return uint64(q.Value())
}

// StopPodSandbox ends what runs and gives the network back; it may be called
// again and again.
func (s *Server) StopPodSandbox(ctx context.Context, r *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	err := s.stop(ctx, r.PodSandboxId)
	if fault.ClassOf(err) == fault.NotFound {
		err = nil
	}
	return &runtimeapi.StopPodSandboxResponse{}, rpc(err)
}

func (s *Server) stop(ctx context.Context, id string) error {
	box, err := s.engine.Sandbox(ctx, id)
	if err != nil {
		return err
	}
	if err := s.engine.StopSandbox(ctx, id); err != nil {
		return err
	}
	if s.config.Network == nil || box.Config.Network == engine.NetworkHost {
		return nil
	}
	c, err := metaOf(box)
	if err != nil {
		return err
	}
	return s.config.Network.Detach(ctx, networkRequest(box, c))
}

// RemovePodSandbox stops and removes the sandbox and its containers.
func (s *Server) RemovePodSandbox(ctx context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	err := s.stop(ctx, r.PodSandboxId)
	if err == nil {
		err = s.engine.RemoveSandbox(ctx, r.PodSandboxId)
	}
	if fault.ClassOf(err) == fault.NotFound {
		err = nil
	}
	return &runtimeapi.RemovePodSandboxResponse{}, rpc(err)
}

func metaOf(box engine.Sandbox) (*runtimeapi.PodSandboxConfig, error) {
	c := &runtimeapi.PodSandboxConfig{}
	if err := proto.Unmarshal(box.Config.Meta, c); err != nil {
		return nil, &fault.Error{Op: "read the configuration of sandbox", On: box.ID, Err: err}
	}
	return c, nil
}

// PodSandboxStatus tells of a sandbox and its containers.
func (s *Server) PodSandboxStatus(ctx context.Context, r *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	box, err := s.engine.Sandbox(ctx, r.PodSandboxId)
	if err != nil {
		return nil, rpc(err)
	}
	st, err := sandboxStatus(box)
	if err != nil {
		return nil, rpc(err)
	}
	out := &runtimeapi.PodSandboxStatusResponse{Status: st, Timestamp: time.Now().UnixNano()}
	list, err := s.engine.ContainersOf(ctx, box.ID)
	if err != nil {
		return nil, rpc(err)
	}
	for _, c := range list {
		cs, err := s.status(ctx, c)
		if err != nil {
			return nil, rpc(err)
		}
		out.ContainersStatuses = append(out.ContainersStatuses, cs)
	}
	if r.Verbose {
		out.Info = map[string]string{"netns": box.NetNS, "cgroupParent": box.Config.CgroupParent}
	}
	return out, nil
}

func sandboxStatus(box engine.Sandbox) (*runtimeapi.PodSandboxStatus, error) {
	c, err := metaOf(box)
	if err != nil {
		return nil, err
	}
	st := &runtimeapi.PodSandboxStatus{Id: box.ID, Metadata: c.Metadata, State: sandboxState(box), CreatedAt: nanos(box.Created),
		Labels: c.Labels, Annotations: c.Annotations, Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: c.GetLinux().GetSecurityContext().GetNamespaceOptions()}}}
	for i, ip := range box.IPs {
		if i == 0 {
			st.Network.Ip = ip.String()
			continue
		}
		st.Network.AdditionalIps = append(st.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip.String()})
	}
	return st, nil
}

func sandboxState(box engine.Sandbox) runtimeapi.PodSandboxState {
	if box.State == engine.SandboxReady {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// ListPodSandbox lists the sandboxes that match all of the filter.
func (s *Server) ListPodSandbox(ctx context.Context, r *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	list, err := s.sandboxes(ctx, r.GetFilter())
	return &runtimeapi.ListPodSandboxResponse{Items: list}, rpc(err)
}

func (s *Server) sandboxes(ctx context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	all, err := s.engine.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.PodSandbox
	for _, box := range all {
		if len(box.Config.Meta) == 0 || f.GetId() != "" && !prefixed(box.ID, f.Id) ||
			f.GetState() != nil && f.State.State != sandboxState(box) || !selects(f.GetLabelSelector(), box.Config.Labels) {
			continue
		}
		c, err := metaOf(box)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.PodSandbox{Id: box.ID, Metadata: c.Metadata, State: sandboxState(box),
			CreatedAt: nanos(box.Created), Labels: c.Labels, Annotations: c.Annotations})
	}
	return out, nil
}

// StreamPodSandboxes is ListPodSandbox in pieces.
func (s *Server) StreamPodSandboxes(r *runtimeapi.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	list, err := s.sandboxes(stream.Context(), r.GetFilter())
	if err != nil {
		return rpc(err)
	}
	for piece := range slices.Chunk(list, streamPiece) {
		if err := stream.Send(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: piece}); err != nil {
			return err
		}
	}
	return nil
}

// streamPiece is how many items go into one message of a stream.
const streamPiece = 100

func prefixed(id, prefix string) bool { return len(prefix) <= len(id) && id[:len(prefix)] == prefix }

// selects says whether labels have all of the selector's.
func selects(selector, labels map[string]string) bool {
	for k := range selector {
		if v, ok := labels[k]; !ok || v != selector[k] {
			return false
		}
	}
	return true
}

// UpdatePodSandboxResources does nothing, as the sandbox has no process of its
// own: the pod's cgroup is the node's.
func (s *Server) UpdatePodSandboxResources(ctx context.Context, r *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	if _, err := s.engine.Sandbox(ctx, r.PodSandboxId); err != nil {
		return nil, rpc(err)
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
