package cri_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"

	"sampan/engine"
	"sampan/engine/cri"
	"sampan/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m, nil) }

// wharf is a network that hands out one address and counts.
type wharf struct {
	mu   sync.Mutex
	held map[string]bool
	fail bool
}

func (w *wharf) Attach(ctx context.Context, r cri.NetworkRequest) (cri.NetworkResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := os.Stat(r.NetNS); err != nil {
		return cri.NetworkResult{}, err
	}
	w.held[r.SandboxID] = true
	if w.fail {
		return cri.NetworkResult{}, errors.New("no address left")
	}
	return cri.NetworkResult{IPs: []netip.Addr{netip.MustParseAddr("10.9.8.7"), netip.MustParseAddr("fd00::7")}}, nil
}

func (w *wharf) Detach(ctx context.Context, r cri.NetworkRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.held, r.SandboxID)
	return nil
}

func (w *wharf) Status(context.Context) error { return nil }

// machine is an engine behind a CRI socket.
type machine struct {
	t      *testing.T
	config engine.Config
	server *cri.Server
	net    *wharf
	runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
	logs   string
	down   func()
}

func boot(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, config: engine.Config{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")},
		net: &wharf{held: map[string]bool{}}, logs: filepath.Join(dir, "logs")}
	m.up()
	e, err := engine.Open(t.Context(), m.config)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Images.Load(t.Context(), enginetest.Archive(t), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.down()
		if err := engine.Reset(context.Background(), m.config); err != nil {
			t.Errorf("reset: %v", err)
		}
	})
	return m
}

func (m *machine) up() {
	t := m.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e, err := engine.Open(ctx, m.config)
	if err != nil {
		t.Fatal(err)
	}
	if m.server, err = cri.New(cri.Config{Engine: e, Network: m.net}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(m.config.Run, "cri.sock")
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	wg.Go(func() {
		if err := m.server.Serve(ctx, socket); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	m.RuntimeServiceClient, m.images = runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	m.down = func() { conn.Close(); cancel(); wg.Wait(); e.Close() }
}

func (m *machine) pod(name string, change func(*runtimeapi.PodSandboxConfig)) (string, *runtimeapi.PodSandboxConfig) {
	m.t.Helper()
	c := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "harbor", Uid: name + "-uid"},
		Hostname: name, LogDirectory: filepath.Join(m.logs, name), Labels: map[string]string{"app": name}, Annotations: map[string]string{"a": "b"},
		DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"harbor.svc"}, Options: []string{"ndots:5"}},
		Linux:     &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
	if change != nil {
		change(c)
	}
	r, err := m.RunPodSandbox(m.t.Context(), &runtimeapi.RunPodSandboxRequest{Config: c})
	if err != nil {
		m.t.Fatal(err)
	}
	return r.PodSandboxId, c
}

func (m *machine) container(pod string, pc *runtimeapi.PodSandboxConfig, name string, change func(*runtimeapi.ContainerConfig), args ...string) string {
	m.t.Helper()
	c := &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: enginetest.Image},
		Args: args, LogPath: name + "/0.log", Labels: map[string]string{"container": name},
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
	if change != nil {
		change(c)
	}
	r, err := m.CreateContainer(m.t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: pc})
	if err != nil {
		m.t.Fatal(err)
	}
	return r.ContainerId
}

