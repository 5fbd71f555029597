package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sampan/test/clients/crew"
)

// replica is one process of the operator. What ends by itself is started
// again, as a Deployment would: an operator ends when it loses its lease.
type replica struct {
	log  *lockedBuffer
	port int
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex // guards process
	process *os.Process
}

// lockedBuffer is what processes write into while the test reads it.
type lockedBuffer struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

var _ io.Writer = (*lockedBuffer)(nil)

// startReplica starts the operator on a port that is free.
func startReplica(h *host, kubeconfig string) *replica {
	h.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &replica{log: &lockedBuffer{}, port: l.Addr().(*net.TCPAddr).Port, stop: stop, done: make(chan struct{})}
	l.Close()
	go func() {
		defer close(r.done)
		for ctx.Err() == nil {
			c := exec.CommandContext(ctx, tool("operator"), "--kubeconfig", kubeconfig, "--webhook-port", fmt.Sprint(r.port))
			c.Stdout, c.Stderr = r.log, r.log
			if err := c.Start(); err != nil {
				fmt.Fprintln(r.log, err)
				return
			}
			r.mu.Lock()
			r.process = c.Process
			r.mu.Unlock()
			fmt.Fprintf(r.log, "ended: %v\n", c.Wait())
		}
	}()
	h.Cleanup(func() {
		r.end()
		if h.Failed() {
			lines := strings.Split(r.log.String(), "\n")
			h.Logf("operator at port %d:\n%s", r.port, strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	return r
}

// end kills the process without a word, as a power cut would.
func (r *replica) end() {
	r.stop()
	<-r.done
}

// pid is that of the process which runs now.
func (r *replica) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return 0
	}
	return r.process.Pid
}

// operators is a host with the operator's kind, and a kubeconfig for it.
func operators(t *testing.T) (*host, string) {
	t.Helper()
	h := newHost(t)
	h.createAll("testdata/operator.yaml")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "operator"}}
	hours := int64(24 * 3600)
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}
	if err := h.SubResource("token").Create(t.Context(), account, token); err != nil {
		t.Fatal(err)
	}
	admin, err := clientcmd.LoadFromFile(h.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	user := admin.AuthInfos[admin.Contexts[admin.CurrentContext].AuthInfo]
	user.ClientCertificateData, user.ClientKeyData, user.Token = nil, nil, token.Status.Token
	path := filepath.Join(h.dir, "operator.kubeconfig")
	if err := clientcmd.WriteToFile(*admin, path); err != nil {
		t.Fatal(err)
	}
	h.until("the kind is served", func() error { return h.List(t.Context(), &crew.CrewList{}) })
	return h, path
}

// leader waits until somebody other than not leads, and returns who.
func leader(h *host, not string) (holder string) {
	h.Helper()
	h.until("a leader", func() error {
		var lease coordinationv1.Lease
		if err := h.Get(h.Context(), client.ObjectKey{Namespace: "default", Name: "crews-operator"}, &lease); err != nil {
			return err
		}
		if id := lease.Spec.HolderIdentity; id == nil || *id == "" || *id == not {
			return fmt.Errorf("nobody but %q holds the lease", not)
		}
		holder = *lease.Spec.HolderIdentity
		return nil
	})
	return holder
}

func newCrew(name string, replicas int32, orders string) *crew.Crew {
	return &crew.Crew{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: crew.Spec{Replicas: replicas, Orders: orders}}
}

