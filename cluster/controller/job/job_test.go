package job

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/core"
)

// world is a controller at work on a client in memory, in a bubble of time.
type world struct {
	controllertest.World
	again func() // ends the controller and starts another
}

func run(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := world{World: controllertest.New(t, kind.NewTable(core.Kinds(), batch.Kinds()), objs...)}
		start := func() (stop func()) { return w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)})) }
		stop := start()
		w.again = func() { stop(); stop = start() }
		test(w)
	})
}

// fresh is a job as a user makes it, without a status.
func fresh(completions, parallelism int32, change ...func(*batchv1.Job)) *batchv1.Job {
	j := newJob(completions, parallelism, change...)
	j.Status, j.Generation = batchv1.JobStatus{}, 1
	return j
}

func (w world) job() *batchv1.Job { return controllertest.Get[*batchv1.Job](w, "default", "pi") }

func (w world) pods() []*corev1.Pod { return controllertest.All[*corev1.Pod](w) }

// end gives a pod its phase, as a node does.
func (w world) end(p *corev1.Pod, phase corev1.PodPhase, code int32) {
	p = p.DeepCopy()
	p.Status.Phase = phase
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}}}}
	w.Put(p)
	synctest.Wait()
}

func (w world) active() (all []*corev1.Pod) {
	for _, p := range w.pods() {
		if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodPending {
			all = append(all, p)
		}
	}
	return all
}

// counts is the status in short.
func (w world) counts() string {
	w.Helper()
	s := w.job().Status
	var conditions []string
	for _, c := range s.Conditions {
		conditions = append(conditions, fmt.Sprintf("%s=%s(%s)", c.Type, c.Status, c.Reason))
	}
	return strings.TrimSpace(fmt.Sprintf("%d active, %d ready, %d terminating, %d succeeded, %d failed %s", s.Active, *s.Ready, *s.Terminating, s.Succeeded, s.Failed, strings.Join(conditions, " ")))
}

func (w world) want(counts string) {
	w.Helper()
	synctest.Wait()
	if got := w.counts(); got != counts {
		w.Errorf("status %s\nwant   %s", got, counts)
	}
}

func TestAJobRunsToItsEnd(t *testing.T) {
	run(t, func(w world) {
		w.want("2 active, 0 ready, 0 terminating, 0 succeeded, 0 failed")
		if w.job().Status.StartTime == nil {
			t.Error("nobody wrote down when it started")
		}
		for _, p := range w.pods() {
			if !tracked(p) || p.Labels["job-name"] != "pi" || !metav1.IsControlledBy(p, w.job()) {
				t.Errorf("made %+v", p.ObjectMeta)
			}
		}
		w.end(w.active()[0], corev1.PodSucceeded, 0)
		w.want("2 active, 0 ready, 0 terminating, 1 succeeded, 0 failed")
		w.end(w.active()[0], corev1.PodSucceeded, 0)
		w.end(w.active()[0], corev1.PodSucceeded, 0)
		w.want("0 active, 0 ready, 0 terminating, 3 succeeded, 0 failed SuccessCriteriaMet=True(CompletionsReached) Complete=True(CompletionsReached)")
		if w.job().Status.CompletionTime == nil {
			t.Error("nobody wrote down when it ended")
		}
		for _, p := range w.pods() {
			if tracked(p) {
				t.Errorf("%s is still held", p.Name)
			}
		}
	}, fresh(3, 2))
}

func TestAFailedPodIsReplacedAfterAWhile(t *testing.T) {
	run(t, func(w world) {
		w.end(w.active()[0], corev1.PodFailed, 1)
		w.want("0 active, 0 ready, 0 terminating, 0 succeeded, 1 failed")
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if n := len(w.active()); n != 0 {
			t.Errorf("%d pods before the time", n)
		}
		time.Sleep(2 * time.Second)
		w.want("1 active, 0 ready, 0 terminating, 0 succeeded, 1 failed")
		w.end(w.active()[0], corev1.PodFailed, 1)
		w.want("0 active, 0 ready, 0 terminating, 0 succeeded, 2 failed FailureTarget=True(BackoffLimitExceeded) Failed=True(BackoffLimitExceeded)")
	}, fresh(1, 1, func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(1)) }))
}

func TestPodsOfAJobThatFailsAreStoppedAndCounted(t *testing.T) {
	run(t, func(w world) {
		time.Sleep(61 * time.Second)
		w.want("0 active, 0 ready, 0 terminating, 0 succeeded, 2 failed FailureTarget=True(DeadlineExceeded) Failed=True(DeadlineExceeded)")
		if n := len(w.pods()); n != 0 {
			t.Errorf("%d pods are left", n)
		}
	}, fresh(2, 2, func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = new(int64(60)) }))
}

func TestSuspendAndResume(t *testing.T) {
	run(t, func(w world) {
		change := func(suspend bool) {
			j := w.job().DeepCopy()
			j.Spec.Suspend = &suspend
			j.Generation++
			w.Put(j)
			synctest.Wait()
		}
		w.want("0 active, 0 ready, 0 terminating, 0 succeeded, 0 failed Suspended=True(JobSuspended)")
		if w.job().Status.StartTime != nil || len(w.pods()) > 0 {
			t.Error("a suspended job has started")
		}
		change(false)
		w.want("2 active, 0 ready, 0 terminating, 0 succeeded, 0 failed Suspended=False(JobResumed)")
		change(true)
		w.want("0 active, 0 ready, 0 terminating, 0 succeeded, 0 failed Suspended=True(JobSuspended)")
		if n := len(w.pods()); n != 0 {
			t.Errorf("%d pods are left", n)
		}
	}, fresh(2, 2, func(j *batchv1.Job) { j.Spec.Suspend = new(true) }))
}

