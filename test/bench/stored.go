package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

const (
	storedPods    = 10_000
	storedChanges = 5_000 // of the status of so many of them
	storedRest    = 5 * time.Second
)

// keeper is an API server with its store and nothing else: no controllers, no
// node.
type keeper struct {
	side
	start func(context.Context) error // on the state that is there; it sets pids
	stop  func(context.Context) error
}

// stock is a row for each figure, of both servers.
type stock struct{ rows }

// stored measures what pods cost where they are kept: memory, as they were
// written, after changes and after a start, and how long that start takes.
func stored(ctx context.Context, b *bench) (err error) {
	p := b.platform()
	defer func() { err = errors.Join(err, p.reset()) }()
	us := &keeper{side: side{who: ours, kubeconfig: p.kubeconfig(), ours: p}}
	us.start = func(ctx context.Context) error {
		if err := p.up(ctx, "--api-only"); err != nil {
			return err
		}
		s, err := p.status(ctx)
		us.pids = []int{s.PID}
		return err
	}
	us.stop = func(ctx context.Context) error {
		_, err := p.call(ctx, "down")
		return err
	}
	u, err := b.newUpstream()
	if err != nil {
		return err
	}
	defer u.close()
	them := &keeper{side: side{who: "upstream", kubeconfig: u.kubeconfig()}}
	them.start = func(ctx context.Context) error {
		err := u.serve(ctx)
		them.pids = u.pids()
		return err
	}
	them.stop = func(context.Context) error {
		u.close()
		return nil
	}
	all := stock{b.rows("")}
	for _, k := range []*keeper{us, them} {
		if err := all.keep(ctx, k); err != nil {
			if k == us {
				return err
			}
			b.row("upstream's API server", "", lessIsBetter).fail(k.who, err)
		}
	}
	return nil
}