// hire creates a crew, when the operator's webhooks are there.
func (h *host) hire(c *crew.Crew) {
	h.Helper()
	h.until("hire "+c.Name, func() error {
		err := h.Create(h.Context(), c)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// complete waits until the operator says that a crew is complete.
func (h *host) complete(name string, replicas int32) *crew.Crew {
	h.Helper()
	c := &crew.Crew{}
	h.until(fmt.Sprintf("%s has %d", name, replicas), func() error {
		if err := h.Get(h.Context(), client.ObjectKey{Namespace: "default", Name: name}, c); err != nil {
			return err
		}
		if c.Status.Ready != replicas || c.Status.Generation != c.Generation || !meta.IsStatusConditionTrue(c.Status.Conditions, "Complete") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	return c
}

// change updates an object, again if somebody was faster.
func change[T client.Object](h *host, obj T, name string, how func(T)) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := h.Get(h.Context(), client.ObjectKey{Namespace: "default", Name: name}, obj); err != nil {
			return err
		}
		how(obj)
		return h.Update(h.Context(), obj)
	})
}

func TestAnOperatorKeepsWhatItsKindSays(t *testing.T) {
	h, kubeconfig := operators(t)
	startReplica(h, kubeconfig)

	h.hire(newCrew("red", 2, ""))
	red := h.complete("red", 2)
	if red.Spec.Image != "test/probe:1" || len(red.Finalizers) != 1 || red.Status.Selector != "crew=red" {
		t.Errorf("it is %+v", red)
	}
	d := get(h, &appsv1.Deployment{}, "red")
	if len(d.OwnerReferences) != 1 || d.OwnerReferences[0].UID != red.UID || d.ManagedFields[0].Manager != "crews-operator" ||
		d.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("the deployment is owned by %+v, its fields by %+v", d.OwnerReferences, d.ManagedFields)
	}
	h.until("the event", func() error {
		var all eventsv1.EventList
		err := h.List(t.Context(), &all, client.InNamespace("default"))
		for _, e := range all.Items {
			if e.Reason == "Hired" && e.Regarding.UID == red.UID && e.Note == "hired a crew of 2" && e.ReportingController == "crews" {
				return nil
			}
		}
		return fmt.Errorf("%d events, none of them the operator's (%w)", len(all.Items), errors.Join(err))
	})

	t.Run("through the scale subresource", func(t *testing.T) {
		scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
		if err := h.SubResource("scale").Update(t.Context(), newCrew("red", 0, ""), client.WithSubResourceBody(scale)); err != nil {
			t.Fatal(err)
		}
		if c := h.complete("red", 3); c.Spec.Replicas != 3 {
			t.Errorf("%+v", c.Spec)
		}
	})
	t.Run("in the other version", func(t *testing.T) {
		a := get(h, &crew.Alpha{}, "red")
		if a.Spec.Hands != 3 || a.Status.Ready != 3 {
			t.Errorf("it is %+v", a)
		}
		hands := func(n int32) error {
			return change(h, &crew.Alpha{}, "red", func(a *crew.Alpha) { a.Spec.Hands = n })
		}
		if err := hands(1); err != nil {
			t.Fatal(err)
		}
		h.complete("red", 1)
		if err := hands(6); err == nil || !strings.Contains(err.Error(), "a boat carries 5") {
			t.Errorf("six in the old version: %v", err)
		}
	})
	t.Run("reading orders", func(t *testing.T) {
		orders := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orders", Labels: map[string]string{"clients.test/orders": "true"}}}
		if err := h.Create(t.Context(), orders); err != nil {
			t.Fatal(err)
		}
		h.hire(newCrew("blue", 1, "orders"))
		read := func() {
			t.Helper()
			h.until("the orders are read", func() error {
				if c := get(h, &crew.Crew{}, "blue"); c.Status.Orders != orders.ResourceVersion || c.Status.Ready != 1 {
					return fmt.Errorf("%+v, want the version %s", c.Status, orders.ResourceVersion)
				}
				return nil
			})
		}
		read()
		orders.Data = map[string]string{"course": "west"}
		if err := h.Update(t.Context(), orders); err != nil {
			t.Fatal(err)
		}
		read()
	})
	t.Run("refusing what its webhooks refuse", func(t *testing.T) {
		err := h.Create(t.Context(), newCrew("big", 6, ""))
		if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) ||
			!strings.Contains(err.Error(), `admission webhook "validate.crews.clients.test" denied the request`) || !strings.Contains(err.Error(), "a boat carries 5") {
			t.Errorf("a crew of six: %v", err)
		}
		var warnings lockedBuffer
		config := rest.CopyConfig(h.config)
		config.WarningHandler = rest.NewWarningWriter(&warnings, rest.WarningWriterOptions{})
		c, err := client.New(config, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), newCrew("adrift", 0, ""), client.DryRunAll); err != nil || !strings.Contains(warnings.String(), "a crew without orders drifts") {
			t.Errorf("a dry run: %v, warnings %q", err, warnings.String())
		}
		atSea := func(note map[string]string) {
			if err := change(h, &crew.Crew{}, "red", func(c *crew.Crew) { c.Annotations = note }); err != nil {
				t.Fatal(err)
			}
		}
		atSea(map[string]string{"clients.test/at-sea": "true"})
		if err := h.Client.Delete(t.Context(), newCrew("red", 0, "")); err == nil || !strings.Contains(err.Error(), "the crew red is at sea") {
			t.Errorf("delete at sea: %v", err)
		}
		atSea(nil)
	})
	t.Run("until it is gone", func(t *testing.T) {
		if err := h.Client.Delete(t.Context(), newCrew("red", 0, "")); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []client.Object{&crew.Crew{}, &appsv1.Deployment{}} {
			h.until("it is gone", func() error {
				err := h.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "red"}, gone)
				if apierrors.IsNotFound(err) {
					return nil
				}
				return fmt.Errorf("get %T: %v", gone, err)
			})
		}
		get(h, &corev1.ConfigMap{}, "red-farewell") // what its finalizer was for
	})
}

func TestAnotherReplicaTakesOver(t *testing.T) {
	h, kubeconfig := operators(t)
	first := startReplica(h, kubeconfig)
	leader(h, "")
	second := startReplica(h, kubeconfig)
	h.hire(newCrew("one", 1, ""))
	h.complete("one", 1)

	was := leader(h, "")
	first.end()
	err := h.Create(t.Context(), newCrew("refused", 1, ""), client.DryRunAll)
	if still := leader(h, ""); still == was && !apierrors.IsInternalError(err) {
		t.Errorf("a crew while nobody is asked: %v", err)
	}
	leader(h, was)
	h.hire(newCrew("two", 1, ""))
	h.complete("two", 1)

	// The API goes away and comes back: watches and the lease go on.
	now, pid := leader(h, ""), second.pid()
	h.sampan("down")
	h.up()
	h.hire(newCrew("three", 1, ""))
	h.complete("three", 1)
	if holder := leader(h, ""); second.pid() == pid && holder != now {
		t.Errorf("%s leads, before it was %s", holder, now)
	} else if second.pid() != pid {
		t.Logf("the operator lost its lease meanwhile, and was started again")
	}
	var pods corev1.PodList
	if err := h.List(t.Context(), &pods, client.InNamespace("default")); err != nil || len(pods.Items) != 3 {
		t.Errorf("%d pods, %v; want one of each crew", len(pods.Items), err)
	}
}
