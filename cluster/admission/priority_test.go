package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/scheduling"
	"sampan/cluster/request"
)

func TestPriorities(t *testing.T) {
	pods, classes := core.Pod(), scheduling.PriorityClass()
	table := kind.NewTable([]*kind.Kind{pods, classes})
	read := func(k *kind.Kind, text string) kind.Object { return kindtest.Read(t, k, text) }
	plain := read(classes, `{metadata: {name: high}, value: 100, preemptionPolicy: Never}`)
	standard := read(classes, `{metadata: {name: usual}, value: 5, globalDefault: true}`)
	for _, c := range []struct {
		it     string
		stored []kind.Object
		spec   string
		class  string
		value  int32
		policy corev1.PreemptionPolicy
		want   string
	}{
		{it: "nothing is nothing", spec: `{}`, policy: corev1.PreemptLowerPriority},
		{it: "a class has a value and a policy", stored: []kind.Object{plain}, spec: `{priorityClassName: high}`, class: "high", value: 100, policy: corev1.PreemptNever},
		{it: "one class is for all", stored: []kind.Object{plain, standard}, spec: `{}`, class: "usual", value: 5, policy: corev1.PreemptLowerPriority},
		{it: "the system's are there from the start", spec: `{priorityClassName: system-node-critical}`, class: "system-node-critical", value: 2000001000, policy: corev1.PreemptLowerPriority},
		{it: "a class has to be there", spec: `{priorityClassName: none}`, want: `pods "p" is forbidden: no PriorityClass with name none was found`},
		{it: "nobody sets it himself", stored: []kind.Object{plain}, spec: `{priorityClassName: high, priority: 3}`, want: `pods "p" is forbidden: the integer value of priority (3) must not be ` +
			`provided in pod spec; priority admission controller computed 100 from the given PriorityClass name`},
	} {
		t.Run(c.it, func(t *testing.T) {
			pod := read(pods, `{metadata: {name: p}, spec: `+c.spec+`}`).(*corev1.Pod)
			err := Priorities{Reader: clienttest.New(t, table, c.stored...)}.Mutate(t.Context(),
				&Attempt{Operation: Create, Object: pod, Request: request.Request{Kind: pods, Namespace: "ns"}})
			if err != nil {
				if err.Error() != c.want {
					t.Errorf("says %q\nwant %q", err, c.want)
				}
				return
			}
			if c.want != "" {
				t.Fatalf("let in; want %q", c.want)
			}
			if s := pod.Spec; s.PriorityClassName != c.class || *s.Priority != c.value || *s.PreemptionPolicy != c.policy {
				t.Errorf("%q %d %s, want %q %d %s", s.PriorityClassName, *s.Priority, *s.PreemptionPolicy, c.class, c.value, c.policy)
			}
		})
	}
	t.Run("there is one class for all", func(t *testing.T) {
		p := Priorities{Reader: clienttest.New(t, table, standard)}
		for name, want := range map[string]string{"usual": "",
			"second": `priorityclasses.scheduling.k8s.io "second" is forbidden: PriorityClass usual is already marked as default. Only one default can exist`} {
			err := p.Review(t.Context(), &Attempt{Operation: Create, Request: request.Request{Kind: classes},
				Object: read(classes, `{metadata: {name: `+name+`}, value: 1, globalDefault: true}`)})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
	t.Run("the system's stay", func(t *testing.T) {
		for _, c := range []struct{ verb, name, want string }{
			{"delete", "usual", ""},
			{"delete", "system-node-critical", `priorityclasses.scheduling.k8s.io "system-node-critical" is forbidden: this is a system priority class and cannot be deleted`},
			{"deletecollection", "system-node-critical", ""},
		} {
			err := Priorities{}.Review(t.Context(), &Attempt{Operation: Delete, Request: request.Request{Kind: classes, Verb: c.verb, Name: c.name},
				Old: read(classes, `{metadata: {name: `+c.name+`}, value: 1}`)})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s %s: %q, want %q", c.verb, c.name, got, c.want)
			}
		}
	})
}
