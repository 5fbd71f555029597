package aggregate

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/client"
	"sampan/cluster/kind/apiregistration"
)

// The label of APIServices that this server keeps itself, and what it says:
// those of its own groups are brought up to date when it starts, those of
// custom resources always. (Upstream: kube-aggregator/pkg/controllers/autoregister.)
const (
	managedLabel = "kube-aggregator.kubernetes.io/automanaged"
	onStart      = "onstart"
	always       = "true"
)

// follow tells the registration which group versions there are and what
// happens to APIServices.
func (a *Aggregator) follow(ctx context.Context, seen func()) error {
	first := map[string]bool{}
	told := false
	return client.Follow(ctx, a.cfg.Client, client.Query{}, func(e client.Change[*apiService]) {
		switch {
		case e.Type == client.Synced:
			a.mu.Lock()
			a.atStart = first
			a.mu.Unlock()
			told = true
			changed := a.lookAtKinds()
			a.watches.Go(func() { a.followKinds(ctx, changed) })
			seen()
		case !told:
			first[e.Object.Name] = true
			a.own.Seed(e.Object.Name)
		case e.Type == client.Deleted || managed(e.Object) != "":
			a.own.Add(e.Object.Name)
		}
	})
}

// followKinds adds the group versions of the table when it changes.
func (a *Aggregator) followKinds(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		changed = a.lookAtKinds()
	}
}

// lookAtKinds adds the group versions that have come or gone since it was
// called last, and returns a channel that is closed when the table changes.
func (a *Aggregator) lookAtKinds() (changed <-chan struct{}) {
	changed = a.cfg.Client.Kinds().Changed()
	now := a.served()
	var before map[schema.GroupVersion]bool
	if old := a.wants.Swap(&now); old != nil {
		before = *old
	}
	for gv := range now {
		if _, there := before[gv]; !there {
			a.own.Add(apiregistration.Name(gv))
		}
	}
	for gv := range before {
		if _, there := now[gv]; !there {
			a.own.Add(apiregistration.Name(gv))
		}
	}
	return changed
}

// served are the group versions that this server answers for, true for those
// of custom resources.
func (a *Aggregator) served() map[schema.GroupVersion]bool {
	all := map[schema.GroupVersion]bool{}
	for _, gv := range a.cfg.Own {
		all[gv] = false
	}
	for _, k := range a.cfg.Client.Kinds().All() {
		if k.Custom == nil {
			for _, gvk := range k.Current() { // upstream has not the others
				if gv := gvk.GroupVersion(); registers(gv) {
					all[gv] = false
				}
			}
			continue
		}
		for _, f := range k.Faces() {
			if _, known := all[f.GVK.GroupVersion()]; !known {
				all[f.GVK.GroupVersion()] = true
			}
		}
	}
	return all
}

// want is the APIService of a name that this server keeps; nil: it keeps none.
func (a *Aggregator) want(name string) *apiService {
	version, group, _ := strings.Cut(name, ".")
	gv := schema.GroupVersion{Group: group, Version: version}
	if custom, ok := (*a.wants.Load())[gv]; ok {
		return wanted(gv, custom)
	}
	return nil
}

// wanted is the APIService that this server keeps for a group version.
func wanted(gv schema.GroupVersion, custom bool) *apiService {
	how, p := onStart, usual(gv)
	if custom {
		how = always
	}
	return &apiService{ObjectMeta: metav1.ObjectMeta{Name: apiregistration.Name(gv), Labels: map[string]string{managedLabel: how}},
		Spec: apiregistrationv1.APIServiceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: p.Group, VersionPriority: p.Version}}
}

// step is what has to happen to an APIService.
type step int

const (
	leave step = iota
	create
	update
	remove
)

// decide says what has to happen to an APIService, a pure function of what is
// there and what should be: either may be nil. registered says that it was
// right once since the start, atStart that it was there then. What a user
// made is never touched.
func decide(have, want *apiService, registered, atStart bool) step {
	switch {
	case have == nil && want == nil, managed(want) == onStart && registered:
		return leave
	case have == nil:
		return create
	case managed(have) == "", managed(have) == onStart && (registered || !atStart):
		return leave
	case want == nil:
		return remove
	case equality.Semantic.DeepEqual(have.Spec, want.Spec):
		return leave
	}
	return update
}

func managed(s *apiService) string {
	if s == nil {
		return ""
	}
	if how := s.Labels[managedLabel]; how == onStart || how == always {
		return how
	}
	return ""
}

// register brings one APIService that this server keeps to what it should be.
func (a *Aggregator) register(ctx context.Context, name string) (time.Duration, error) {
	have, err := client.Get[*apiService](ctx, a.cfg.Client, "", name)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, err
	}
	if err != nil {
		have = nil
	}
	want := a.want(name)
	a.mu.Lock()
	registered, atStart := a.registered[name], a.atStart[name]
	a.mu.Unlock()
	switch decide(have, want, registered, atStart) {
	case create:
		_, err = client.Create(ctx, a.cfg.Client, want)
	case update:
		next := have.DeepCopy()
		next.Spec = want.Spec
		_, err = client.Update(ctx, a.cfg.Client, next)
	case remove:
		err = client.Delete[*apiService](ctx, a.cfg.Client, "", name,
			&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}})
	default:
		err = nil
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil // somebody else's write, whose event adds it again
	}
	if err == nil && (managed(have) == onStart || managed(want) == onStart) {
		a.mu.Lock()
		a.registered[name] = true
		a.mu.Unlock()
	}
	return 0, err
}
