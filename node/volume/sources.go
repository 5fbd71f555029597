package volume

import (
	"context"
	"sync"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
)

// sort is a kind of object that pods name.
type sort uint8

const (
	configMaps sort = iota
	secrets
	trustBundles       // all of them: pods select them
	podCertificateAsks // all of this node's: the name is the node's
)

// source is one object.
type source struct {
	sort            sort
	namespace, name string
}

// sources knows which pods name which objects, and follows these while some
// pod names them: each alone, or all of a kind with one watch (see Config.Alone).
type sources struct {
	c Config

	mu      sync.Mutex // guards all below
	users   map[source]map[types.UID]bool
	of      map[types.UID][]source
	seen    map[source]string             // resourceVersion that was last read; empty: there was none
	stop    map[source]context.CancelFunc // of watches; of one over a kind, namespace and name are empty
	ctx     context.Context               // nil while not running
	follows sync.WaitGroup
}

func (s *sources) init(c Config) {
	s.c = c
	s.stop = map[source]context.CancelFunc{}
	s.users, s.of, s.seen = map[source]map[types.UID]bool{}, map[types.UID][]source{}, map[source]string{}
}

// run lets watches run until ctx ends.
func (s *sources) run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for ref := range s.users {
		s.settleLocked(ref)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil
	for _, stop := range s.stop {
		stop()
	}
	clear(s.stop)
	s.mu.Unlock()
	s.follows.Wait()
	return nil
}

// use notes what a pod names.
func (s *sources) use(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.of[pod.UID]; ok {
		return // volumes and environments of a pod never change
	}
	refs := named(pod)
	s.of[pod.UID] = refs
	for _, ref := range refs {
		if s.users[ref] == nil {
			s.users[ref] = map[types.UID]bool{}
		}
		s.users[ref][pod.UID] = true
		s.settleLocked(ref)
	}
}

// leave forgets a pod.
func (s *sources) leave(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range s.of[uid] {
		delete(s.users[ref], uid)
		if len(s.users[ref]) == 0 {
			delete(s.users, ref)
			delete(s.seen, ref)
		}
		s.settleLocked(ref)
	}
	delete(s.of, uid)
}

// saw notes which state of an object was read, so that the watch does not
// report it as news.
func (s *sources) saw(kind sort, namespace, name, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := source{kind, namespace, name}
	if s.users[ref] != nil {
		s.seen[ref] = version
	}
}

// settleLocked begins or ends the watch that ref is seen by.
func (s *sources) settleLocked(ref source) {
	wanted := s.users[ref] != nil
	if !s.c.Alone && ref.sort <= secrets {
		ref = source{sort: ref.sort}
		for other := range s.users {
			wanted = wanted || other.sort == ref.sort
		}
	}
	stop, runs := s.stop[ref]
	switch {
	case wanted && !runs && s.ctx != nil:
		ctx, cancel := context.WithCancel(s.ctx)
		s.stop[ref] = cancel
		s.follows.Go(func() {
			defer cancel()
			var err error
			switch ref.sort {
			case configMaps:
				err = follow[*corev1.ConfigMap](ctx, s, ref)
			case secrets:
				err = follow[*corev1.Secret](ctx, s, ref)
			case trustBundles:
				err = client.Follow(ctx, s.c.Client, client.Query{}, func(client.Change[*certificatesv1.ClusterTrustBundle]) { s.news(ref, "") })
			case podCertificateAsks:
				err = client.Follow(ctx, s.c.Client, podRequests(ref.name), func(c client.Change[*certificatesv1.PodCertificateRequest]) {
					if c.Type != client.Synced {
						s.c.Changed(c.Object.Spec.PodUID)
					}
				})
			}
			if err != nil && ctx.Err() == nil {
				s.c.Log.Error("volume sources not followed", "err", err)
			}
		})
	case !wanted && runs:
		stop()
		delete(s.stop, ref)
	}
}

func follow[T client.Typed](ctx context.Context, s *sources, of source) error {
	return client.Follow(ctx, s.c.Client, client.Query{Namespace: of.namespace, Name: of.name}, func(c client.Change[T]) {
		if c.Type == client.Synced {
			return
		}
		ref := source{of.sort, c.Object.GetNamespace(), c.Object.GetName()}
		if c.Type == client.Deleted {
			s.news(ref, "")
		} else {
			s.news(ref, c.Object.GetResourceVersion())
		}
	})
}

// news tells the pods that name an object of its new state.
func (s *sources) news(ref source, version string) {
	s.mu.Lock()
	var tell []types.UID
	if seen, ok := s.seen[ref]; !ok || seen != version {
		for uid := range s.users[ref] {
			tell = append(tell, uid)
		}
	}
	s.mu.Unlock()
	for _, uid := range tell {
		s.c.Changed(uid)
	}
}

// named lists the objects that a pod's volumes and environments name.
func named(pod *corev1.Pod) []source {
	var all []source
	have := map[source]bool{}
	watch := func(ref source) {
		if !have[ref] {
			have[ref] = true
			all = append(all, ref)
		}
	}
	add := func(kind sort, name string) {
		if name != "" {
			watch(source{kind, pod.Namespace, name})
		}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.ConfigMap != nil:
			add(configMaps, v.ConfigMap.Name)
		case v.Secret != nil:
			add(secrets, v.Secret.SecretName)
		case v.Projected != nil:
			for j := range v.Projected.Sources {
				if m := v.Projected.Sources[j].ConfigMap; m != nil {
					add(configMaps, m.Name)
				}
				if m := v.Projected.Sources[j].Secret; m != nil {
					add(secrets, m.Name)
				}
				if v.Projected.Sources[j].ClusterTrustBundle != nil {
					watch(source{sort: trustBundles})
				}
				if v.Projected.Sources[j].PodCertificate != nil {
					watch(source{sort: podCertificateAsks, name: pod.Spec.NodeName})
				}
			}
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			environment(&list[i], add)
		}
	}
	return all
}

func environment(c *corev1.Container, add func(kind sort, name string)) {
	for _, e := range c.EnvFrom {
		if e.ConfigMapRef != nil {
			add(configMaps, e.ConfigMapRef.Name)
		}
		if e.SecretRef != nil {
			add(secrets, e.SecretRef.Name)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(configMaps, r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(secrets, r.Name)
		}
	}
}
