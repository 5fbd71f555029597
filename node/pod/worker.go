package pod

import (
	"context"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/node/resource"
)

// API is what a pod needs of the cluster.
type API interface {
	// Facts are the objects that the pod's environment names.
	Facts(ctx context.Context, pod *corev1.Pod) (*Facts, error)
	// PullSecrets are those of spec.imagePullSecrets that exist.
	PullSecrets(ctx context.Context, pod *corev1.Pod) []*corev1.Secret
	// RuntimeHandler is what the pod's RuntimeClass calls the runtime that it is
	// to have; empty without a class: the one that pods usually have.
	RuntimeHandler(ctx context.Context, pod *corev1.Pod) (string, error)
	// WriteStatus replaces the node's part of a status. It returns the pod as
	// it is then; a not-found error if it is gone or another of that name.
	WriteStatus(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) (*corev1.Pod, error)
	// Delete removes a pod that has ended. A pod that is gone is no error.
	Delete(ctx context.Context, pod *corev1.Pod) error
}

// Volumes makes and removes the volumes of pods.
type Volumes interface {
	// Mount makes or refreshes all volumes of a pod, and returns the directory (or
	// file) of each and when it wants to be called again, zero for never.
	Mount(ctx context.Context, pod *corev1.Pod) (dirs map[string]string, again time.Time, err error)
	// SubPath returns a path that is safe to mount for sub in the volume dir.
	SubPath(ctx context.Context, pod *corev1.Pod, m *corev1.VolumeMount, dir, sub string) (string, error)
	// Unmount removes all of a pod's volumes. It may be called again.
	Unmount(ctx context.Context, uid types.UID) error
}

// Cgroups makes the control groups that hold pods.
type Cgroups interface {
	Make(path string, l resource.Limits) error
	// Remove removes groups that may not exist.
	Remove(ctx context.Context, paths ...string) error
}

// Events tells people. cluster/client/event.Recorder is one.
type Events interface {
	EventAbout(ref corev1.ObjectReference, eventType, reason, format string, args ...any)
}

// Config is what all workers of a node share.
type Config struct {
	Runtime     Runtime
	RuntimeName string // the scheme of container IDs
	API         API
	Volumes     Volumes
	Events      Events
	Cgroups     Cgroups         // nil: the runtime makes them as it needs them
	Host        func() *Host    // read when a pod is started
	HostIPs     func() []string // of the node
	Dir         string          // a directory per pod UID in it
	Log         *slog.Logger

	// Admit refuses a pod that is new here; nil accepts.
	Admit func(ctx context.Context, pod *corev1.Pod) *Verdict
	// AdmitResize says whether a pod that runs here may have what it asks for
	// now; nil accepts.
	AdmitResize func(pod *corev1.Pod) *Verdict
}

// News says what a worker should look at again.
type News uint8

const (
	Runtimes News = 1 << iota // the runtime has something new
	Sources                   // an object that the pod refers to changed
)

// Worker keeps one pod. Make it with NewWorker; Run it once.
type Worker struct {
	c   *Config
	uid types.UID

	// Used by Run's goroutine only.
	seen     Observed
	boxes    []string // IDs of sandboxes that the runtime may have of the pod
	listed   bool     // boxes is all of them
	settled  map[string]*runtimeapi.ContainerStatus
	messages map[string]string // last words of exited containers, by ID
	known    Known
	probers  map[string]*prober // by container ID
	dirs     map[string]string  // of volumes
	failures int                // observations that failed in a row
	refused  int                // status writes that failed in a row
	retry    time.Time          // of these
	forced   bool               // that the API has it no more was noticed
	told     map[string]string  // last back-off told, by container
	jobs     map[string]*job
	report   *job                       // a status write under way
	sent     *corev1.PodStatus          // the last status written, …
	became   *corev1.PodStatus          // … and what the API made of it
	waiters  map[string][]chan struct{} // for the end of containers, by ID
	group    sync.WaitGroup

	signal chan struct{}

	mu      sync.Mutex // guards all below
	pod     *corev1.Pod
	gone    time.Time // since when the API has it no more
	news    News
	inbox   []func()
	written *corev1.PodStatus // what the API has, as far as known
	over    bool              // Run has ended
}

