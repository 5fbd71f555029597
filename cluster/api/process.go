package api

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	rtmetrics "runtime/metrics"
	"slices"
	"strconv"
	"strings"

	"sampan/cluster/kind"
	"sampan/internal/counted"
)

// stored are the kinds of what is stored, one for each place in the store.
func (s *Server) stored() []*kind.Kind {
	seen := map[string]bool{"": true} // some are not stored
	return slices.DeleteFunc(slices.Clone(s.cfg.Kinds.All()), func(k *kind.Kind) bool {
		again := seen[k.Prefix]
		seen[k.Prefix] = true
		return again
	})
}

// storageMetrics says how much is stored.
func (s *Server) storageMetrics(b *bytes.Buffer, head func(name, typ, help string)) {
	type resource struct {
		group, plural string
		count         int
	}
	var all []resource
	for _, k := range s.stored() {
		all = append(all, resource{k.GVK.Group, k.Plural, s.cfg.Verbs.Store.Count(k)})
	}
	slices.SortFunc(all, func(a, b resource) int { return strings.Compare(a.plural+"."+a.group, b.plural+"."+b.group) })
	const help = "Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1."
	head("apiserver_storage_objects", "gauge", "[DEPRECATED, consider using apiserver_resource_objects instead] "+help)
	for _, r := range all {
		name := r.plural
		if r.group != "" {
			name += "." + r.group
		}
		fmt.Fprintf(b, "apiserver_storage_objects{resource=%q} %d\n", name, r.count)
	}
	head("apiserver_resource_objects", "gauge", help)
	for _, r := range all {
		fmt.Fprintf(b, "apiserver_resource_objects{group=%q,resource=%q} %d\n", r.group, r.plural, r.count)
	}
	if size := s.cfg.Verbs.Store.Size(); size > 0 {
		head("apiserver_storage_size_bytes", "gauge", "Size of the storage database file physically allocated in bytes.")
		fmt.Fprintf(b, "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} %d\n", size)
	}
}

// etcdMetrics says what etcd was asked for.
func (s *Server) etcdMetrics(b *bytes.Buffer, head func(name, typ, help string)) {
	type asked struct {
		labels string
		times  counted.Histogram
		errors int64
	}
	var all []asked
	for _, k := range s.stored() {
		for _, r := range s.cfg.Verbs.Store.Requests(k) {
			all = append(all, asked{fmt.Sprintf("group=%q,operation=%q,resource=%q", k.GVK.Group, r.Operation, k.Plural), r.Times, r.Errors})
		}
	}
	slices.SortFunc(all, func(a, b asked) int { return strings.Compare(a.labels, b.labels) })
	head("etcd_request_duration_seconds", "histogram", "Etcd request latency in seconds for each operation and object type.")
	for _, r := range all {
		r.times.Write(b, "etcd_request_duration_seconds", r.labels)
	}
	head("etcd_requests_total", "counter", "Etcd request counts for each operation and object type.")
	for _, r := range all {
		fmt.Fprintf(b, "etcd_requests_total{%s} %d\n", r.labels, r.times.Count)
	}
	head("etcd_request_errors_total", "counter", "Etcd failed request counts for each operation and object type.")
	for _, r := range all {
		if r.errors > 0 {
			fmt.Fprintf(b, "etcd_request_errors_total{%s} %d\n", r.labels, r.errors)
		}
	}
}

// processMetrics are those that every program with Prometheus's Go library has
// of itself: what the kernel and the Go runtime say.
func processMetrics(b *bytes.Buffer, head func(name, typ, help string)) {
	one := func(name, typ, help string, value float64) {
		if !math.IsNaN(value) {
			head(name, typ, help)
			fmt.Fprintf(b, "%s %s\n", name, strconv.FormatFloat(value, 'g', -1, 64))
		}
	}
	samples := []rtmetrics.Sample{
		{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/heap/objects:objects"},
		{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/goal:bytes"}, {Name: "/gc/cycles/total:gc-cycles"},
	}
	rtmetrics.Read(samples)
	value := func(i int) float64 {
		if samples[i].Value.Kind() != rtmetrics.KindUint64 {
			return math.NaN()
		}
		return float64(samples[i].Value.Uint64())
	}
	head("go_info", "gauge", "Information about the Go environment.")
	fmt.Fprintf(b, "go_info{version=%q} 1\n", runtime.Version())
	one("go_goroutines", "gauge", "Number of goroutines that currently exist.", value(0))
	one("go_memstats_alloc_bytes", "gauge", "Number of bytes allocated in heap and currently in use.", value(1))
	one("go_memstats_alloc_bytes_total", "counter", "Total number of bytes allocated in heap until now, even if released already.", value(2))
	one("go_memstats_sys_bytes", "gauge", "Number of bytes obtained from system.", value(3))
	one("go_memstats_heap_released_bytes", "gauge", "Number of heap bytes released to OS.", value(4))
	one("go_memstats_heap_objects", "gauge", "Number of currently allocated objects.", value(5))
	one("go_memstats_stack_inuse_bytes", "gauge", "Number of bytes obtained from system for stack allocator in non-CGO environments.", value(6))
	one("go_memstats_next_gc_bytes", "gauge", "Number of heap bytes when next garbage collection will take place.", value(7))
	one("go_gc_cycles_total_gc_cycles_total", "counter", "Count of all completed GC cycles.", value(8))

	p := readProcess()
	one("go_threads", "gauge", "Number of OS threads created.", p.threads)
	one("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", p.cpu)
	one("process_max_fds", "gauge", "Maximum number of open file descriptors.", p.mostFiles)
	one("process_open_fds", "gauge", "Number of open file descriptors.", p.files)
	one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", p.resident)
	one("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", p.started)
	one("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", p.virtual)
}

// process is what /proc says of this program. (proc(5).) What cannot be read
// is not a number.
type process struct{ cpu, files, mostFiles, resident, virtual, started, threads float64 }

func readProcess() process {
	nan := math.NaN()
	p := process{nan, nan, nan, nan, nan, nan, nan}
	const ticks = 100 // a second; USER_HZ is that on all architectures that Go has
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nan
		}
		return v
	}
	if data, err := os.ReadFile("/proc/self/stat"); err == nil {
		// The name, in parentheses, may have anything in it.
		if fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:])); len(fields) > 21 {
			p.cpu = (number(fields[11]) + number(fields[12])) / ticks
			p.threads = number(fields[17])
			p.virtual = number(fields[20])
			p.resident = number(fields[21]) * float64(os.Getpagesize())
			p.started = bootTime() + number(fields[19])/ticks
		}
	}
	if dir, err := os.Open("/proc/self/fd"); err == nil {
		if names, err := dir.Readdirnames(-1); err == nil {
			p.files = float64(len(names) - 1) // without the one that looks
		}
		dir.Close()
	}
	p.mostFiles = number(procField("/proc/self/limits", "Max open files"))
	return p
}

func bootTime() float64 {
	v, err := strconv.ParseFloat(procField("/proc/stat", "btime"), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// procField is the first word after name at the beginning of a line.
func procField(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				return words[0]
			}
		}
	}
	return ""
}
