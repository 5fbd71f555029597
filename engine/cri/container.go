package cri

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine"
	"sampan/internal/fault"
)

// CreateContainer makes a container in a sandbox that is ready.
func (s *Server) CreateContainer(ctx context.Context, r *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	box, err := s.engine.Sandbox(ctx, r.PodSandboxId)
	if err != nil {
		return nil, rpc(err)
	}
	meta, err := metaOf(box)
	if err != nil {
		return nil, rpc(err)
	}
	c, err := containerConfig(r.Config, meta)
	if err != nil {
		return nil, rpc(err)
	}
	c.LogMaxBytes, c.LogMaxFiles = s.config.LogMaxBytes, s.config.LogMaxFiles
	if c.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(c.LogPath), 0o755); err != nil {
			return nil, rpc(&fault.Error{Op: "make log directory", On: filepath.Dir(c.LogPath), Err: err})
		}
	}
	for i, m := range c.Mounts {
		if m.Type == "image" {
			img, err := s.engine.Images.Get(ctx, m.Source)
			if err != nil {
				return nil, rpc(err)
			}
			c.Mounts[i].Source = img.ID.String()
			continue
		}
		// As containerd and Docker do with a path that is not there.
		if _, err := os.Stat(m.Source); os.IsNotExist(err) {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return nil, rpc(&fault.Error{Op: "make mount source", On: m.Source, Err: err})
			}
		}
	}
	out, err := s.engine.Create(ctx, box.ID, c)
	if err != nil {
		return nil, rpc(err)
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: out.ID}, nil
}

// StartContainer runs the container's process.
func (s *Server) StartContainer(ctx context.Context, r *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	c, err := s.engine.Inspect(ctx, r.ContainerId)
	if err != nil {
		return nil, rpc(err)
	}
	if c.Status.State != engine.Created {
		return nil, rpc(&fault.Error{Class: fault.Conflict, Op: "start container", On: c.ID,
			Err: errNotCreated, Fix: "create a new one"})
	}
	_, err = s.engine.Start(ctx, c.ID)
	return &runtimeapi.StartContainerResponse{}, rpc(err)
}

// StopContainer ends a container within its timeout; nil if it has ended.
func (s *Server) StopContainer(ctx context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	err := s.engine.Stop(ctx, r.ContainerId, time.Duration(max(r.Timeout, 0))*time.Second)
	if fault.ClassOf(err) == fault.NotFound {
		err = nil
	}
	return &runtimeapi.StopContainerResponse{}, rpc(err)
}

// RemoveContainer removes a container, killing it if it runs; nil if it is
// gone.
func (s *Server) RemoveContainer(ctx context.Context, r *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	err := s.engine.Remove(ctx, r.ContainerId, true)
	if fault.ClassOf(err) == fault.NotFound {
		err = nil
	}
	s.mu.Lock()
	delete(s.cpu, r.ContainerId)
	s.mu.Unlock()
	return &runtimeapi.RemoveContainerResponse{}, rpc(err)
}

// ListContainers lists the containers that match all of the filter.
func (s *Server) ListContainers(ctx context.Context, r *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	list, err := s.containers(ctx, r.GetFilter())
	return &runtimeapi.ListContainersResponse{Containers: list}, rpc(err)
}

// StreamContainers is ListContainers in pieces.
func (s *Server) StreamContainers(r *runtimeapi.StreamContainersRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	list, err := s.containers(stream.Context(), r.GetFilter())
	if err != nil {
		return rpc(err)
	}
	for piece := range slices.Chunk(list, streamPiece) {
		if err := stream.Send(&runtimeapi.StreamContainersResponse{Containers: piece}); err != nil {
			return err
		}
	}
	return nil
}

// ours says whether a container came through the CRI.
func ours(c engine.Container) bool { return c.Sandbox != c.ID && len(c.Config.Meta) > 0 }

func (s *Server) matching(ctx context.Context, id, sandbox string, labels map[string]string) ([]engine.Container, error) {
	all, err := s.engine.List(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c engine.Container) bool {
		return !ours(c) || !prefixed(c.ID, id) || !prefixed(c.Sandbox, sandbox) || !selects(labels, c.Config.Labels)
	}), nil
}

func (s *Server) containers(ctx context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	list, err := s.matching(ctx, f.GetId(), f.GetPodSandboxId(), f.GetLabelSelector())
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.Container
	for _, c := range list {
		state := containerState(c)
		if f.GetState() != nil && f.State.State != state {
			continue
		}
		meta, err := containerMeta(c)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.Container{Id: c.ID, PodSandboxId: c.Sandbox, Metadata: meta.Metadata, Image: meta.Image,
			ImageRef: s.imageRef(ctx, c), ImageId: c.Image, State: state, CreatedAt: nanos(c.Created),
			Labels: meta.Labels, Annotations: meta.Annotations})
	}
	return out, nil
}

