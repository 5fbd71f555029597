package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind/batch"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// newJob is a job of that many completions with that much at a time, changed.
func newJob(completions, parallelism int32, change ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pi", UID: "pi-uid"},
		Spec: batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
				Containers: []corev1.Container{{Name: "main", Image: "a:1", TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}}},
		Status: batchv1.JobStatus{StartTime: new(metav1.NewTime(noon.Add(-time.Hour)))}}
	for _, c := range change {
		c(j)
	}
	k := batch.Job()
	k.Default(j)
	k.Prepare(j, nil)
	return j
}

func byIndex(j *batchv1.Job) { j.Spec.CompletionMode = new(batchv1.IndexedCompletion) }

// pod is one of the job's, by words: "ready", "failed", "succeeded",
// "leaving", "counted" (without the finalizer), "index=3", "exit=1",
// "failures=2", "ago=5s".
func pod(name string, words ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name),
		Finalizers: []string{batchv1.JobTrackingFinalizer}, Annotations: map[string]string{},
		CreationTimestamp: metav1.NewTime(noon.Add(-time.Minute))},
		Status: corev1.PodStatus{Phase: corev1.PodPending}}
	ended := noon.Add(-time.Hour)
	for _, w := range words {
		word, value, _ := strings.Cut(w, "=")
		switch word {
		case "ready":
			p.Spec.NodeName, p.Status.Phase = "n", corev1.PodRunning
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(-time.Minute))}}
		case "failed":
			p.Status.Phase = corev1.PodFailed
		case "succeeded":
			p.Status.Phase = corev1.PodSucceeded
		case "leaving":
			p.DeletionTimestamp = new(metav1.NewTime(noon))
		case "counted":
			p.Finalizers = nil
		case "index":
			p.Annotations[batchv1.JobCompletionIndexAnnotation] = value
		case "failures":
			p.Annotations[batchv1.JobIndexFailureCountAnnotation] = value
		case "disrupted":
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
		case "ago":
			d, _ := time.ParseDuration(value)
			ended = noon.Add(-d)
		case "exit":
			code, _ := strconv.Atoi(value)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(code)}}}}
		}
	}
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		if len(p.Status.ContainerStatuses) == 0 {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
		}
		p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(ended)
	}
	return p
}

// String is a decision in short.
func (d decision) String() string {
	var s []string
	if d.end != nil {
		s = append(s, fmt.Sprintf("%s:%s", d.end.Type, d.end.Reason))
	}
	names := func(what string, all []*corev1.Pod) {
		var n []string
		for _, p := range all {
			n = append(n, p.Name)
		}
		slices.Sort(n)
		if len(n) > 0 {
			s = append(s, what+" "+strings.Join(n, ","))
		}
	}
	names("stop", d.stop)
	names("drop", d.drop)
	for _, b := range d.create {
		if b.index < 0 {
			s = append(s, "create")
		} else {
			s = append(s, fmt.Sprintf("create %d", b.index))
		}
	}
	if d.again > 0 {
		s = append(s, "again "+d.again.String())
	}
	return strings.Join(s, "; ")
}

