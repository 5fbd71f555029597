package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"sampan/cluster/client"
	"sampan/cluster/controller/daemonset"
	"sampan/cluster/controller/deployment"
	"sampan/cluster/controller/replicaset"
	"sampan/cluster/controller/replication"
	"sampan/cluster/controller/statefulset"
	"sampan/cluster/kind"
	"sampan/cluster/scheduler"
	"sampan/internal/fault"
)

// whyPath is where the API answers administrators why an object is as it is.
const whyPath = "/debug/why"

// why asks the deciders about an object: the same functions on the same cache
// that they decide with, so that what is said can't drift from what is done.
func (r *running) why(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	lines, err := r.reasons(req.Context(), q.Get("kind"), q.Get("namespace"), q.Get("name"))
	if err != nil {
		class := fault.ClassOf(err)
		http.Error(w, err.Error(), class.HTTP())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(lines) // a reader that has gone needs no answer
}

func (r *running) reasons(ctx context.Context, word, namespace, name string) ([]string, error) {
	k := r.kindNamed(word)
	if k == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "ask why", On: word, Err: errors.New("no kind has that name"), Fix: "see sampan kubectl api-resources"}
	}
	obj, err := r.reader.Get(ctx, k, namespaceOf(k, namespace), name)
	if err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "ask why", On: word + " " + name, Err: err}
	}
	var lines []string
	switch obj := obj.(type) {
	case *corev1.Pod:
		lines, err = r.whyPod(ctx, obj)
	case *appsv1.ReplicaSet:
		lines, err = r.whyReplicaSet(ctx, obj)
	case *corev1.ReplicationController:
		lines, err = r.whyReplicaSet(ctx, replication.Set(obj))
	case *appsv1.Deployment:
		lines, err = r.whyDeployment(ctx, obj)
	case *appsv1.DaemonSet, *appsv1.StatefulSet:
		lines, err = r.whyWithHistory(ctx, obj)
	default:
		return nil, &fault.Error{Class: fault.Invalid, Op: "ask why", On: k.String(), Err: errors.New("nobody decides about this kind"),
			Fix: "ask about a pod, or about what makes pods: a deployment, replicaset, daemonset, statefulset or replicationcontroller"}
	}
	if err == nil && len(lines) == 0 {
		lines = []string{"it is as wanted"}
	}
	return lines, err
}

func (r *running) kindNamed(word string) *kind.Kind {
	word = strings.ToLower(word)
	for _, k := range r.kinds.All() {
		for _, name := range append([]string{k.Plural, k.Singular, k.String()}, k.Short...) {
			if name == word {
				return k
			}
		}
	}
	return nil
}

func namespaceOf(k *kind.Kind, namespace string) string {
	if k.Cluster {
		return ""
	}
	return namespace
}

func (r *running) whyPod(ctx context.Context, p *corev1.Pod) ([]string, error) {
	if p.Spec.NodeName != "" && r.agent != nil {
		return r.agent.Explain(ctx, p.UID), nil
	}
	nodes, err := client.List[*corev1.Node](ctx, r.reader, client.Query{})
	if err != nil {
		return nil, err
	}
	pods, err := client.List[*corev1.Pod](ctx, r.reader, client.Query{})
	if err != nil {
		return nil, err
	}
	spaces, err := client.List[*corev1.Namespace](ctx, r.reader, client.Query{})
	if err != nil {
		return nil, err
	}
	asking := scheduler.NewPod(p)
	if asking.Volumes, err = scheduler.ReadVolumes(ctx, r.reader, p); err != nil {
		return nil, err
	}
	return append([]string{"it has no node yet"}, scheduler.Explain(asking, nodes, pods, spaces)...), nil
}

func (r *running) whyReplicaSet(ctx context.Context, rs *appsv1.ReplicaSet) ([]string, error) {
	pods, err := r.ownedPods(ctx, rs.UID)
	if err != nil {
		return nil, err
	}
	return r.withPods(ctx, replicaset.Explain(rs, pods, time.Now()), pods)
}