func (m *machine) start(id string) {
	m.t.Helper()
	if _, err := m.StartContainer(m.t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) status(id string) *runtimeapi.ContainerStatus {
	m.t.Helper()
	r, err := m.ContainerStatus(m.t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Status
}

// until reads events up to one of a container.
func until(t *testing.T, events runtimeapi.RuntimeService_GetContainerEventsClient, id string, kind runtimeapi.ContainerEventType) *runtimeapi.ContainerEventResponse {
	t.Helper()
	for {
		ev, err := events.Recv()
		if err != nil {
			t.Fatalf("waiting for %v of %s: %v", kind, id, err)
		}
		if ev.ContainerId == id && ev.ContainerEventType == kind {
			return ev
		}
	}
}

func (m *machine) output(id string, cmd ...string) string {
	m.t.Helper()
	r, err := m.ExecSync(m.t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd})
	if err != nil {
		m.t.Fatal(err)
	}
	return string(r.Stdout) + string(r.Stderr)
}

func TestLifeOfAPod(t *testing.T) {
	m := boot(t)
	ctx := t.Context()
	events, err := m.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pod, pc := m.pod("ferry", nil)
	st, err := m.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil || st.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY || st.Status.Network.Ip != "10.9.8.7" ||
		len(st.Status.Network.AdditionalIps) != 1 || st.Status.Metadata.Name != "ferry" || st.Status.Annotations["a"] != "b" {
		t.Errorf("sandbox: got %v, %v", st, err)
	}
	id := m.container(pod, pc, "deck", nil, "wait")
	if s := m.status(id); s.State != runtimeapi.ContainerState_CONTAINER_CREATED || s.CreatedAt == 0 || s.StartedAt != 0 {
		t.Errorf("created: got %v", s)
	}
	m.start(id)
	until(t, events, id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if s := m.status(id); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING || s.StartedAt == 0 || s.ImageId == "" || s.LogPath == "" {
		t.Errorf("running: got %v", s)
	}
	if got := m.output(id, "/bin/program", "cat", "/etc/resolv.conf"); got != "search harbor.svc\nnameserver 10.96.0.10\noptions ndots:5\n" {
		t.Errorf("resolv.conf: got %q", got)
	}
	if got := m.output(id, "/bin/program", "cat", "/etc/hosts"); !strings.Contains(got, "10.9.8.7\tferry\n") {
		t.Errorf("hosts: got %q", got)
	}
	if r, err := m.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/program", "exit", "4"}}); err != nil || r.ExitCode != 4 {
		t.Errorf("exec: got %v, %v; want code 4", r, err)
	}
	if _, err := m.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/program", "stubborn"}, Timeout: 1}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("exec past its timeout: got %v", err)
	}
	if r, err := m.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: pod,
		LabelSelector: map[string]string{"container": "deck"}, State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}}); err != nil || len(r.Containers) != 1 {
		t.Errorf("list: got %v, %v", r, err)
	}
	if r, err := m.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "other"}}}); err != nil || len(r.Items) != 0 {
		t.Errorf("list of another label: got %v, %v", r, err)
	}
	if r, err := m.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id}); err != nil || r.Stats.Memory.UsageBytes.Value == 0 {
		t.Errorf("statistics: got %v, %v", r, err)
	}
	if r, err := m.PodSandboxStats(ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: pod}); err != nil || len(r.Stats.Linux.Containers) != 1 || r.Stats.Linux.Process.ProcessCount.Value == 0 {
		t.Errorf("sandbox statistics: got %v, %v", r, err)
	}
	if _, err := m.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 60}); err != nil {
		t.Fatal(err)
	}
	ev := until(t, events, id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	if len(ev.ContainersStatuses) != 1 || ev.ContainersStatuses[0].ExitCode != 3 || ev.PodSandboxStatus.GetId() != pod {
		t.Errorf("event of the end: got %v", ev)
	}
	if s := m.status(id); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 3 || s.Reason != "Error" || s.FinishedAt == 0 {
		t.Errorf("exited: got %v", s)
	}
	log, err := os.ReadFile(filepath.Join(m.logs, "ferry/deck/0.log"))
	if err != nil || !strings.HasSuffix(string(log), " stdout F ready\n") {
		t.Errorf("log: got %q, %v", log, err)
	}
	for range 2 { // everything may be asked for twice
		if _, err := m.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
			t.Error(err)
		}
		if _, err := m.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Error(err)
		}
		if _, err := m.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Error(err)
		}
		if _, err := m.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Error(err)
		}
	}
	until(t, events, pod, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	if _, err := m.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod}); status.Code(err) != codes.NotFound {
		t.Errorf("status of a removed sandbox: got %v", err)
	}
	if len(m.net.held) != 0 {
		t.Errorf("addresses still held: %v", m.net.held)
	}
}