type job struct{ cancel context.CancelFunc }

// NewWorker returns a worker for pod. gone is true for containers whose pod
// the API has no more. sandboxes are all IDs that the runtime has of the pod; nil
// if that is not known, and it looks.
func NewWorker(c *Config, pod *corev1.Pod, gone bool, sandboxes []string) *Worker {
	w := &Worker{
		c: c, uid: pod.UID, pod: pod, news: Runtimes,
		settled: map[string]*runtimeapi.ContainerStatus{}, messages: map[string]string{},
		known:   Known{Containers: map[string]*ContainerKnown{}, Busy: map[string]Busy{}},
		probers: map[string]*prober{}, told: map[string]string{}, jobs: map[string]*job{}, waiters: map[string][]chan struct{}{},
		signal: make(chan struct{}, 1), written: &pod.Status, boxes: slices.Clone(sandboxes), listed: sandboxes != nil,
	}
	if gone {
		w.gone = time.Now()
	}
	w.wake()
	return w
}

// Update gives the worker a newer state of its pod.
func (w *Worker) Update(pod *corev1.Pod) {
	w.mu.Lock()
	if old := w.pod; !equality.Semantic.DeepEqual(old.Labels, pod.Labels) || !equality.Semantic.DeepEqual(old.Annotations, pod.Annotations) {
		w.news |= Sources
	}
	w.pod, w.written = pod, &pod.Status
	w.mu.Unlock()
	w.wake()
}

// Deleted tells the worker that the API has its pod no more; last is its
// last state.
func (w *Worker) Deleted(last *corev1.Pod) {
	w.mu.Lock()
	if w.gone.IsZero() {
		w.gone = time.Now()
	}
	w.pod = last
	w.mu.Unlock()
	w.wake()
}

// Wake makes the worker look at what changed.
func (w *Worker) Wake(n News) {
	w.mu.Lock()
	w.news |= n
	w.mu.Unlock()
	w.wake()
}

// Pod is the pod with the status that was last reported. It is shared.
func (w *Worker) Pod() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written == &w.pod.Status {
		return w.pod
	}
	pod := *w.pod
	pod.Status = *w.written
	return &pod
}

func (w *Worker) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// post runs fn in the worker's goroutine soon, in a turn that also looks at n.
func (w *Worker) post(n News, fn func()) {
	w.mu.Lock()
	w.inbox = append(w.inbox, fn)
	w.news |= n
	w.mu.Unlock()
	w.wake()
}

// Run keeps the pod until nothing is left of it, or ctx ends: then containers
// are left running. A panic is logged, and the worker goes on.
func (w *Worker) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.end()
	defer w.group.Wait()
	defer cancel()
	defer func() {
		for _, p := range w.probers {
			p.cancel()
		}
	}()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
		case <-timer.C:
		}
		again, over := w.turn(ctx, &first)
		if over {
			return
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(max(time.Until(again), time.Millisecond))
		}
	}
}