func containerMeta(c engine.Container) (*runtimeapi.ContainerConfig, error) {
	m := &runtimeapi.ContainerConfig{}
	if err := proto.Unmarshal(c.Config.Meta, m); err != nil {
		return nil, &fault.Error{Op: "read the configuration of container", On: c.ID, Err: err}
	}
	return m, nil
}

func containerState(c engine.Container) runtimeapi.ContainerState {
	switch c.Status.State {
	case engine.Created:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case engine.Running:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return runtimeapi.ContainerState_CONTAINER_EXITED
}

// imageRef is a digest the image can be pulled by, or its ID.
func (s *Server) imageRef(ctx context.Context, c engine.Container) string {
	if img, err := s.engine.Images.Get(ctx, c.Image); err == nil && len(img.Digests) > 0 {
		return img.Digests[0]
	}
	return c.Image
}

// ContainerStatus tells of a container.
func (s *Server) ContainerStatus(ctx context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := s.engine.Inspect(ctx, r.ContainerId)
	if err == nil && !ours(c) {
		err = &fault.Error{Class: fault.NotFound, Op: "find container", On: r.ContainerId, Err: errStandalone}
	}
	if err != nil {
		return nil, rpc(err)
	}
	st, err := s.status(ctx, c)
	if err != nil {
		return nil, rpc(err)
	}
	out := &runtimeapi.ContainerStatusResponse{Status: st}
	if r.Verbose {
		out.Info = map[string]string{"sandboxID": c.Sandbox, "pid": itoa(c.Status.Pid)}
	}
	return out, nil
}

func (s *Server) status(ctx context.Context, c engine.Container) (*runtimeapi.ContainerStatus, error) {
	meta, err := containerMeta(c)
	if err != nil {
		return nil, err
	}
	st := &runtimeapi.ContainerStatus{Id: c.ID, Metadata: meta.Metadata, State: containerState(c), CreatedAt: nanos(c.Created),
		StartedAt: nanos(c.Status.Started), FinishedAt: nanos(c.Status.Finished), ExitCode: int32(c.Status.ExitCode),
		Image: meta.Image, ImageRef: s.imageRef(ctx, c), ImageId: c.Image, Labels: meta.Labels, Annotations: meta.Annotations,
		Mounts: meta.Mounts, LogPath: c.Config.LogPath, Message: c.Status.Error, StopSignal: meta.StopSignal,
		Resources: &runtimeapi.ContainerResources{Linux: linuxResources(c.Config)}}
	if a := c.Status.User; a != nil {
		u := &runtimeapi.LinuxContainerUser{Uid: int64(a.UID), Gid: int64(a.GID)}
		for _, g := range a.Groups {
			u.SupplementalGroups = append(u.SupplementalGroups, int64(g))
		}
		st.User = &runtimeapi.ContainerUser{Linux: u}
	}
	if st.State != runtimeapi.ContainerState_CONTAINER_EXITED {
		return st, nil
	}
	switch {
	case c.Status.Error != "":
		st.Reason, st.ExitCode = "StartError", 128
	case c.Status.State == engine.Unknown:
		st.Reason = "Unknown"
	case c.Status.OOMKilled:
		st.Reason = "OOMKilled"
	case c.Status.ExitCode == 0:
		st.Reason = "Completed"
	default:
		st.Reason = "Error"
	}
	return st, nil
}

func linuxResources(c engine.ContainerConfig) *runtimeapi.LinuxContainerResources {
	r := c.Resources
	out := &runtimeapi.LinuxContainerResources{CpuPeriod: int64(r.CPUPeriod), CpuQuota: r.CPUQuota, CpuShares: int64(r.CPUShares),
		MemoryLimitInBytes: r.MemoryBytes, OomScoreAdj: int64(c.OOMScoreAdj), CpusetCpus: r.CPUs, CpusetMems: r.Mems,
		Unified: r.Unified, MemorySwapLimitInBytes: r.SwapBytes}
	for size, limit := range r.HugePages {
		out.HugepageLimits = append(out.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: size, Limit: limit})
	}
	return out
}

// UpdateContainerResources changes limits; those that are zero stay.
func (s *Server) UpdateContainerResources(ctx context.Context, r *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	err := s.engine.Update(ctx, r.ContainerId, resources(r.Linux))
	return &runtimeapi.UpdateContainerResourcesResponse{}, rpc(err)
}

// ReopenContainerLog lets a kubelet rotate the log itself.
func (s *Server) ReopenContainerLog(ctx context.Context, r *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	return &runtimeapi.ReopenContainerLogResponse{}, rpc(s.engine.ReopenLog(ctx, r.ContainerId))
}