func TestSecurityContextIsHonoured(t *testing.T) {
	m := boot(t)
	pod, pc := m.pod("fort", nil)
	read := func(change func(*runtimeapi.LinuxContainerSecurityContext, *runtimeapi.ContainerConfig), cmd ...string) string {
		t.Helper()
		name := fmt.Sprintf("c%d", len(m.net.held)+int(pc.Metadata.Attempt))
		pc.Metadata.Attempt++
		id := m.container(pod, pc, name, func(c *runtimeapi.ContainerConfig) { change(c.Linux.SecurityContext, c) }, "wait")
		m.start(id)
		return m.output(id, append([]string{"/bin/program"}, cmd...)...)
	}
	n := func(v int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: v} }
	type sec = runtimeapi.LinuxContainerSecurityContext
	host := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(host, []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		it     string
		change func(*sec, *runtimeapi.ContainerConfig)
		cmd    []string
		want   string
	}{
		{"user, group and supplementary groups", func(s *sec, _ *runtimeapi.ContainerConfig) {
			s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = n(1000), n(3000), []int64{4000}
		}, []string{"who"}, "1000 3000 [2000 3000 4000] fort"},
		{"strict groups", func(s *sec, _ *runtimeapi.ContainerConfig) {
			s.RunAsUsername, s.SupplementalGroupsPolicy = "sailor", runtimeapi.SupplementalGroupsPolicy_Strict
		}, []string{"who"}, "1000 1000 [1000] fort"},
		{"capabilities", func(s *sec, _ *runtimeapi.ContainerConfig) {
			s.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}
		}, []string{"cat", "/proc/self/status"}, "CapEff:\t0000000000000400"},
		{"no new privileges", func(s *sec, _ *runtimeapi.ContainerConfig) { s.NoNewPrivs = true }, []string{"cat", "/proc/self/status"}, "NoNewPrivs:\t1"},
		{"the default seccomp profile", func(s *sec, _ *runtimeapi.ContainerConfig) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
		}, []string{"cat", "/proc/self/status"}, "Seccomp:\t2"},
		{"no seccomp profile", func(s *sec, _ *runtimeapi.ContainerConfig) {}, []string{"cat", "/proc/self/status"}, "Seccomp:\t0"},
		{"a read-only root", func(s *sec, _ *runtimeapi.ContainerConfig) { s.ReadonlyRootfs = true }, []string{"write", "/x", "y"}, "read-only file system"},
		{"masked paths", func(s *sec, _ *runtimeapi.ContainerConfig) { s.MaskedPaths = []string{"/proc/version"} }, []string{"cat", "/proc/version"}, ""},
		{"a mount", func(_ *sec, c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: host, ContainerPath: "/in/file", Readonly: true}}
		}, []string{"cat", "/in/file"}, "from the host"},
		{"a read-only mount", func(_ *sec, c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: host, ContainerPath: "/in/file", Readonly: true}}
		}, []string{"write", "/in/file", "x"}, "read-only file system"},
		{"a process namespace of its own", func(s *sec, _ *runtimeapi.ContainerConfig) {}, []string{"cat", "/proc/1/comm"}, "program\n"},
	} {
		if got := read(c.change, c.cmd...); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", c.it, got, c.want)
		}
	}
}

func TestStreamsCarryExecAndPortForward(t *testing.T) {
	m := boot(t)
	ctx := t.Context()
	pod, pc := m.pod("dock", nil)
	id := m.container(pod, pc, "crane", nil, "serve", "80")
	m.start(id)
	s := m.server.Streams()
	var out bytes.Buffer
	if err := s.Exec(ctx, id, []string{"/bin/program", "cat"}, strings.NewReader("cargo"), sink{&out}, nil, false, nil); err != nil || out.String() != "cargo" {
		t.Errorf("exec: got %q, %v", out.String(), err)
	}
	err := s.Exec(ctx, id, []string{"/bin/program", "exit", "5"}, nil, sink{&out}, nil, false, nil)
	var exit utilexec.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 5 {
		t.Errorf("exec: got %v, want an exit error with code 5", err)
	}
	near, far := pipe()
	forwarded := make(chan error, 1)
	go func() { forwarded <- s.PortForward(ctx, pod, 80, far) }()
	line, err := bufio.NewReader(near).ReadString('\n')
	if err != nil || line != "hello\n" {
		t.Errorf("port-forward: got %q, %v", line, err)
	}
	near.Close()
	if err := <-forwarded; err != nil {
		t.Errorf("port-forward: %v", err)
	}
	_, far = pipe()
	if err := s.PortForward(ctx, pod, 81, far); err == nil {
		t.Error("port-forward to a port nobody listens on: no error")
	}
	if r, err := m.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"x"}, Stdout: true}); err != nil || !strings.HasPrefix(r.Url, "http://127.0.0.1:") {
		t.Errorf("exec by URL: got %v, %v", r, err)
	}
}