// turn looks, decides and begins what is to be done.
func (w *Worker) turn(ctx context.Context, first *bool) (again time.Time, over bool) {
	defer func() {
		if p := recover(); p != nil {
			w.c.Log.Error("panic", "key", w.key(), "panic", p, "stack", string(debug.Stack()))
			again = w.failed()
		}
	}()
	w.mu.Lock()
	pod, gone, news, inbox := w.pod, w.gone, w.news, w.inbox
	written := w.written
	w.news, w.inbox = 0, nil
	w.mu.Unlock()
	for _, fn := range inbox {
		fn()
	}
	if time.Now().Before(w.retry) && news&Runtimes != 0 {
		w.keepNews(news)
		return w.retry, false
	}
	if news&Runtimes != 0 {
		seen, err := w.look(ctx)
		if err != nil {
			w.c.Log.Warn("the runtime does not answer", "key", w.key(), "err", err)
			w.keepNews(news)
			return w.failed(), false
		}
		w.failures, w.retry = 0, time.Time{}
		w.take(seen)
	}
	if news&Sources != 0 {
		w.known.Refresh = true
		for _, k := range w.known.Containers {
			k.Trouble = retryNow(k.Trouble)
		}
		w.known.Failed = nil
	}
	if written != &pod.Status {
		latest := *pod
		latest.Status = *written
		pod = &latest
	}
	if *first {
		*first = false
		w.begin(ctx, pod, gone)
	}
	if !gone.IsZero() && !w.forced {
		// It may have been ending before; from now on nobody waits for the API.
		w.forced, w.known.Failed = true, nil
		if w.known.Stopping.IsZero() {
			w.known.Stopping = gone
		}
	}
	in := w.input(pod, !gone.IsZero())
	plan := Decide(in)
	if terminal(plan.Status.Phase) && w.known.Stopping.IsZero() {
		w.known.Stopping = in.Now // the end has begun: the same deadline from now on
	}
	w.probe(ctx, pod, plan.Over || in.Gone || pod.DeletionTimestamp != nil || terminal(plan.Status.Phase))
	w.tell(pod, &plan.Status)
	current := equality.Semantic.DeepEqual(*written, plan.Status) ||
		w.sent != nil && equality.Semantic.DeepEqual(*w.sent, plan.Status) && equality.Semantic.DeepEqual(*w.became, *written)
	if !current && !plan.Hold && !in.Gone && w.report == nil {
		w.write(ctx, pod, plan.Status)
	}
	if in.Gone && w.report != nil {
		w.report.cancel() // there is nobody to report to
	}
	for _, s := range plan.Steps {
		if s.Do == Delete && (!current || w.report != nil) {
			continue // the last status first; its write wakes us
		}
		w.do(ctx, pod, s)
	}
	if plan.Over && w.report != nil {
		return time.Time{}, false
	}
	return plan.Wake, plan.Over
}

func (w *Worker) input(pod *corev1.Pod, gone bool) Input {
	return Input{Pod: pod, Gone: gone, Seen: w.seen, Known: w.known, Runtime: w.c.RuntimeName,
		HostIPs: w.c.HostIPs(), Now: time.Now(), Message: w.message}
}

// look observes the pod.
func (w *Worker) look(ctx context.Context) (Observed, error) {
	if !w.listed {
		boxes, err := Sandboxes(ctx, w.c.Runtime, w.uid)
		if err != nil {
			return Observed{}, err
		}
		w.boxes, w.listed = boxes, true
	}
	seen, err := Observe(ctx, w.c.Runtime, w.boxes, w.settled)
	if err == nil {
		w.boxes = w.boxes[:0]
		for _, s := range seen.Sandboxes {
			w.boxes = append(w.boxes, s.Id)
		}
	}
	return seen, err
}

// begin settles what is asked once: whether the node accepts the pod. What
// runs here already was accepted.
func (w *Worker) begin(ctx context.Context, pod *corev1.Pod, gone time.Time) {
	fresh := len(w.seen.Sandboxes) == 0 && len(w.seen.Containers) == 0
	if !fresh || !gone.IsZero() || pod.DeletionTimestamp != nil || terminal(pod.Status.Phase) || w.c.Admit == nil {
		return
	}
	if v := w.c.Admit(ctx, pod); v != nil {
		w.event(pod, "", corev1.EventTypeWarning, v.Reason, "%s", v.Message)
		w.known.Rejected = &Verdict{Reason: v.Reason, Message: "Pod was rejected: " + v.Message}
	}
}

func (w *Worker) keepNews(n News) {
	w.mu.Lock()
	w.news |= n
	w.mu.Unlock()
}

