package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubelet "k8s.io/kubelet/pkg/types"
)

// usage asks the runtime what containers use now.
func (s *server) usage(ctx context.Context) ([]*runtimeapi.ContainerStats, error) {
	r, err := s.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, err
	}
	return r.Stats, nil
}

// summary is cpu and memory of the containers by pod. Network, file systems
// and the node's own figures are not there yet and are left out.
func (s *server) summary(w http.ResponseWriter, r *http.Request) {
	all, err := s.usage(r.Context())
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	sum := statsapi.Summary{Node: statsapi.NodeStats{NodeName: s.NodeName}, Pods: []statsapi.PodStats{}}
	at := map[string]int{}
	for _, c := range all {
		l := c.GetAttributes().GetLabels()
		uid := l[kubelet.KubernetesPodUIDLabel]
		if uid == "" {
			continue
		}
		i, ok := at[uid]
		if !ok {
			i = len(sum.Pods)
			at[uid] = i
			sum.Pods = append(sum.Pods, statsapi.PodStats{PodRef: statsapi.PodReference{
				Name: l[kubelet.KubernetesPodNameLabel], Namespace: l[kubelet.KubernetesPodNamespaceLabel], UID: uid}})
			if p, err := s.Pods.Pod(l[kubelet.KubernetesPodNamespaceLabel], l[kubelet.KubernetesPodNameLabel], ""); err == nil && p.Status.StartTime != nil {
				sum.Pods[i].StartTime = *p.Status.StartTime
			}
		}
		sum.Pods[i].Containers = append(sum.Pods[i].Containers, containerStats(l[kubelet.KubernetesContainerNameLabel], c))
	}
	answer(w, &sum)
}

func containerStats(name string, c *runtimeapi.ContainerStats) statsapi.ContainerStats {
	st := statsapi.ContainerStats{Name: name}
	if cpu := c.GetCpu(); cpu != nil {
		st.CPU = &statsapi.CPUStats{Time: metav1.NewTime(time.Unix(0, cpu.Timestamp)), UsageNanoCores: value(cpu.UsageNanoCores), UsageCoreNanoSeconds: value(cpu.UsageCoreNanoSeconds)}
	}
	if m := c.GetMemory(); m != nil {
		st.Memory = &statsapi.MemoryStats{Time: metav1.NewTime(time.Unix(0, m.Timestamp)), WorkingSetBytes: value(m.WorkingSetBytes),
			UsageBytes: value(m.UsageBytes), AvailableBytes: value(m.AvailableBytes), RSSBytes: value(m.RssBytes)}
	}
	return st
}

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	return &v.Value
}

// metrics are few figures in Prometheus' text format.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	phases, containers := map[corev1.PodPhase]int{}, 0
	for _, p := range s.Pods.Pods() {
		phases[p.Status.Phase]++
		for i := range p.Status.ContainerStatuses {
			if p.Status.ContainerStatuses[i].State.Running != nil {
				containers++
			}
		}
	}
	gauge(w, "kubelet_running_pods", "Number of pods that have a running pod sandbox", phases[corev1.PodRunning])
	gauge(w, "kubelet_running_containers", "Number of containers currently running", containers)
	all, err := s.usage(r.Context())
	if err != nil {
		s.Log.Warn("figures of containers not read", "err", err)
		return
	}
	fmt.Fprintln(w, "# HELP container_memory_working_set_bytes Current working set of the container in bytes\n# TYPE container_memory_working_set_bytes gauge")
	for _, c := range all {
		if m := c.GetMemory().GetWorkingSetBytes(); m != nil {
			fmt.Fprintf(w, "container_memory_working_set_bytes{%s} %d\n", labels(c), m.Value)
		}
	}
	fmt.Fprintln(w, "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds\n# TYPE container_cpu_usage_seconds_total counter")
	for _, c := range all {
		if u := c.GetCpu().GetUsageCoreNanoSeconds(); u != nil {
			fmt.Fprintf(w, "container_cpu_usage_seconds_total{%s} %g\n", labels(c), float64(u.Value)/1e9)
		}
	}
}

func gauge(w io.Writer, name, help string, v int) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, help, name, name, v)
}

func labels(c *runtimeapi.ContainerStats) string {
	l := c.GetAttributes().GetLabels()
	return fmt.Sprintf("container=%q,namespace=%q,pod=%q", l[kubelet.KubernetesContainerNameLabel], l[kubelet.KubernetesPodNamespaceLabel], l[kubelet.KubernetesPodNameLabel])
}
