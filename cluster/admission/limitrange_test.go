package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
)

func TestLimitRanges(t *testing.T) {
	pods, ranges := core.Pod(), core.LimitRange()
	table := kind.NewTable([]*kind.Kind{pods, ranges})
	fake := clienttest.New(t, table, kindtest.Read(t, ranges, `{metadata: {namespace: ns, name: l}, spec: {limits: [
		{type: Container, min: {cpu: 50m}, max: {cpu: 500m}, default: {cpu: 400m}, defaultRequest: {cpu: 100m}, maxLimitRequestRatio: {cpu: 4}},
		{type: Pod, max: {memory: 1Gi}}]}}`))
	plugin := LimitRanges{Reader: fake}
	for _, c := range []struct {
		it, pod  string
		ns       string
		requests string // of the first container
		limits   string
		note     string
		want     string
	}{
		{it: "says what a container asks for that does not", pod: `{containers: [{name: a, resources: {limits: {memory: 1Gi}}}]}`,
			requests: "100m", limits: "400m", note: "LimitRanger plugin set: cpu request for container a; cpu limit for container a"},
		{it: "leaves alone what is said", pod: `{containers: [{name: a, resources: {requests: {cpu: 200m}, limits: {cpu: 300m, memory: 1Mi}}}]}`,
			requests: "200m", limits: "300m"},
		{it: "refuses too little", pod: `{containers: [{name: a, resources: {requests: {cpu: 10m}, limits: {cpu: 40m, memory: 1Mi}}}]}`, requests: "10m", limits: "40m",
			want: `pods "p" is forbidden: minimum cpu usage per Container is 50m, but request is 10m`},
		{it: "refuses too much", pod: `{containers: [{name: a, resources: {requests: {cpu: 200m}, limits: {cpu: 600m, memory: 1Mi}}}]}`, requests: "200m", limits: "600m",
			want: `pods "p" is forbidden: maximum cpu usage per Container is 500m, but limit is 600m`},
		{it: "refuses too far apart", pod: `{containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 1Mi}}}]}`, requests: "100m", limits: "500m",
			want: `pods "p" is forbidden: cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000`},
		{it: "adds up a pod", pod: `{containers: [{name: a, resources: {limits: {memory: 1Gi}}}, {name: b, resources: {limits: {memory: 1Mi}}}]}`, requests: "100m", limits: "400m",
			note: "LimitRanger plugin set: cpu request for container a; cpu limit for container a; cpu request for container b; cpu limit for container b",
			want: `pods "p" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 1025Mi`},
		{it: "names all faults", pod: `{containers: [{name: a, resources: {requests: {cpu: 10m}, limits: {cpu: 40m}}}]}`, requests: "10m", limits: "40m",
			want: `pods "p" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum memory usage per Pod is 1Gi.  No limit is specified]`},
		{it: "knows its namespace only", ns: "other", pod: `{containers: [{name: a}]}`, requests: "0", limits: "0"},
	} {
		t.Run(c.it, func(t *testing.T) {
			ns := c.ns
			if ns == "" {
				ns = "ns"
			}
			pod := kindtest.Read(t, pods, `{metadata: {name: p}, spec: `+c.pod+`}`).(*corev1.Pod)
			a := &Attempt{Operation: Create, Object: pod, Request: request.Request{Kind: pods, Namespace: ns}}
			if err := plugin.Mutate(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			r := pod.Spec.Containers[0].Resources
			if r.Requests.Cpu().String() != c.requests || r.Limits.Cpu().String() != c.limits || pod.Annotations[limitedBy] != c.note {
				t.Errorf("requests %v, limits %v, note %q; want %s, %s, %q", r.Requests.Cpu(), r.Limits.Cpu(), pod.Annotations[limitedBy], c.requests, c.limits, c.note)
			}
			got := ""
			if err := plugin.Review(t.Context(), a); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("review says %q\nwant %q", got, c.want)
			}
		})
	}
}
