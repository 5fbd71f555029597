package podspec_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/podspec"
)

func TestPodChanges(t *testing.T) {
	const fields = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
	for _, c := range []struct {
		rule     string
		old, now string
		want     string // start of the only error; empty: accepted
	}{
		{"nothing may stay the same", `{}`, `{}`, ""},
		{"an image may change", `containers: [{name: a, image: "a:1"}]`, `containers: [{name: a, image: "a:2"}]`, ""},
		{"an image may not go", `containers: [{name: a, image: "a:1"}]`, `containers: [{name: a}]`, "spec.containers[0].image: Required value"},
		{"containers are not added", `{}`, `containers: [{name: a, image: a},{name: b, image: a}]`,
			"spec.containers: Forbidden: pod updates may not add or remove containers"},
		{"a command may not change", `containers: [{name: a, image: a}]`, `containers: [{name: a, image: a, command: [x]}]`, fields},
		{"a host name may not change", `hostname: a`, `hostname: b`, fields},
		{"resources change by another way", `containers: [{name: a, image: a}]`, `containers: [{name: a, image: a, resources: {limits: {cpu: 1}}}]`, fields},
		{"a deadline may be set", `{}`, `activeDeadlineSeconds: 5`, ""},
		{"a deadline may come nearer", `activeDeadlineSeconds: 9`, `activeDeadlineSeconds: 5`, ""},
		{"but not move away", `activeDeadlineSeconds: 5`, `activeDeadlineSeconds: 9`,
			"spec.activeDeadlineSeconds: Invalid value: 9: must be less than or equal to previous value"},
		{"nor go", `activeDeadlineSeconds: 5`, `{}`, "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"},
		{"a toleration may be added", `{}`, `tolerations: [{key: a, operator: Exists}]`, ""},
		{"and wait longer", `tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]`,
			`tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 9}]`, ""},
		{"but not go", `tolerations: [{key: a, operator: Exists}]`, `{}`,
			"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"},
		{"a negative grace period may become 1", `terminationGracePeriodSeconds: -5`, `terminationGracePeriodSeconds: 1`, ""},
		{"no other one may change", `terminationGracePeriodSeconds: 5`, `terminationGracePeriodSeconds: 1`, fields},
		{"a gate may go", `schedulingGates: [{name: a},{name: b}]`, `schedulingGates: [{name: b}]`, ""},
		{"and not come", `{}`, `schedulingGates: [{name: b}]`,
			"spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"},
		{"a gated pod may ask for fewer nodes", `schedulingGates: [{name: a}]`, `{schedulingGates: [{name: a}], nodeSelector: {disk: ssd}}`, ""},
		{"and not for others", `{schedulingGates: [{name: a}], nodeSelector: {disk: ssd}}`, `{schedulingGates: [{name: a}], nodeSelector: {disk: hdd}}`,
			"spec.nodeSelector: Invalid value: {\"disk\":\"hdd\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"},
		{"a gated pod may narrow a term", `{schedulingGates: [{name: a}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}}`,
			`{schedulingGates: [{name: a}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists},{key: b, operator: Exists}]}]}}}}`, ""},
		{"and not change it", `{schedulingGates: [{name: a}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}}`,
			`{schedulingGates: [{name: a}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: b, operator: Exists}]}]}}}}`,
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value"},
		{"any other pod keeps its selector", `{}`, `nodeSelector: {disk: ssd}`, fields},
		{"guests come by their own way", `{}`, `ephemeralContainers: [{name: e, image: a}]`, fields},
	} {
		t.Run(c.rule, func(t *testing.T) {
			errs := podspec.ValidatePod(pod(t, c.now), pod(t, c.old))
			switch {
			case c.want == "" && len(errs) == 0:
			case len(errs) != 1 || c.want == "" || !strings.HasPrefix(errs[0].Error(), c.want):
				t.Errorf("errors %v\nwant %q", errs, c.want)
			}
		})
	}
}

func TestGuestsComeAndStay(t *testing.T) {
	none, one := pod(t, `{}`), pod(t, `ephemeralContainers: [{name: e, image: a, targetContainerName: app}]`)
	compare(t, podspec.ValidateEphemeralUpdate(one, none))
	if errs := podspec.ValidateEphemeralUpdate(none, one); len(errs) != 1 || !strings.Contains(errs[0].Error(), `existing ephemeral containers "e" may not be removed`) {
		t.Errorf("errors %v", errs)
	}
	compare(t, podspec.ValidateEphemeralUpdate(pod(t, `ephemeralContainers: [{name: app, image: a, ports: [{containerPort: 1}]}]`), none),
		`spec.ephemeralContainers[0].name: Duplicate value: "app"`,
		`spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container`)
}

func TestResizeChangesCPUAndMemoryOnly(t *testing.T) {
	old := pod(t, `containers: [{name: a, image: a, resources: {limits: {cpu: 2}, requests: {cpu: 1}}}]`)
	compare(t, podspec.ValidateResize(pod(t, `containers: [{name: a, image: a, resources: {limits: {cpu: 4}, requests: {cpu: 2}}}]`), old))
	compare(t, podspec.ValidateResize(pod(t, `containers: [{name: a, image: a, resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 2, memory: 1Gi}}}]`), old),
		`spec: Invalid value: "": Pod QOS Class may not change as a result of resizing`)
	errs := podspec.ValidateResize(pod(t, `containers: [{name: a, image: b, resources: {limits: {cpu: 2}, requests: {cpu: 1}}}]`), old)
	if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "spec: Forbidden: only cpu and memory resources are mutable") {
		t.Errorf("errors %v", errs)
	}

	to := pod(t, `containers: [{name: a, image: a}]`)
	podspec.TakeResources(to, old)
	if got := to.Spec.Containers[0].Resources.Limits.Cpu().String(); got != "2" || to.Spec.Containers[0].Image != "a" {
		t.Errorf("took cpu %s", got)
	}
}