// keep has one server do it all, and stops it.
func (b stock) keep(ctx context.Context, k *keeper) error {
	empty := b.of("API server with its store, no pods: memory, RSS", "MB", lessIsBetter)
	emptyAnonymous := b.of("API server with its store, no pods: memory, in no file", "MB", lessIsBetter)
	if err := k.start(ctx); err != nil {
		return err
	}
	if err := k.prepare(ctx); err != nil {
		return err
	}
	if err := pause(ctx, settle+storedRest); err != nil {
		return err
	}
	none := b.now(ctx, k)
	empty.add(k.who, none.rss/megabyte, -1)
	emptyAnonymous.add(k.who, none.anonymous/megabyte, -1)

	wall, cpu, err := k.spread(asProtobuf, storedPods, func(c *kubernetes.Clientset, i int) error { return runPod(ctx, c, i) })
	if err != nil {
		return err
	}
	b.of("pods created, bound and running", "/s", moreIsBetter).add(k.who, storedPods/wall.Seconds(), milliseconds(cpu))
	if err := b.grown(ctx, k, none, "as written"); err != nil {
		return err
	}
	_, _, err = k.spread(asProtobuf, storedChanges, func(c *kubernetes.Clientset, i int) error {
		return setStatus(ctx, c, i, corev1.ConditionFalse)
	})
	if err == nil {
		err = b.grown(ctx, k, none, fmt.Sprintf("after %d changes of status", storedChanges))
	}
	if err == nil {
		err = k.stop(ctx)
	}
	if err != nil {
		return err
	}
	r := b.of(fmt.Sprintf("start on %d pods, until the API answers", storedPods), "s", lessIsBetter).goal(0.5)
	for range 3 {
		before, began := spent(), time.Now()
		if err := k.start(ctx); err != nil {
			return err
		}
		r.add(k.who, time.Since(began).Seconds(), milliseconds(spent()-before))
		if len(r.figure(k.who).values) < 3 {
			if err := k.stop(ctx); err != nil {
				return err
			}
		}
	}
	if err := k.connect(ctx); err != nil {
		return err
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if err := b.grown(ctx, k, none, "after a start"); err != nil {
		return err
	}
	return k.stop(ctx)
}

// held is what a server and its store have in memory, in bytes.
type held struct{ rss, anonymous, heap float64 }

func (b stock) now(ctx context.Context, k *keeper) (h held) {
	h = held{rss: memoryOf(k.pids).rss, anonymous: anonymousOf(k.pids)}
	if k.clients != nil {
		h.heap, _ = heapOf(ctx, k.clients[asJSON][0])
	}
	return h
}

// grown measures what each pod has added.
func (b stock) grown(ctx context.Context, k *keeper, none held, when string) error {
	if err := pause(ctx, storedRest); err != nil {
		return err
	}
	now := b.now(ctx, k)
	const each = 1e3 * storedPods
	b.of("memory for each pod "+when+", RSS", "kB", lessIsBetter).add(k.who, (now.rss-none.rss)/each, -1)
	b.of("memory for each pod "+when+", in no file", "kB", lessIsBetter).add(k.who, (now.anonymous-none.anonymous)/each, -1)
	r := b.of("memory for each pod "+when+", live in the API server's heap", "kB", lessIsBetter)
	if now.heap == 0 || none.heap == 0 {
		r.fail(k.who, errors.New("it shows no heap"))
	} else {
		r.add(k.who, (now.heap-none.heap)/each, -1)
	}
	return nil
}

// heapOf is what a server's heap has after a collection.
func heapOf(ctx context.Context, c *kubernetes.Clientset) (float64, error) {
	body, err := c.CoreV1().RESTClient().Get().RequestURI("/debug/pprof/heap?gc=1&debug=1").Stream(ctx)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\n# HeapAlloc = ")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(line, 64)
}

// prepare makes what pods need, which a controller would.
func (k *keeper) prepare(ctx context.Context) error {
	c, err := clientOf(k.kubeconfig, asJSON, &k.side)
	if err != nil {
		return err
	}
	_, err = c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = c.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return k.connect(ctx)
}

func podName(i int) string { return fmt.Sprintf("web-5d4b7f9c6-%05x", i*7919%1048576) }

// runPod does what a ReplicaSet's controller, the scheduler and a kubelet do to
// a pod until it runs.
func runPod(ctx context.Context, c *kubernetes.Clientset, i int) error {
	pods, yes := c.CoreV1().Pods("default"), true
	amount := corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")}
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: podName(i), GenerateName: "web-5d4b7f9c6-", Labels: map[string]string{"app": "web", "pod-template-hash": "5d4b7f9c6"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4b7f9c6",
				UID: "0f9a3c5e-6b3b-4a5e-9d8e-000000000000", Controller: &yes, BlockOwnerDeletion: &yes}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "registry.example.org/shop/web:1.27.3",
			Env:       []corev1.EnvVar{{Name: "MODE", Value: "production"}, {Name: "LOG", Value: "info"}},
			Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			Resources: corev1.ResourceRequirements{Requests: amount, Limits: amount},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/healthz", Port: intstr.FromString("http")}}},
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}},
	}, metav1.CreateOptions{FieldManager: "kube-controller-manager"})
	if err != nil {
		return err
	}
	err = pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: podName(i)},
		Target: corev1.ObjectReference{Kind: "Node", Name: fmt.Sprintf("node-%d", i%100)}}, metav1.CreateOptions{FieldManager: "kube-scheduler"})
	if err != nil {
		return err
	}
	return setStatus(ctx, c, i, corev1.ConditionTrue)
}

// setStatus says what a kubelet says of a pod that runs and is ready or not.
func setStatus(ctx context.Context, c *kubernetes.Clientset, i int, ready corev1.ConditionStatus) error {
	pods, yes := c.CoreV1().Pods("default"), true
	p, err := pods.Get(ctx, podName(i), metav1.GetOptions{})
	if err != nil {
		return err
	}
	now := metav1.Now()
	ip, host := fmt.Sprintf("10.42.%d.%d", i/250, i%250+1), fmt.Sprintf("192.168.0.%d", i%100+1)
	conditions := []corev1.PodCondition{}
	for _, t := range []corev1.PodConditionType{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		one := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now, ObservedGeneration: 1}
		if t == "Ready" || t == "ContainersReady" {
			one.Status = ready
		}
		conditions = append(conditions, one)
	}
	of := p.Spec.Containers[0]
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: p.Status.QOSClass, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: host, HostIPs: []corev1.HostIP{{IP: host}},
		StartTime: &p.CreationTimestamp, ObservedGeneration: 1, Conditions: conditions,
		ContainerStatuses: []corev1.ContainerStatus{{Name: of.Name, Image: of.Image, Ready: ready == corev1.ConditionTrue, Started: &yes,
			ImageID:     "registry.example.org/shop/web@sha256:4c1c50d0ffc614f90b93b07d778028dc765548e823f676fb027f61d281ac380d",
			ContainerID: fmt.Sprintf("containerd://%064x", i), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			AllocatedResources: of.Resources.Requests, Resources: &corev1.ResourceRequirements{Requests: of.Resources.Requests, Limits: of.Resources.Limits}}}}
	_, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{FieldManager: "kubelet"})
	return err
}
