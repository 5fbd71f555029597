// Package podtest has a container runtime in memory, for tests of whatever
// drives one over CRI.
//
// It keeps the promises that a node relies on: states and their order, labels,
// times, events. Containers are records; what they do is said by the test.
package podtest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// Runtime is a CRI runtime. Set the exported fields before its first use.
type Runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	// Images that are present; pulling adds to them.
	Images []string
	// Pull decides whether an image can be had; nil: every image can.
	Pull func(image string) error
	// Started is called for a container that starts; it may return when and
	// how it ends. Nil, or a nil answer: it runs until stopped.
	Started func(c *runtimeapi.ContainerConfig) *End
	// Stopping is how long a container takes to stop when asked, and its
	// exit code then; nil: at once, with 0. Beyond the grace it is killed: 137.
	Stopping func(name string) (time.Duration, int32)
	// Answer answers ExecSync; nil: exit code 0.
	Answer func(container string, command []string) (*runtimeapi.ExecSyncResponse, error)
	// Fail returns the error of a call by its name, such as "RunPodSandbox".
	Fail func(call string) error
	// Handler is one that it has beside the usual one.
	Handler string
	// IP is what sandboxes get; default 10.0.0.1.
	IP string

	mu         sync.Mutex // guards all below
	next       int
	sandboxes  map[string]*sandbox
	containers map[string]*container
	listeners  map[chan *runtimeapi.ContainerEventResponse]bool
	calls      []string
}

// End is how a container ends by itself.
type End struct {
	After time.Duration
	Code  int32
}

type sandbox struct {
	status *runtimeapi.PodSandboxStatus
}

type container struct {
	status  *runtimeapi.ContainerStatus
	sandbox string
	config  *runtimeapi.ContainerConfig
	ended   chan struct{}
}

func (r *Runtime) init() {
	if r.sandboxes == nil {
		r.sandboxes, r.containers = map[string]*sandbox{}, map[string]*container{}
		r.listeners = map[chan *runtimeapi.ContainerEventResponse]bool{}
	}
}

func (r *Runtime) call(name, what string) error {
	r.mu.Lock()
	r.init()
	r.calls = append(r.calls, name+" "+what)
	r.mu.Unlock()
	if r.Fail != nil {
		return r.Fail(name)
	}
	return nil
}

// Calls lists what was asked that changes something, such as "StartContainer web".
func (r *Runtime) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Running lists the names of containers that run, sorted.
func (r *Runtime) Running() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, c := range r.containers {
		if c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			all = append(all, c.status.Metadata.Name)
		}
	}
	slices.Sort(all)
	return all
}

// ID returns the running container of that name, empty if none.
func (r *Runtime) ID(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.containers {
		if c.status.Metadata.Name == name && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			return id
		}
	}
	return ""
}

// Config returns the configuration of the newest container of that name.
func (r *Runtime) Config(name string) *runtimeapi.ContainerConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best *container
	for _, c := range r.containers {
		if c.status.Metadata.Name == name && (best == nil || c.status.CreatedAt >= best.status.CreatedAt) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	return best.config
}

// Left counts sandboxes and containers of any state.
func (r *Runtime) Left() (sandboxes, containers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sandboxes), len(r.containers)
}

// Exit ends the running container of that name.
func (r *Runtime) Exit(name string, code int32) {
	r.end(r.ID(name), code, "")
}

// KillSandbox makes the sandboxes not ready, and their containers end, as when
// their monitor is killed.
func (r *Runtime) KillSandbox() {
	r.mu.Lock()
	var ids []string
	for _, s := range r.sandboxes {
		s.status.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	}
	for id, c := range r.containers {
		if c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			ids = append(ids, id)
		}
	}
	r.mu.Unlock()
	for _, id := range ids {
		r.end(id, 137, "")
	}
}

func (r *Runtime) end(id string, code int32, reason string) {
	r.mu.Lock()
	c := r.containers[id]
	if c == nil || c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		r.mu.Unlock()
		return
	}
	c.status.State, c.status.ExitCode, c.status.FinishedAt, c.status.Reason = runtimeapi.ContainerState_CONTAINER_EXITED, code, time.Now().UnixNano(), reason
	close(c.ended)
	r.tellLocked(c, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	r.mu.Unlock()
}