type sink struct{ io.Writer }

func (sink) Close() error { return nil }

type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

func (d duplex) Close() error { d.PipeReader.Close(); return d.PipeWriter.Close() }

func pipe() (a, b duplex) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return duplex{r1, w2}, duplex{r2, w1}
}

func TestPodsAreTakenOverByTheNextProcess(t *testing.T) {
	m := boot(t)
	pod, pc := m.pod("liner", nil)
	a, b := m.container(pod, pc, "a", nil, "wait"), m.container(pod, pc, "b", nil, "wait")
	m.start(a)
	m.start(b)
	before := m.status(a)
	m.down()
	// While nobody is there b ends.
	e, err := engine.Open(t.Context(), m.config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.Inspect(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	p, err := os.FindProcess(c.Status.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	m.up()
	events, err := m.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if ev := until(t, events, b, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT); ev.PodSandboxStatus.GetState() != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Errorf("event: got %v", ev)
	}
	if s := m.status(b); s.ExitCode != 137 {
		t.Errorf("ended meanwhile: got %v, want code 137", s)
	}
	after := m.status(a)
	if after.State != runtimeapi.ContainerState_CONTAINER_RUNNING || after.StartedAt != before.StartedAt {
		t.Errorf("taken over: got %v, want it running since %d", after, before.StartedAt)
	}
	if got := m.output(a, "/bin/program", "echo", "still", "here"); got != "still here\n" {
		t.Errorf("exec after take-over: got %q", got)
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	m := boot(t)
	ctx := t.Context()
	m.net.fail = true
	_, err := m.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "x"}}})
	if err == nil || len(m.net.held) != 0 {
		t.Errorf("sandbox without an address: got %v, held %v", err, m.net.held)
	}
	if r, err := m.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{}); err != nil || len(r.Items) != 0 {
		t.Errorf("left: %v, %v", r, err)
	}
	m.net.fail = false
	_, err = m.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{RuntimeHandler: "kata", Config: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "x"}}})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `no runtime for "kata" is configured`) {
		t.Errorf("sandbox of another runtime: got %v", err)
	}
	r, err := m.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{RuntimeHandler: cri.Handler, Config: &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "ours", Namespace: "harbor", Uid: "u"}, LogDirectory: filepath.Join(m.logs, "ours")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: r.PodSandboxId}); err != nil {
		t.Error(err)
	}
	pod, pc := m.pod("wreck", nil)
	if _, err := m.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, SandboxConfig: pc, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "nowhere:1"}}}); status.Code(err) != codes.NotFound {
		t.Errorf("container of a missing image: got %v", err)
	}
	id := m.container(pod, pc, "hole", func(c *runtimeapi.ContainerConfig) { c.Command = []string{"/nope"} })
	if _, err := m.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err == nil || !strings.Contains(err.Error(), "/nope") {
		t.Errorf("start of a missing program: got %v", err)
	}
	if s := m.status(id); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.Reason != "StartError" || s.ExitCode != 128 || s.Message == "" {
		t.Errorf("after it: got %v", s)
	}
	if _, err := m.CheckpointContainer(ctx, &runtimeapi.CheckpointContainerRequest{ContainerId: id}); status.Code(err) != codes.Unimplemented {
		t.Errorf("checkpoint: got %v, want unimplemented", err)
	}
	if r, err := m.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "nowhere:1"}}); err != nil || r.Image != nil {
		t.Errorf("status of a missing image: got %v, %v", r, err)
	}
	if r, err := m.images.ListImages(ctx, &runtimeapi.ListImagesRequest{}); err != nil || len(r.Images) != 1 || r.Images[0].Size == 0 {
		t.Errorf("images: got %v, %v", r, err)
	}
	if r, err := m.images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{}); err != nil || r.ImageFilesystems[0].UsedBytes.Value == 0 {
		t.Errorf("image file system: got %v, %v", r, err)
	}
}