func TestIndexes(t *testing.T) {
	run(t, func(w world) {
		all := w.active()
		var hosts []string
		for _, p := range all {
			hosts = append(hosts, p.Spec.Hostname)
			if e := p.Spec.Containers[0].Env; len(e) != 1 || e[0].Name != "JOB_COMPLETION_INDEX" || p.Annotations[batchv1.JobIndexFailureCountAnnotation] != "0" {
				t.Errorf("%s: env %v, annotations %v", p.Name, e, p.Annotations)
			}
		}
		slices.Sort(hosts)
		if !slices.Equal(hosts, []string{"pi-0", "pi-1", "pi-2"}) {
			t.Errorf("hosts %v", hosts)
		}
		for _, p := range all {
			switch p.Spec.Hostname {
			case "pi-0":
				w.end(p, corev1.PodFailed, 1)
			default:
				w.end(p, corev1.PodSucceeded, 0)
			}
		}
		if s := w.job().Status; s.CompletedIndexes != "1,2" || *s.FailedIndexes != "" || s.Failed != 0 {
			t.Errorf("status %+v: the failure is counted when there is another pod to remember it", s)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		last := w.active()
		if len(last) != 1 || last[0].Annotations[batchv1.JobIndexFailureCountAnnotation] != "1" {
			t.Fatalf("replaced by %+v", last)
		}
		w.end(last[0], corev1.PodFailed, 1)
		w.want("0 active, 0 ready, 0 terminating, 2 succeeded, 2 failed FailureTarget=True(FailedIndexes) Failed=True(FailedIndexes)")
		if s := w.job().Status; s.CompletedIndexes != "1,2" || *s.FailedIndexes != "0" {
			t.Errorf("status %+v", s)
		}
	}, fresh(3, 3, byIndex, func(j *batchv1.Job) { j.Spec.BackoffLimitPerIndex = new(int32(1)) }))
}

// A crash between any two writes counts nobody twice and nobody never.
func TestEveryPodIsCountedOnceWhateverFails(t *testing.T) {
	for n := range 12 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			run(t, func(w world) {
				all := w.active()
				var writes atomic.Int32
				crash := func(a clienttest.Action) error {
					if a.Verb != "get" && a.Verb != "list" && a.Verb != "watch" && a.Kind.Plural != "events" && int(writes.Add(1)) > n {
						return errors.New("the server is away")
					}
					return nil
				}
				w.Refuse(crash)
				w.end(all[0], corev1.PodSucceeded, 0)
				w.end(all[1], corev1.PodFailed, 1)
				w.end(all[2], corev1.PodSucceeded, 0)
				w.Refuse(nil)
				w.again()
				time.Sleep(20 * time.Minute) // until all back-offs are over
				synctest.Wait()
				for _, p := range w.active() {
					w.end(p, corev1.PodSucceeded, 0)
				}
				w.want("0 active, 0 ready, 0 terminating, 3 succeeded, 1 failed SuccessCriteriaMet=True(CompletionsReached) Complete=True(CompletionsReached)")
			}, fresh(3, 3))
		})
	}
}

func TestPodsWithoutAJobAreLetGo(t *testing.T) {
	run(t, func(w world) {
		p := w.active()[0]
		w.Drop(batch.Job(), "default", "pi")
		synctest.Wait()
		if p, err := client.Get[*corev1.Pod](w.Context(), w, p.Namespace, p.Name); err != nil || tracked(p) {
			t.Errorf("the pod is still held (%v)", err)
		}
		if len(w.pods()) != 1 {
			t.Error("and nobody has deleted it")
		}
	}, fresh(1, 1))
}

func TestAnOrphanIsAdoptedAndCounted(t *testing.T) {
	j := fresh(2, 2)
	orphan := pod("orphan", "ready", "counted")
	orphan.Labels = j.Spec.Selector.MatchLabels
	orphan.Spec = *j.Spec.Template.Spec.DeepCopy()
	run(t, func(w world) {
		p, err := client.Get[*corev1.Pod](w.Context(), w, "default", "orphan")
		if err != nil || !tracked(p) || !metav1.IsControlledBy(p, w.job()) {
			t.Fatalf("not adopted: %+v %v", p, err)
		}
		p = p.DeepCopy()
		p.Labels = nil
		w.Put(p)
		synctest.Wait()
		if p, err = client.Get[*corev1.Pod](w.Context(), w, "default", "orphan"); err != nil || tracked(p) || len(p.OwnerReferences) > 0 {
			t.Errorf("not let go: %+v %v", p, err)
		}
	}, j, orphan)
}

func TestAJobThatOthersManageIsLeftAlone(t *testing.T) {
	run(t, func(w world) {
		if len(w.pods()) > 0 || w.job().Status.StartTime != nil {
			t.Error("somebody else's job was run")
		}
	}, fresh(1, 1, func(j *batchv1.Job) { j.Spec.ManagedBy = new("acme.io/runner") }))
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	run(t, func(w world) {
		w.Forget()
		p := w.active()[0].DeepCopy()
		p.Annotations = map[string]string{"a": "b"}
		w.Put(p)
		synctest.Wait()
		for _, a := range w.Actions() {
			if a.Verb != "get" && a.Verb != "list" {
				t.Errorf("%s", a)
			}
		}
	}, fresh(2, 2))
}
