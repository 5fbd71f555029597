package cri

import (
	"bufio"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine"
	"sampan/internal/fault"
)

// cpuReading is a container's CPU time when it was last asked for: from two
// follows how much of a core it uses.
type cpuReading struct {
	at    time.Time
	nanos uint64
	cores uint64 // the last rate, in billionths of a core
}

// ContainerStats measures one container.
func (s *Server) ContainerStats(ctx context.Context, r *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	c, err := s.engine.Inspect(ctx, r.ContainerId)
	if err != nil {
		return nil, rpc(err)
	}
	st, err := s.stats(ctx, c)
	return &runtimeapi.ContainerStatsResponse{Stats: st}, rpc(err)
}

// ListContainerStats measures the running containers that match.
func (s *Server) ListContainerStats(ctx context.Context, r *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	list, err := s.allStats(ctx, r.GetFilter())
	return &runtimeapi.ListContainerStatsResponse{Stats: list}, rpc(err)
}

// StreamContainerStats is ListContainerStats in pieces.
func (s *Server) StreamContainerStats(r *runtimeapi.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainerStatsResponse]) error {
	list, err := s.allStats(stream.Context(), r.GetFilter())
	if err != nil {
		return rpc(err)
	}
	for piece := range slices.Chunk(list, streamPiece) {
		if err := stream.Send(&runtimeapi.StreamContainerStatsResponse{ContainerStats: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) allStats(ctx context.Context, f *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	list, err := s.matching(ctx, f.GetId(), f.GetPodSandboxId(), f.GetLabelSelector())
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.ContainerStats
	for _, c := range list {
		if c.Status.State != engine.Running {
			continue
		}
		st, err := s.stats(ctx, c)
		if fault.ClassOf(err) == fault.NotFound {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

func (s *Server) stats(ctx context.Context, c engine.Container) (*runtimeapi.ContainerStats, error) {
	meta, err := containerMeta(c)
	if err != nil {
		return nil, err
	}
	st, err := s.engine.Stats(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	now, g := st.At.UnixNano(), st.Cgroup
	out := &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{Id: c.ID, Metadata: meta.Metadata, Labels: meta.Labels, Annotations: meta.Annotations},
		WritableLayer: &runtimeapi.FilesystemUsage{Timestamp: now, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: s.engine.StateDir()},
			UsedBytes: u64(uint64(st.Disk.Bytes)), InodesUsed: u64(uint64(st.Disk.Inodes))},
	}
	if c.Status.State != engine.Running {
		return out, nil
	}
	out.Cpu = &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: u64(g.CPUUsage), UsageNanoCores: u64(s.rate(c.ID, st.At, g.CPUUsage))}
	out.Memory = &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: u64(g.MemoryWorkingSet), UsageBytes: u64(g.MemoryUsage),
		RssBytes: u64(g.MemoryRSS), PageFaults: u64(g.PageFaults), MajorPageFaults: u64(g.MajorPageFaults), AvailableBytes: u64(0)}
	if g.MemoryLimit > g.MemoryWorkingSet {
		out.Memory.AvailableBytes = u64(g.MemoryLimit - g.MemoryWorkingSet)
	}
	out.Swap = &runtimeapi.SwapUsage{Timestamp: now, SwapUsageBytes: u64(g.Swap)}
	if g.SwapLimit > g.Swap {
		out.Swap.SwapAvailableBytes = u64(g.SwapLimit - g.Swap)
	}
	return out, nil
}

// rate is how much of a core was used since the reading before, in billionths.
func (s *Server) rate(id string, at time.Time, nanos uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.cpu[id]
	r := cpuReading{at: at, nanos: nanos}
	if d := at.Sub(last.at); ok && d < 100*time.Millisecond {
		return last.cores // too close to say anything new
	} else if ok && nanos >= last.nanos {
		r.cores = uint64(float64(nanos-last.nanos) / d.Seconds())
	}
	s.cpu[id] = r
	return r.cores
}

// PodSandboxStats measures a sandbox as the sum of its containers.
func (s *Server) PodSandboxStats(ctx context.Context, r *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	box, err := s.engine.Sandbox(ctx, r.PodSandboxId)
	if err != nil {
		return nil, rpc(err)
	}
	st, err := s.sandboxStats(ctx, box)
	return &runtimeapi.PodSandboxStatsResponse{Stats: st}, rpc(err)
}

// ListPodSandboxStats measures the ready sandboxes that match.
func (s *Server) ListPodSandboxStats(ctx context.Context, r *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	list, err := s.allSandboxStats(ctx, r.GetFilter())
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: list}, rpc(err)
}

// StreamPodSandboxStats is ListPodSandboxStats in pieces.
func (s *Server) StreamPodSandboxStats(r *runtimeapi.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxStatsResponse]) error {
	list, err := s.allSandboxStats(stream.Context(), r.GetFilter())
	if err != nil {
		return rpc(err)
	}
	for piece := range slices.Chunk(list, streamPiece) {
		if err := stream.Send(&runtimeapi.StreamPodSandboxStatsResponse{PodSandboxStats: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) allSandboxStats(ctx context.Context, f *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	all, err := s.engine.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.PodSandboxStats
	for _, box := range all {
		if box.State != engine.SandboxReady || len(box.Config.Meta) == 0 || !prefixed(box.ID, f.GetId()) || !selects(f.GetLabelSelector(), box.Config.Labels) {
			continue
		}
		st, err := s.sandboxStats(ctx, box)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

func (s *Server) sandboxStats(ctx context.Context, box engine.Sandbox) (*runtimeapi.PodSandboxStats, error) {
	c, err := metaOf(box)
	if err != nil {
		return nil, err
	}
	containers, err := s.allStats(ctx, &runtimeapi.ContainerStatsFilter{PodSandboxId: box.ID})
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	l := &runtimeapi.LinuxPodSandboxStats{Containers: containers, Network: network(box.NetNS, now),
		Cpu:     &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: u64(0), UsageNanoCores: u64(0)},
		Memory:  &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: u64(0), UsageBytes: u64(0), RssBytes: u64(0), PageFaults: u64(0), MajorPageFaults: u64(0)},
		Process: &runtimeapi.ProcessUsage{Timestamp: now, ProcessCount: u64(0)}}
	for _, st := range containers {
		l.Cpu.UsageCoreNanoSeconds.Value += st.GetCpu().GetUsageCoreNanoSeconds().GetValue()
		l.Cpu.UsageNanoCores.Value += st.GetCpu().GetUsageNanoCores().GetValue()
		l.Memory.WorkingSetBytes.Value += st.GetMemory().GetWorkingSetBytes().GetValue()
		l.Memory.UsageBytes.Value += st.GetMemory().GetUsageBytes().GetValue()
		l.Memory.RssBytes.Value += st.GetMemory().GetRssBytes().GetValue()
		l.Memory.PageFaults.Value += st.GetMemory().GetPageFaults().GetValue()
		l.Memory.MajorPageFaults.Value += st.GetMemory().GetMajorPageFaults().GetValue()
		if es, err := s.engine.Stats(ctx, st.Attributes.Id); err == nil {
			l.Process.ProcessCount.Value += es.Cgroup.Pids
		}
	}
	return &runtimeapi.PodSandboxStats{Attributes: &runtimeapi.PodSandboxAttributes{Id: box.ID, Metadata: c.Metadata,
		Labels: c.Labels, Annotations: c.Annotations}, Linux: l}, nil
}

// network reads the counters of a sandbox's links; nil if it has none of its
// own, or is just going.
func network(netns string, now int64) *runtimeapi.NetworkUsage {
	if netns == "" {
		return nil
	}
	var table []byte
	if err := within(netns, func() (err error) { table, err = os.ReadFile("/proc/thread-self/net/dev"); return err }); err != nil {
		return nil
	}
	out := &runtimeapi.NetworkUsage{Timestamp: now}
	for sc := bufio.NewScanner(strings.NewReader(string(table))); sc.Scan(); {
		name, rest, ok := strings.Cut(sc.Text(), ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 11 {
			continue
		}
		n := func(i int) *runtimeapi.UInt64Value {
			v, _ := strconv.ParseUint(f[i], 10, 64) // the kernel's own numbers
			return u64(v)
		}
		i := &runtimeapi.NetworkInterfaceUsage{Name: name, RxBytes: n(0), RxErrors: n(2), TxBytes: n(8), TxErrors: n(10)}
		if name == "eth0" {
			out.DefaultInterface = i
		}
		out.Interfaces = append(out.Interfaces, i)
	}
	return out
}
