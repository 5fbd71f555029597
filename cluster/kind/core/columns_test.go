package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
)

func TestHeaders(t *testing.T) {
	for _, c := range []struct {
		k    *kind.Kind
		want string
	}{
		{core.Pod(), "Name Ready Status Restarts Age IP+ Node+ Nominated Node+ Readiness Gates+"},
		{core.Service(), "Name Type Cluster-IP External-IP Port(s) Age Selector+"},
		{core.Node(), "Name Status Roles Age Version Internal-IP+ External-IP+ OS-Image+ Kernel-Version+ Container-Runtime+"},
		{core.Event(), "Last Seen Type Reason Object Subobject+ Source+ Message First Seen+ Count+ Name+"},
		{core.Namespace(), "Name Status Age"},
		{core.ConfigMap(), "Name Data Age"},
		{core.Secret(), "Name Type Data Age"},
		{core.ServiceAccount(), "Name Age"},
		{core.Endpoints(), "Name Endpoints Age"},
	} {
		if got := strings.Join(kindtest.Header(c.k), " "); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.k, got, c.want)
		}
	}
}

// pods as people see them: two containers unless said otherwise.
func TestPodStatusInWords(t *testing.T) {
	k := core.Pod()
	for _, c := range []struct {
		what   string
		spec   string
		status string
		meta   string
		want   string // ready, status, restarts
	}{
		{what: "not scheduled", status: `{phase: Pending}`, want: "0/2 Pending 0"},
		{what: "gated", status: `{phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: SchedulingGated}]}`, want: "0/2 SchedulingGated 0"},
		{what: "being made", status: `{phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}},{name: b, state: {waiting: {reason: ContainerCreating}}}]}`,
			want: "0/2 ContainerCreating 0"},
		{what: "running", status: `{phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}},{name: b, ready: true, state: {running: {}}}]}`,
			want: "2/2 Running 0"},
		{what: "restarted", status: `{phase: Running, containerStatuses: [{name: a, ready: true, restartCount: 2, state: {running: {}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-11-21T11:55:00Z"}}},{name: b, ready: true, state: {running: {}}}]}`,
			want: "2/2 Running 2 (5m ago)"},
		{what: "crash looping", status: `{phase: Running, containerStatuses: [{name: a, restartCount: 7, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-11-21T11:59:50Z"}}},{name: b, ready: true, state: {running: {}}}]}`,
			want: "1/2 CrashLoopBackOff 7 (10s ago)"},
		{what: "no image", status: `{phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ImagePullBackOff}}},{name: b, ready: true, state: {running: {}}}]}`,
			want: "1/2 ImagePullBackOff 0"},
		{what: "completed", status: `{phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {reason: Completed}}},{name: b, state: {terminated: {reason: Completed}}}]}`,
			want: "0/2 Completed 0"},
		{what: "one completed, one serving", status: `{phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: a, state: {terminated: {reason: Completed}}},{name: b, ready: true, state: {running: {}}}]}`,
			want: "1/2 Running 0"},
		{what: "one completed, the pod not ready", status: `{phase: Running, containerStatuses: [{name: a, state: {terminated: {reason: Completed}}},{name: b, ready: true, state: {running: {}}}]}`,
			want: "1/2 NotReady 0"},
		{what: "killed by a signal", status: `{phase: Failed, containerStatuses: [{name: a, state: {terminated: {signal: 9, exitCode: 137}}}]}`, want: "0/2 Signal:9 0"},
		{what: "failed without a reason", status: `{phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 3}}}]}`, want: "0/2 ExitCode:3 0"},
		{what: "evicted", status: `{phase: Failed, reason: Evicted}`, want: "0/2 Evicted 0"},
		{what: "leaving", meta: `{deletionTimestamp: "2026-11-21T12:00:00Z"}`, status: `{phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}}]}`,
			want: "1/2 Terminating 0"},
		{what: "leaving after its end", meta: `{deletionTimestamp: "2026-11-21T12:00:00Z"}`, status: `{phase: Succeeded}`, want: "0/2 Succeeded 0"},
		{what: "lost with its node", meta: `{deletionTimestamp: "2026-11-21T12:00:00Z"}`, status: `{phase: Running, reason: NodeLost}`, want: "0/2 Unknown 0"},
		{what: "first of two init containers", spec: `initContainers: [{name: i},{name: j}]`,
			status: `{phase: Pending, initContainerStatuses: [{name: i, state: {running: {}}},{name: j, state: {waiting: {reason: PodInitializing}}}], containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}}]}`,
			want:   "0/2 Init:0/2 0"},
		{what: "second of two init containers", spec: `initContainers: [{name: i},{name: j}]`,
			status: `{phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {reason: Completed}}},{name: j, state: {running: {}}}]}`, want: "0/2 Init:1/2 0"},
		{what: "init crash looping", spec: `initContainers: [{name: i}]`,
			status: `{phase: Pending, initContainerStatuses: [{name: i, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {finishedAt: "2026-11-21T11:59:00Z"}}}]}`,
			want:   "0/2 Init:CrashLoopBackOff 3 (60s ago)"},
		{what: "init failed", spec: `initContainers: [{name: i}]`, status: `{phase: Failed, initContainerStatuses: [{name: i, state: {terminated: {reason: Error, exitCode: 1}}}]}`,
			want: "0/2 Init:Error 0"},
		{what: "initialized", spec: `initContainers: [{name: i}]`,
			status: `{phase: Pending, conditions: [{type: Initialized, status: "True"}], initContainerStatuses: [{name: i, state: {terminated: {reason: Completed}}}], containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}},{name: b, state: {waiting: {reason: PodInitializing}}}]}`,
			want:   "0/2 PodInitializing 0"},
		{what: "with a sidecar", spec: `initContainers: [{name: i, restartPolicy: Always}]`,
			status: `{phase: Running, conditions: [{type: Initialized, status: "True"}], initContainerStatuses: [{name: i, started: true, ready: true, state: {running: {}}}], containerStatuses: [{name: a, ready: true, state: {running: {}}},{name: b, ready: true, state: {running: {}}}]}`,
			want:   "3/3 Running 0"},
	} {
		t.Run(c.what, func(t *testing.T) {
			text := "status: " + c.status + "\nspec: {containers: [{name: a},{name: b}]" + map[bool]string{true: ", " + c.spec}[c.spec != ""] + "}\n"
			if c.meta != "" {
				text += "metadata: " + c.meta + "\n"
			}
			row := kindtest.Row(k, kindtest.Read(t, k, text))
			if got := fmt.Sprint(row[1], " ", row[2], " ", row[3]); got != c.want {
				t.Errorf("shown as %q, want %q", got, c.want)
			}
		})
	}
}

