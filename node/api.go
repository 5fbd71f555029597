package node

import (
	"context"
	"encoding/json"
	"errors"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"sampan/cluster/client"
	"sampan/internal/fault"
	"sampan/node/downward"
	"sampan/node/pod"
)

// api is the Agent as its pods' workers see it.
type api Agent

// facts are what every pod of the node may learn of it.
func (a *Agent) facts() downward.Facts {
	f := downward.Facts{NodeName: a.c.NodeName, HostIPs: a.hostIPs()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node != nil {
		f.Allocatable = a.node.Status.Allocatable
	}
	return f
}

// hostIPs is the first internal address of each family.
func (a *Agent) hostIPs() []string {
	var ips []string
	four, six := false, false
	for _, addr := range a.c.Addresses {
		if addr.Type != corev1.NodeInternalIP {
			continue
		}
		seen := &four
		for _, c := range addr.Address {
			if c == ':' {
				seen = &six
			}
		}
		if !*seen {
			*seen = true
			ips = append(ips, addr.Address)
		}
	}
	return ips
}

func (x *api) Facts(ctx context.Context, p *corev1.Pod) (*pod.Facts, error) {
	a := (*Agent)(x)
	f := &pod.Facts{Facts: a.facts(), ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: map[string]*corev1.Secret{}}
	maps, secrets := pod.EnvSources(p)
	for _, name := range maps {
		m, err := client.Get[*corev1.ConfigMap](ctx, a.c.Client, p.Namespace, name)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			f.ConfigMaps[name] = m
		}
	}
	for _, name := range secrets {
		s, err := client.Get[*corev1.Secret](ctx, a.c.Client, p.Namespace, name)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			f.Secrets[name] = s
		}
	}
	if p.Spec.EnableServiceLinks == nil || *p.Spec.EnableServiceLinks {
		services, err := client.List[*corev1.Service](ctx, a.c.Client, client.Query{Namespace: p.Namespace})
		if err != nil {
			return nil, err
		}
		f.Services = services
	}
	if p.Namespace != metav1.NamespaceDefault || len(f.Services) == 0 {
		s, err := client.Get[*corev1.Service](ctx, a.c.Client, metav1.NamespaceDefault, "kubernetes")
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			f.Services = append(f.Services[:len(f.Services):len(f.Services)], s)
		}
	}
	return f, nil
}

func (x *api) PullSecrets(ctx context.Context, p *corev1.Pod) []*corev1.Secret {
	var all []*corev1.Secret
	for _, ref := range p.Spec.ImagePullSecrets {
		s, err := client.Get[*corev1.Secret](ctx, x.c.Client, p.Namespace, ref.Name)
		if err != nil {
			x.c.Log.Warn("image pull secret not read", "key", p.Namespace+"/"+p.Name, "secret", ref.Name, "err", err)
			continue
		}
		all = append(all, s)
	}
	return all
}

// RuntimeHandler reads the class anew for each sandbox, as classes do not change
// what they call for.
func (x *api) RuntimeHandler(ctx context.Context, p *corev1.Pod) (string, error) {
	if p.Spec.RuntimeClassName == nil || *p.Spec.RuntimeClassName == "" {
		return "", nil
	}
	class, err := client.Get[*nodev1.RuntimeClass](ctx, x.c.Client, "", *p.Spec.RuntimeClassName)
	if err != nil {
		return "", err
	}
	return class.Handler, nil
}

// WriteStatus sends what changed as a patch bound to the pod's UID, so that
// conditions of others survive, and a new pod of the same name is not hit.
func (x *api) WriteStatus(ctx context.Context, p *corev1.Pod, status corev1.PodStatus) (*corev1.Pod, error) {
	was, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: p.UID}, Status: p.Status})
	if err != nil {
		return nil, err
	}
	now, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: p.UID}, Status: status})
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(was, now, corev1.Pod{})
	if err != nil {
		return nil, &fault.Error{Op: "compare status of pod", On: p.Namespace + "/" + p.Name, Err: err}
	}
	if patch, err = bind(patch, p.UID); err != nil {
		return nil, err
	}
	obj, err := x.c.Client.Patch(ctx, client.KindOf[*corev1.Pod](x.c.Client), client.Patch{
		Namespace: p.Namespace, Name: p.Name, Sub: "status", Type: types.StrategicMergePatchType, Data: patch})
	if apierrors.IsConflict(err) {
		// Another pod has the name now: for ours that is the same as being gone.
		if live, gerr := client.Get[*corev1.Pod](ctx, x.c.Client, p.Namespace, p.Name); gerr == nil && live.UID != p.UID {
			return nil, apierrors.NewNotFound(corev1.Resource("pods"), p.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}

// bind adds the UID that the object must have.
func bind(patch []byte, uid types.UID) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(patch, &doc); err != nil {
		return nil, err
	}
	meta, _ := doc["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["uid"] = string(uid)
	doc["metadata"] = meta
	return json.Marshal(doc)
}

func (x *api) Delete(ctx context.Context, p *corev1.Pod) error {
	var zero int64
	err := client.Delete[*corev1.Pod](ctx, x.c.Client, p.Namespace, p.Name, &metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another pod of that name
	}
	return err
}

// admitPod says why this node cannot take p. The pods that count are those
// whose workers have taken them, and that have not ended. The node is read
// anew: p may be here because of a label that somebody has just given it.
func (a *Agent) admitPod(ctx context.Context, p *corev1.Pod) *pod.Verdict {
	live, err := client.Get[*corev1.Node](ctx, a.c.Client, "", a.c.NodeName)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		live = a.node // as it was last written; nil before that
	}
	if live == nil {
		return nil
	}
	v := pod.Admit(p, live, a.othersLocked(p))
	if v == nil {
		a.admitted[p.UID] = true
	}
	return v
}

// admitResize says why this node cannot give p what it asks for now.
func (a *Agent) admitResize(p *corev1.Pod) *pod.Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		return nil
	}
	return pod.AdmitResize(p, a.node, a.othersLocked(p))
}

// othersLocked are the pods beside p that have a share of the node.
func (a *Agent) othersLocked(p *corev1.Pod) (others []*corev1.Pod) {
	for uid := range a.admitted {
		w := a.workers[uid]
		if w == nil || uid == p.UID {
			continue
		}
		if o := w.Pod(); o.Status.Phase != corev1.PodSucceeded && o.Status.Phase != corev1.PodFailed {
			others = append(others, o)
		}
	}
	return others
}

// lookup is the Agent as the kubelet API sees it.
type lookup Agent

func (l *lookup) Pods() []*corev1.Pod {
	a := (*Agent)(l)
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*corev1.Pod
	for _, w := range a.workers {
		all = append(all, w.Pod())
	}
	return all
}

func (l *lookup) Pod(namespace, name string, uid types.UID) (*corev1.Pod, error) {
	a := (*Agent)(l)
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[a.names[namespace+"/"+name]]; w != nil {
		if p := w.Pod(); uid == "" || p.UID == uid {
			return p, nil
		}
	}
	return nil, &fault.Error{Class: fault.NotFound, Op: "find pod", On: namespace + "/" + name,
		Err: errors.New("it is not on this node"), Fix: "see its node with: kubectl get pod -o wide"}
}

func (l *lookup) Ended(ctx context.Context, uid types.UID, containerID string) <-chan struct{} {
	a := (*Agent)(l)
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return w.Ended(ctx, containerID)
}

func (l *lookup) Explain(ctx context.Context, uid types.UID) []string {
	a := (*Agent)(l)
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.Explain(ctx)
}
