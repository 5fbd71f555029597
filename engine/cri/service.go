package cri

import (
	"context"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine"
	"sampan/internal/fault"
)

// Version names the runtime.
func (s *Server) Version(ctx context.Context, r *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	v := s.config.Version
	if v == "" {
		v = "0.1.0"
	}
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: Handler, RuntimeVersion: v, RuntimeApiVersion: "v1"}, nil
}

// Handler is what RuntimeClasses call the one runtime there is, which pods
// without a class have too.
const Handler = "sampan"

// Status says whether containers and their network can be expected to work.
func (s *Server) Status(ctx context.Context, r *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	if s.config.Network != nil {
		if err := s.config.Network.Status(ctx); err != nil {
			network.Status, network.Reason, network.Message = false, "NetworkPluginNotReady", err.Error()
		}
	}
	features := &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true}
	return &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			{Type: runtimeapi.RuntimeReady, Status: true}, network}},
		RuntimeHandlers: []*runtimeapi.RuntimeHandler{{Features: features}, {Name: Handler, Features: features}},
		Features:        &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}, nil
}

// RuntimeConfig says that cgroups are made directly, without systemd.
func (s *Server) RuntimeConfig(ctx context.Context, r *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig takes the pods' range, which a network that hands out
// addresses gets elsewhere.
func (s *Server) UpdateRuntimeConfig(ctx context.Context, r *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

// GetContainerEvents sends what happens, as it happens, until the caller goes.
// The first caller also gets what happened while the program was down.
func (s *Server) GetContainerEvents(r *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	ctx := stream.Context()
	return rpc(s.engine.Events(ctx, func(ev engine.Event) error {
		out, err := s.event(ctx, ev)
		if err != nil || out == nil {
			return err
		}
		return stream.Send(out)
	}))
}

var eventTypes = map[engine.EventType]runtimeapi.ContainerEventType{
	engine.EventCreated: runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT,
	engine.EventStarted: runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
	engine.EventStopped: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
	engine.EventDeleted: runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT,
}

// event adds what is known of the sandbox now. Events of stand-alone
// containers are nobody's business here: nil.
func (s *Server) event(ctx context.Context, ev engine.Event) (*runtimeapi.ContainerEventResponse, error) {
	if ev.Sandbox == ev.Container {
		return nil, nil
	}
	out := &runtimeapi.ContainerEventResponse{ContainerId: ev.Container, ContainerEventType: eventTypes[ev.Type], CreatedAt: nanos(ev.At)}
	if out.ContainerId == "" {
		out.ContainerId = ev.Sandbox
	}
	if out.CreatedAt == 0 {
		out.CreatedAt = time.Now().UnixNano()
	}
	st, err := s.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: ev.Sandbox})
	if fault.ClassOf(err) == fault.NotFound {
		return out, nil // deleted: there is no status
	}
	if err != nil {
		return nil, err
	}
	out.PodSandboxStatus, out.ContainersStatuses = st.Status, st.ContainersStatuses
	return out, nil
}