func TestRows(t *testing.T) {
	event := func(change func(*corev1.Event)) *corev1.Event {
		e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "web.1"}, Type: "Normal", Reason: "Pulled", Message: "done\n",
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web", FieldPath: "spec.containers{a}"},
			Source:         corev1.EventSource{Component: "kubelet", Host: "n"},
			FirstTimestamp: kindtest.Ago(time.Hour), LastTimestamp: kindtest.Ago(time.Minute), Count: 4}
		change(e)
		return e
	}
	for _, c := range []struct {
		what string
		k    *kind.Kind
		obj  kind.Object
		want []any
	}{
		{"pod", core.Pod(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", CreationTimestamp: kindtest.Ago(50 * time.Hour)},
			Spec:   corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{}}, ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "a"}}},
			Status: corev1.PodStatus{Phase: corev1.PodPending, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}}},
			[]any{"web", "0/1", "Pending", "0", "2d2h", "10.0.0.1", "n", "<none>", "0/1"}},
		{"node", core.Node(), kindtest.Read(t, core.Node(), `{metadata: {name: node-1, labels: {node-role.kubernetes.io/control-plane: ""}}, spec: {unschedulable: true},
  status: {conditions: [{type: Ready, status: "True"}], addresses: [{type: InternalIP, address: 10.0.0.1}], nodeInfo: {kubeletVersion: v1.37.2, osImage: Debian}}}`),
			[]any{"node-1", "Ready,SchedulingDisabled", "control-plane", "<unknown>", "v1.37.2", "10.0.0.1", "<none>", "Debian", "<unknown>", "<unknown>"}},
		{"service", core.Service(), kindtest.Create(t, core.Service(), `{metadata: {name: web}, spec: {type: NodePort, clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80, nodePort: 30080},{port: 53, protocol: UDP, name: dns}]}}`),
			[]any{"web", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "<unknown>", "app=web"}},
		{"headless", core.Service(), kindtest.Create(t, core.Service(), `{metadata: {name: web}, spec: {clusterIP: None}}`),
			[]any{"web", "ClusterIP", "None", "<none>", "<none>", "<unknown>", "<none>"}},
		{"load balancer", core.Service(), kindtest.Create(t, core.Service(), `{metadata: {name: web}, spec: {type: LoadBalancer, ports: [{port: 80}]}}`),
			[]any{"web", "LoadBalancer", "<none>", "<pending>", "80/TCP", "<unknown>", "<none>"}},
		{"event", core.Event(), event(func(*corev1.Event) {}),
			[]any{"60s", "Normal", "Pulled", "pod/web", "spec.containers{a}", "kubelet, n", "done", "60m", int64(4), "web.1"}},
		{"event of a series", core.Event(), event(func(e *corev1.Event) {
			e.FirstTimestamp, e.LastTimestamp, e.Count, e.Source = metav1.Time{}, metav1.Time{}, 0, corev1.EventSource{}
			e.EventTime, e.ReportingController = metav1.NewMicroTime(kindtest.Ago(time.Hour).Time), "sched"
			e.Series = &corev1.EventSeries{Count: 9, LastObservedTime: metav1.NewMicroTime(kindtest.Ago(time.Second).Time)}
		}), []any{"1s", "Normal", "Pulled", "pod/web", "spec.containers{a}", "sched", "done", "60m", int64(9), "web.1"}},
		{"endpoints", core.Endpoints(), kindtest.Create(t, core.Endpoints(), `{metadata: {name: web}, subsets: [{addresses: [{ip: 10.0.0.1},{ip: 10.0.0.2},{ip: 10.0.0.3},{ip: 10.0.0.4}], ports: [{port: 80}]}]}`),
			[]any{"web", "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more...", "<unknown>"}},
		{"config map", core.ConfigMap(), kindtest.Create(t, core.ConfigMap(), `{metadata: {name: c}, data: {a: b}, binaryData: {c: eA==}}`), []any{"c", int64(2), "<unknown>"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := kindtest.Row(c.k, c.obj); !slices.Equal(got, c.want) {
				t.Errorf("row\n%q\nwant\n%q", got, c.want)
			}
		})
	}
}

func TestFieldsCanBeSelected(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", HostNetwork: true}, Status: corev1.PodStatus{Phase: "Running", PodIPs: []corev1.PodIP{{IP: "1.2.3.4"}}}}
	f := core.Pod().Fields
	for name, want := range map[string]string{"spec.nodeName": "n", "spec.hostNetwork": "true", "status.phase": "Running", "status.podIP": "1.2.3.4", "status.nominatedNodeName": ""} {
		if got := f[name](p); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// The conformance suite lists nodes by a field that is mostly absent.
	if got := core.Node().Fields["spec.unschedulable"](&corev1.Node{}); got != "false" {
		t.Errorf("spec.unschedulable is %q, want false", got)
	}
}