func TestDecide(t *testing.T) {
	suspended := func(j *batchv1.Job) { j.Spec.Suspend = new(true) }
	rule := func(r batchv1.PodFailurePolicyRule) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{r}}
		}
	}
	exit42 := &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}
	perIndex := func(limit int32, most *int32) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			byIndex(j)
			j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = &limit, most
		}
	}
	for _, c := range []struct {
		it   string
		job  *batchv1.Job
		pods []*corev1.Pod
		want string
	}{
		{it: "makes as many at a time as may run", job: newJob(3, 2), want: "create; create"},
		{it: "makes no more than are missing", job: newJob(3, 2, func(j *batchv1.Job) { j.Status.Succeeded = 2 }), want: "create"},
		{it: "is content with those that run", job: newJob(3, 2), pods: []*corev1.Pod{pod("a"), pod("b", "ready")}},
		{it: "counts who has just succeeded", job: newJob(3, 3), pods: []*corev1.Pod{pod("a", "succeeded"), pod("b"), pod("c")}},
		{it: "replaces who leaves", job: newJob(1, 1), pods: []*corev1.Pod{pod("a", "leaving")}, want: "again 10s"},
		{it: "waits after a failure", job: newJob(1, 1), pods: []*corev1.Pod{pod("a", "failed", "ago=4s")}, want: "again 6s"},
		{it: "waits twice as long after two", job: newJob(1, 1), pods: []*corev1.Pod{pod("a", "failed", "ago=9s"), pod("b", "failed", "ago=4s")}, want: "again 16s"},
		{it: "goes on when it has waited", job: newJob(1, 1), pods: []*corev1.Pod{pod("a", "failed", "ago=11s")}, want: "create"},
		{it: "does not wait after a success", job: newJob(3, 1), pods: []*corev1.Pod{pod("a", "failed", "ago=4s"), pod("b", "succeeded", "ago=2s")}, want: "create"},
		{it: "stops who has come least far", job: newJob(3, 1), pods: []*corev1.Pod{pod("a", "ready"), pod("b"), pod("c", "ready")}, want: "drop a,b"},
		{it: "a work queue is as wide as asked", job: newJob(0, 3, func(j *batchv1.Job) { j.Spec.Completions = nil }), want: "create; create; create"},
		{it: "a work queue with a success makes no more", job: newJob(0, 3, func(j *batchv1.Job) { j.Spec.Completions = nil }), pods: []*corev1.Pod{pod("a", "succeeded"), pod("b")}},
		{it: "a suspended job has no pods", job: newJob(3, 2, suspended), pods: []*corev1.Pod{pod("a", "ready"), pod("b", "succeeded")}, want: "drop a"},
		{it: "a job that is being deleted makes none", job: newJob(3, 2, func(j *batchv1.Job) { j.DeletionTimestamp = new(metav1.NewTime(noon)) })},
		{it: "failed too often", job: newJob(2, 2, func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(1)); j.Status.Failed = 1 }),
			pods: []*corev1.Pod{pod("a", "failed"), pod("b", "ready")}, want: "FailureTarget:BackoffLimitExceeded; stop b"},
		{it: "a deadline has passed", job: newJob(1, 1, func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = new(int64(3600)) }),
			pods: []*corev1.Pod{pod("a", "ready")}, want: "FailureTarget:DeadlineExceeded; stop a"},
		{it: "a deadline will pass", job: newJob(1, 1, func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = new(int64(3660)) }),
			pods: []*corev1.Pod{pod("a", "ready")}, want: "again 1m0s"},
		{it: "a deadline is not about a suspended job", job: newJob(1, 1, suspended, func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = new(int64(60)) })},
		{it: "restarts in place count too", job: newJob(1, 1, func(j *batchv1.Job) {
			j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			j.Spec.BackoffLimit = new(int32(2))
		}), pods: []*corev1.Pod{func() *corev1.Pod {
			p := pod("a", "ready")
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2}}
			return p
		}()}, want: "FailureTarget:BackoffLimitExceeded; stop a"},
		{it: "a policy fails the job", job: newJob(2, 2, rule(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: exit42})),
			pods: []*corev1.Pod{pod("a", "failed", "exit=42"), pod("b", "ready")}, want: "FailureTarget:PodFailurePolicy; stop b"},
		{it: "a policy forgives", job: newJob(1, 1, func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(0)) }, rule(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}})),
			pods: []*corev1.Pod{pod("a", "failed", "disrupted", "ago=11s")}, want: "create"},
		{it: "with a policy a pod has failed when it has ended", job: newJob(1, 1, rule(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: exit42})),
			pods: []*corev1.Pod{pod("a", "ready", "leaving")}},
		{it: "an outcome stays", job: newJob(1, 1, func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, Reason: "Why"}}
		}), pods: []*corev1.Pod{pod("a", "succeeded")}, want: "Failed:Why"},
		{it: "indexes are filled from below", job: newJob(5, 2, byIndex, func(j *batchv1.Job) { j.Status.CompletedIndexes = "0,2" }), want: "create 1; create 3"},
		{it: "two of an index are one too many", job: newJob(5, 3, byIndex), pods: []*corev1.Pod{pod("a", "index=0"), pod("b", "index=0", "ready"), pod("c", "index=1")}, want: "drop a"},
		{it: "no index is no good", job: newJob(2, 2, byIndex), pods: []*corev1.Pod{pod("a", "ready"), pod("b", "index=7", "ready"), pod("c", "index=0", "ready")}, want: "drop a,b"},
		{it: "an index fails alone", job: newJob(3, 3, perIndex(0, nil)), pods: []*corev1.Pod{pod("a", "index=0", "failed"), pod("b", "index=1", "ready"), pod("c", "index=2", "ready")}},
		{it: "an index is tried again", job: newJob(2, 2, perIndex(1, nil)), pods: []*corev1.Pod{pod("a", "index=0", "failed", "ago=11s"), pod("b", "index=1", "ready")}, want: "create 0"},
		{it: "an index waits by itself", job: newJob(2, 2, perIndex(3, nil)), pods: []*corev1.Pod{pod("a", "index=0", "failed", "failures=1", "ago=11s"), pod("b", "index=1", "ready")}, want: "again 9s"},
		{it: "all indexes have ended, some badly", job: newJob(2, 2, perIndex(0, nil)), pods: []*corev1.Pod{pod("a", "index=0", "failed"), pod("b", "index=1", "succeeded")}, want: "FailureTarget:FailedIndexes"},
		{it: "too many indexes have failed", job: newJob(5, 5, perIndex(0, new(int32(1)))), pods: []*corev1.Pod{pod("a", "index=0", "failed"), pod("b", "index=1", "failed"), pod("c", "index=2", "ready")},
			want: "FailureTarget:MaxFailedIndexesExceeded; stop c"},
		{it: "a policy gives an index up", job: newJob(2, 2, perIndex(5, nil), rule(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailIndex, OnExitCodes: exit42})),
			pods: []*corev1.Pod{pod("a", "index=0", "failed", "exit=42", "ago=11s"), pod("b", "index=1", "ready")}},
		{it: "enough have succeeded", job: newJob(5, 3, byIndex, func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0-2"), SucceededCount: new(int32(2))}}}
		}), pods: []*corev1.Pod{pod("a", "index=0", "succeeded"), pod("b", "index=2", "succeeded"), pod("c", "index=4", "ready")}, want: "SuccessCriteriaMet:SuccessPolicy; stop c"},
		{it: "too few have succeeded", job: newJob(5, 3, byIndex, func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0-2")}}}
		}), pods: []*corev1.Pod{pod("a", "index=0", "succeeded"), pod("b", "index=2", "succeeded"), pod("c", "index=4", "ready")}, want: "create 1; create 3"},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := decide(look(c.job, c.pods, backoff{}, noon)).String(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestVerdictsSayWhy(t *testing.T) {
	policy := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionCount, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpNotIn, Values: []int32{42}, ContainerName: new("main")}},
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}},
		{Action: batchv1.PodFailurePolicyActionFailJob, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
	}}
	if got := judge(policy, pod("a", "failed", "exit=1")); got.action != batchv1.PodFailurePolicyActionCount || !got.counts() {
		t.Errorf("got %+v", got)
	}
	if got := judge(policy, pod("a", "failed", "exit=42")); got.why != "Container main for pod default/a failed with exit code 42 matching FailJob rule at index 1" {
		t.Errorf("got %+v", got)
	}
	if got := judge(policy, pod("a", "failed", "disrupted")); got.why != "Pod default/a has condition DisruptionTarget matching FailJob rule at index 2" {
		t.Errorf("got %+v", got)
	}
	if got := judge(policy, pod("a", "failed")); got.action != "" || !got.counts() {
		t.Errorf("a container that ended well matches no rule: %+v", got)
	}
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 0, 1: 10 * time.Second, 2: 20 * time.Second, 4: 80 * time.Second, 7: 10 * time.Minute, 500: 10 * time.Minute} {
		if got := (backoff{failures: n, last: noon}).wait(noon); got != want {
			t.Errorf("after %d: %v, want %v", n, got, want)
		}
	}
}