func (r *Runtime) tellLocked(c *container, what runtimeapi.ContainerEventType) {
	e := &runtimeapi.ContainerEventResponse{ContainerId: c.status.Id, ContainerEventType: what, CreatedAt: time.Now().UnixNano(),
		PodSandboxStatus: &runtimeapi.PodSandboxStatus{Id: c.sandbox, Metadata: &runtimeapi.PodSandboxMetadata{Uid: c.config.Labels["io.kubernetes.pod.uid"]}}}
	for l := range r.listeners {
		select {
		case l <- e:
		default: // the listener looks at everything anyway when it wakes
		}
	}
}

func notFound(what, id string) error {
	return status.Errorf(codes.NotFound, "%s %q not found", what, id)
}

func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "test", RuntimeVersion: "1", RuntimeApiVersion: "v1"}, nil
}

func (r *Runtime) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true}}}}, nil
}

func (r *Runtime) RunPodSandbox(_ context.Context, q *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	m := q.Config.Metadata
	if err := r.call("RunPodSandbox", m.Name); err != nil {
		return nil, err
	}
	if h := q.RuntimeHandler; h != "" && h != r.Handler {
		return nil, status.Errorf(codes.Unknown, "failed to get sandbox runtime: no runtime for %q is configured", h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	ip := r.IP
	if ip == "" {
		ip = "10.0.0.1"
	}
	id := fmt.Sprintf("sandbox-%d", r.next)
	r.sandboxes[id] = &sandbox{status: &runtimeapi.PodSandboxStatus{Id: id, Metadata: m, State: runtimeapi.PodSandboxState_SANDBOX_READY,
		CreatedAt: time.Now().UnixNano() + int64(r.next), Network: &runtimeapi.PodSandboxNetworkStatus{Ip: ip}, Labels: maps.Clone(q.Config.Labels), Annotations: q.Config.Annotations}}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func (r *Runtime) StopPodSandbox(_ context.Context, q *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	if err := r.call("StopPodSandbox", q.PodSandboxId); err != nil {
		return nil, err
	}
	r.mu.Lock()
	var ids []string
	for id, c := range r.containers {
		if c.sandbox == q.PodSandboxId {
			ids = append(ids, id)
		}
	}
	r.mu.Unlock()
	for _, id := range ids {
		r.end(id, 137, "")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[q.PodSandboxId]; s != nil {
		s.status.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
		s.status.Network = &runtimeapi.PodSandboxNetworkStatus{}
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (r *Runtime) RemovePodSandbox(_ context.Context, q *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	if err := r.call("RemovePodSandbox", q.PodSandboxId); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, q.PodSandboxId)
	maps.DeleteFunc(r.containers, func(_ string, c *container) bool { return c.sandbox == q.PodSandboxId })
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r *Runtime) PodSandboxStatus(_ context.Context, q *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[q.PodSandboxId]
	if s == nil {
		return nil, notFound("sandbox", q.PodSandboxId)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{Id: s.status.Id, Metadata: s.status.Metadata, State: s.status.State,
		CreatedAt: s.status.CreatedAt, Network: s.status.Network, Labels: s.status.Labels, Annotations: s.status.Annotations}}, nil
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func (r *Runtime) ListPodSandbox(_ context.Context, q *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	if r.Fail != nil {
		if err := r.Fail("ListPodSandbox"); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range r.sandboxes {
		if matches(s.status.Labels, q.GetFilter().GetLabelSelector()) {
			out.Items = append(out.Items, &runtimeapi.PodSandbox{Id: s.status.Id, Metadata: s.status.Metadata, State: s.status.State, CreatedAt: s.status.CreatedAt, Labels: s.status.Labels})
		}
	}
	return out, nil
}

func (r *Runtime) CreateContainer(_ context.Context, q *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	if err := r.call("CreateContainer", q.Config.Metadata.Name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[q.PodSandboxId]; s == nil || s.status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %q is not ready", q.PodSandboxId)
	}
	r.next++
	id := fmt.Sprintf("container-%d", r.next)
	r.containers[id] = &container{sandbox: q.PodSandboxId, config: q.Config, ended: make(chan struct{}), status: &runtimeapi.ContainerStatus{
		Id: id, Metadata: q.Config.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: time.Now().UnixNano() + int64(r.next),
		Image: q.Config.Image, ImageRef: q.Config.Image.Image, Labels: q.Config.Labels, Annotations: q.Config.Annotations, Mounts: q.Config.Mounts}}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (r *Runtime) StartContainer(_ context.Context, q *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[q.ContainerId]
	r.mu.Unlock()
	if c == nil {
		return nil, notFound("container", q.ContainerId)
	}
	if err := r.call("StartContainer", c.config.Metadata.Name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	c.status.State, c.status.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now().UnixNano()
	r.tellLocked(c, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	r.mu.Unlock()
	if r.Started != nil {
		if end := r.Started(c.config); end != nil {
			if end.After == 0 {
				r.end(q.ContainerId, end.Code, "")
			} else {
				time.AfterFunc(end.After, func() { r.end(q.ContainerId, end.Code, "") })
			}
		}
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

func (r *Runtime) StopContainer(ctx context.Context, q *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[q.ContainerId]
	r.mu.Unlock()
	if c == nil {
		return nil, notFound("container", q.ContainerId)
	}
	if err := r.call("StopContainer", fmt.Sprintf("%s %d", c.config.Metadata.Name, q.Timeout)); err != nil {
		return nil, err
	}
	grace := time.Duration(q.Timeout) * time.Second
	takes, code := time.Duration(0), int32(0)
	if r.Stopping != nil {
		takes, code = r.Stopping(c.config.Metadata.Name)
	}
	if takes > grace {
		takes, code = grace, 137
	}
	t := time.NewTimer(takes)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ended:
	case <-t.C:
		r.end(q.ContainerId, code, "")
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

func (r *Runtime) RemoveContainer(_ context.Context, q *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	if err := r.call("RemoveContainer", q.ContainerId); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, q.ContainerId)
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (r *Runtime) ListContainers(_ context.Context, q *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	for _, c := range r.containers {
		f := q.GetFilter()
		if matches(c.status.Labels, f.GetLabelSelector()) && (f.GetPodSandboxId() == "" || f.GetPodSandboxId() == c.sandbox) {
			out.Containers = append(out.Containers, &runtimeapi.Container{Id: c.status.Id, PodSandboxId: c.sandbox, Metadata: c.status.Metadata,
				State: c.status.State, CreatedAt: c.status.CreatedAt, Labels: c.status.Labels})
		}
	}
	return out, nil
}

func (r *Runtime) ContainerStatus(_ context.Context, q *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[q.ContainerId]
	if c == nil {
		return nil, notFound("container", q.ContainerId)
	}
	s := c.status
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: s.Id, Metadata: s.Metadata, State: s.State, CreatedAt: s.CreatedAt,
		StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, ExitCode: s.ExitCode, Image: s.Image, ImageRef: s.ImageRef, Reason: s.Reason,
		Labels: s.Labels, Annotations: s.Annotations, Mounts: s.Mounts}}, nil
}

func (r *Runtime) ExecSync(_ context.Context, q *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	r.mu.Lock()
	c := r.containers[q.ContainerId]
	r.mu.Unlock()
	if c == nil {
		return nil, notFound("container", q.ContainerId)
	}
	if r.Answer == nil {
		return &runtimeapi.ExecSyncResponse{}, nil
	}
	return r.Answer(c.config.Metadata.Name, q.Cmd)
}

func (r *Runtime) ListContainerStats(context.Context, *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	return &runtimeapi.ListContainerStatsResponse{}, nil
}

// GetContainerEvents sends events until the stream's context ends.
func (r *Runtime) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	l := make(chan *runtimeapi.ContainerEventResponse, 100)
	r.mu.Lock()
	r.init()
	r.listeners[l] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.listeners, l)
	}()
	for {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case e := <-l:
			if err := s.Send(e); err != nil {
				return err
			}
		}
	}
}

func (r *Runtime) ImageStatus(_ context.Context, q *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	if err := r.call("ImageStatus", q.Image.Image); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.Images, q.Image.Image) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: q.Image.Image, Size: 1000}}, nil
}

func (r *Runtime) PullImage(_ context.Context, q *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	if err := r.call("PullImage", q.Image.Image); err != nil {
		return nil, err
	}
	if r.Pull != nil {
		if err := r.Pull(q.Image.Image); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Images = append(r.Images, q.Image.Image)
	return &runtimeapi.PullImageResponse{ImageRef: q.Image.Image}, nil
}

// Streams echoes: what is written to a command comes back.
func (r *Runtime) Streams() streaming.Runtime { return echo{} }

type echo struct{}

func (echo) Exec(_ context.Context, id string, command []string, in io.Reader, out, err io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	if out != nil {
		fmt.Fprintf(out, "%s %q\n", id, command)
		if in != nil {
			_, err := io.Copy(out, in)
			return err
		}
	}
	return nil
}

func (e echo) Attach(ctx context.Context, id string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return e.Exec(ctx, id, nil, in, out, err, tty, resize)
}

func (echo) PortForward(_ context.Context, _ string, _ int32, stream io.ReadWriteCloser) error {
	_, err := io.Copy(stream, stream)
	return err
}