// whyWithHistory is about a daemon set or a stateful set.
func (r *running) whyWithHistory(ctx context.Context, obj kind.Object) ([]string, error) {
	pods, err := r.ownedPods(ctx, obj.GetUID())
	if err != nil {
		return nil, err
	}
	revisions, err := client.List[*appsv1.ControllerRevision](ctx, r.reader, client.Query{Index: kind.OwnerIndex, Value: string(obj.GetUID())})
	if err != nil {
		return nil, err
	}
	if set, ok := obj.(*appsv1.StatefulSet); ok {
		return r.withPods(ctx, statefulset.Explain(set, pods, revisions, time.Now()), pods)
	}
	nodes, err := client.List[*corev1.Node](ctx, r.reader, client.Query{})
	if err != nil {
		return nil, err
	}
	return r.withPods(ctx, daemonset.Explain(obj.(*appsv1.DaemonSet), nodes, pods, revisions, time.Now()), pods)
}

// withPods adds to lines why pods are not ready.
func (r *running) withPods(ctx context.Context, lines []string, pods []*corev1.Pod) ([]string, error) {
	for _, p := range pods {
		if p.Status.Phase == corev1.PodRunning && ready(p) {
			continue
		}
		more, err := r.whyPod(ctx, p)
		if err != nil {
			return nil, err
		}
		lines = append(lines, indented("pod "+p.Name, more)...)
	}
	return lines, nil
}

func (r *running) whyDeployment(ctx context.Context, d *appsv1.Deployment) ([]string, error) {
	sets, err := client.List[*appsv1.ReplicaSet](ctx, r.reader, client.Query{Index: kind.OwnerIndex, Value: string(d.UID)})
	if err != nil {
		return nil, err
	}
	running := map[types.UID]int{}
	for _, rs := range sets {
		pods, err := r.ownedPods(ctx, rs.UID)
		if err != nil {
			return nil, err
		}
		for _, p := range pods {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				running[rs.UID]++
			}
		}
	}
	lines := deployment.Explain(d, sets, running, time.Now())
	for _, rs := range sets {
		if rs.Spec.Replicas != nil && *rs.Spec.Replicas == 0 || rs.Status.ReadyReplicas == rs.Status.Replicas && rs.Status.Replicas > 0 {
			continue
		}
		more, err := r.whyReplicaSet(ctx, rs)
		if err != nil {
			return nil, err
		}
		lines = append(lines, indented("replica set "+rs.Name, more)...)
	}
	return lines, nil
}

func (r *running) ownedPods(ctx context.Context, owner types.UID) ([]*corev1.Pod, error) {
	return client.List[*corev1.Pod](ctx, r.reader, client.Query{Index: kind.OwnerIndex, Value: string(owner)})
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func indented(title string, lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	all := []string{title + ":"}
	for _, l := range lines {
		all = append(all, "  "+l)
	}
	return all
}

// Why asks the running program that left r why an object is as it is, as the
// administrator.
func Why(ctx context.Context, r Record, kind, namespace, name string) ([]string, error) {
	failed := func(err error, fix string) error {
		return &fault.Error{Op: "ask why", On: kind + " " + name, Err: err, Fix: fix}
	}
	c, err := adminClient(r.Kubeconfig)
	if err != nil {
		return nil, failed(err, "run as the user who may read "+r.Kubeconfig)
	}
	u := r.Server + whyPath + "?" + url.Values{"kind": {kind}, "namespace": {namespace}, "name": {name}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, failed(err, "")
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, failed(err, "see whether it runs: sampan status")
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, failed(err, "")
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	var lines []string
	if err := json.Unmarshal(body, &lines); err != nil {
		return nil, failed(err, "")
	}
	return lines, nil
}

// adminClient is a client with the certificates of a kubeconfig that this
// program wrote.
func adminClient(path string) (*http.Client, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var k struct {
		Clusters []struct {
			Cluster struct {
				CA []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
	}
	if err := yaml.Unmarshal(data, &k); err != nil {
		return nil, err
	}
	if len(k.Clusters) != 1 || len(k.Users) != 1 {
		return nil, fmt.Errorf("%s has %d clusters and %d users, want one of each", path, len(k.Clusters), len(k.Users))
	}
	pair, err := tls.X509KeyPair(k.Users[0].User.Cert, k.Users[0].User.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.Clusters[0].Cluster.CA)
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}}, nil
}