// failed is when to try again after a failure that is not the pod's.
func (w *Worker) failed() time.Time {
	delay := min(100*time.Millisecond<<min(w.failures, 10), 30*time.Second)
	w.failures++
	w.retry = time.Now().Add(delay)
	return w.retry
}

func retryNow(t *Trouble) *Trouble {
	if t == nil || t.Reason == reasonPull {
		return t
	}
	now := *t
	now.Until = time.Time{}
	return &now
}

// take keeps a new observation, and forgets about containers that are gone.
func (w *Worker) take(seen Observed) {
	w.seen = seen
	w.release()
	ids := map[string]bool{}
	for _, c := range seen.Containers {
		ids[c.Id] = true
		if c.exited() {
			w.settled[c.Id] = c.ContainerStatus
		}
	}
	forgotten := func(id string) bool { return !ids[id] }
	maps.DeleteFunc(w.settled, func(id string, _ *runtimeapi.ContainerStatus) bool { return forgotten(id) })
	maps.DeleteFunc(w.messages, func(id string, _ string) bool { return forgotten(id) })
}

// write reports a status in the background, one write at a time.
func (w *Worker) write(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) {
	ctx, cancel := context.WithCancel(ctx)
	j := &job{cancel: cancel}
	w.report = j
	delay := min(time.Second<<min(w.refused, 5), 30*time.Second)
	w.group.Go(func() {
		defer cancel()
		now, err := w.c.API.WriteStatus(ctx, pod, *status.DeepCopy())
		if err != nil && ctx.Err() == nil {
			if !notFound(err) { // else the watch is about to say so
				w.c.Log.Warn("pod status not written", "key", w.key(), "err", err)
			}
			pauseFor(ctx, delay)
		}
		w.post(0, func() {
			w.report = nil
			if err != nil {
				w.refused++
				return
			}
			w.refused, w.sent, w.became = 0, &status, &now.Status
			w.mu.Lock()
			defer w.mu.Unlock()
			if newer(now, w.pod) {
				w.pod, w.written = now, &now.Status
			}
		})
	})
}

// pause waits before the end of a job that failed, so that it is not repeated
// at once.
func pause(ctx context.Context) { pauseFor(ctx, time.Second) }

func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// newer compares resource versions, which are numbers that grow.
func newer(a, b *corev1.Pod) bool {
	return len(a.ResourceVersion) > len(b.ResourceVersion) ||
		len(a.ResourceVersion) == len(b.ResourceVersion) && a.ResourceVersion > b.ResourceVersion
}

// do begins a step in the background.
func (w *Worker) do(ctx context.Context, pod *corev1.Pod, s Step) {
	if old := w.jobs[s.Target]; old != nil {
		old.cancel()
		if s.Do == Cancel {
			return // its end will wake us
		}
	}
	if s.Do == Cancel {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &job{cancel: cancel}
	w.jobs[s.Target] = j
	w.known.Busy[s.Target] = Busy{Do: s.Do, Deadline: s.Deadline}
	t := &task{Worker: w, ctx: ctx, pod: pod, Step: s, seen: w.seen, dirs: w.dirs, known: *w.of(s.Container)}
	w.group.Go(func() {
		defer cancel()
		done := t.run()
		// With the look at the runtime in one message: a turn between the two
		// would take what this step made for missing, and make it again.
		w.post(Runtimes, func() {
			if w.jobs[s.Target] != j {
				return // a faster one took its place
			}
			delete(w.jobs, s.Target)
			delete(w.known.Busy, s.Target)
			if done != nil {
				done()
			}
		})
	})
}

// of is what is known of a container, made if need be.
func (w *Worker) of(name string) *ContainerKnown {
	k := w.known.Containers[name]
	if k == nil {
		k = &ContainerKnown{}
		if name != "" {
			w.known.Containers[name] = k
		}
	}
	return k
}

func (w *Worker) key() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod.Namespace + "/" + w.pod.Name
}