func TestWhatEndedStaysEnded(t *testing.T) {
	state := func(running bool) *corev1.Pod {
		p := pod(t, `restartPolicy: Never`)
		s := corev1.ContainerStatus{Name: "app"}
		if running {
			s.State.Running = &corev1.ContainerStateRunning{}
		} else {
			s.State.Terminated = &corev1.ContainerStateTerminated{}
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
		return p
	}
	compare(t, podspec.ValidateStatus(state(false), state(true)))
	compare(t, podspec.ValidateStatus(state(true), state(false)),
		"status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state")
}

func TestQOSClass(t *testing.T) {
	for _, c := range []struct {
		is   corev1.PodQOSClass
		spec string
	}{
		{corev1.PodQOSBestEffort, `{}`},
		{corev1.PodQOSBurstable, `containers: [{name: a, image: a, resources: {requests: {cpu: 1}}}]`},
		{corev1.PodQOSBurstable, `containers: [{name: a, image: a, resources: {limits: {cpu: 1}}}]`},
		{corev1.PodQOSGuaranteed, `containers: [{name: a, image: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]`},
		{corev1.PodQOSBurstable, `containers: [{name: a, image: a, resources: {limits: {cpu: 1, memory: 1Gi}}},{name: b, image: a}]`},
		{corev1.PodQOSBurstable, `{initContainers: [{name: i, image: a}], containers: [{name: a, image: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]}`},
		{corev1.PodQOSBurstable, `containers: [{name: a, image: a, resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 1}}}]`},
		{corev1.PodQOSGuaranteed, `{resources: {limits: {cpu: 1, memory: 1Gi}}}`},
		{corev1.PodQOSBestEffort, `containers: [{name: a, image: a, resources: {limits: {example.com/gpu: 1}}}]`},
	} {
		if got := podspec.QOSClass(pod(t, c.spec)); got != c.is {
			t.Errorf("%s is %s, want %s", c.spec, got, c.is)
		}
	}
}
