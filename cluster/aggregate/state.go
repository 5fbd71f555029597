package aggregate

import (
	"maps"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/kind/apiregistration"
)

// State is who answers for what at one moment. It does not change.
type State struct {
	// Number is another one for each State that discovery shows differently.
	Number uint64

	remotes    map[schema.GroupVersion]*Remote
	priorities map[schema.GroupVersion]Priority
}

// Remote is another server that answers for a group version, at one moment.
type Remote struct {
	GroupVersion schema.GroupVersion
	Discovery    apidiscoveryv2.APIVersionDiscovery // shared: never written to

	name       string
	service    *apiregistrationv1.ServiceReference
	available  bool
	connection *connection
}

// State is who answers for what now.
func (a *Aggregator) State() *State { return a.state.Load() }

// publishLocked makes a State of what is known. shown says that it differs for
// discovery.
func (a *Aggregator) publishLocked(shown bool) {
	next := &State{Number: a.state.Load().Number, remotes: map[schema.GroupVersion]*Remote{}, priorities: maps.Clone(a.priorities)}
	if shown {
		next.Number++
	}
	for name, k := range a.known {
		gv, c := groupVersion(k.of), apiregistration.Condition(k.of)
		next.remotes[gv] = &Remote{GroupVersion: gv, Discovery: k.discovery, name: name, service: k.of.Spec.Service,
			available: c != nil && c.Status == apiregistrationv1.ConditionTrue, connection: k.connection}
		next.priorities[gv] = Priority{k.of.Spec.GroupPriorityMinimum, k.of.Spec.VersionPriority}
	}
	a.state.Store(next)
}

// At is the server that answers for a group version; nil: this one.
func (s *State) At(gv schema.GroupVersion) *Remote { return s.remotes[gv] }

// Remotes are all other servers, in no order. It is shared: never written to.
func (s *State) Remotes() map[schema.GroupVersion]*Remote { return s.remotes }

// Priority is what orders group versions in discovery: higher is earlier.
type Priority struct{ Group, Version int32 }

// Priority is the one of a group version.
func (s *State) Priority(gv schema.GroupVersion) Priority {
	if p, ok := s.priorities[gv]; ok {
		return p
	}
	return usual(gv)
}

// usual is the priority of a group version that no APIService gives another.
func usual(gv schema.GroupVersion) Priority {
	if gv.Group == apiregistrationv1.GroupName {
		return Priority{20001, 0} // before all that one can ask for
	}
	if p, ok := builtIn[gv.Group]; ok {
		version, ok := p.versions[gv.Version]
		if !ok {
			version = 1
		}
		return Priority{p.group, version}
	}
	return custom
}

// registers says whether a group version of this server's own has an
// APIService: upstream's table names those that do.
func registers(gv schema.GroupVersion) bool {
	_, ok := builtIn[gv.Group].versions[gv.Version]
	return ok
}

// custom is the priority of custom resources.
var custom = Priority{1000, 100}

// builtIn are upstream's priorities. (pkg/controlplane/apiserver/aggregator.go
// and cmd/kube-apiserver/app/aggregator.go.)
var builtIn = map[string]struct {
	group    int32
	versions map[string]int32
}{
	"":                             {18000, map[string]int32{"v1": 1}},
	"apps":                         {17800, map[string]int32{"v1": 15}},
	"events.k8s.io":                {17750, map[string]int32{"v1": 15, "v1beta1": 5}},
	"authentication.k8s.io":        {17700, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha1": 1}},
	"authorization.k8s.io":         {17600, map[string]int32{"v1": 15}},
	"autoscaling":                  {17500, map[string]int32{"v1": 15, "v2": 30, "v2beta1": 9, "v2beta2": 1}},
	"batch":                        {17400, map[string]int32{"v1": 15, "v1beta1": 9, "v2alpha1": 9}},
	"certificates.k8s.io":          {17300, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha1": 1}},
	"networking.k8s.io":            {17200, map[string]int32{"v1": 15, "v1beta1": 9}},
	"policy":                       {17100, map[string]int32{"v1": 15, "v1beta1": 9}},
	"rbac.authorization.k8s.io":    {17000, map[string]int32{"v1": 15}},
	"storage.k8s.io":               {16800, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha1": 1}},
	"apiextensions.k8s.io":         {16700, map[string]int32{"v1": 15}},
	"admissionregistration.k8s.io": {16700, map[string]int32{"v1": 15, "v1beta1": 12, "v1alpha1": 9}},
	"scheduling.k8s.io":            {16600, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha3": 3}},
	"coordination.k8s.io":          {16500, map[string]int32{"v1": 15, "v1beta1": 13, "v1alpha2": 12}},
	"node.k8s.io":                  {16300, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha1": 1}},
	"discovery.k8s.io":             {16200, map[string]int32{"v1": 15, "v1beta1": 12}},
	"resource.k8s.io":              {16200, map[string]int32{"v1": 21, "v1beta2": 15, "v1beta1": 9, "v1alpha3": 1}},
	"flowcontrol.apiserver.k8s.io": {16100, map[string]int32{"v1": 21, "v1beta3": 18, "v1beta2": 15, "v1beta1": 12, "v1alpha1": 9}},
	"internal.apiserver.k8s.io":    {16000, map[string]int32{"v1alpha1": 9}},
	"storagemigration.k8s.io":      {15800, map[string]int32{"v1": 15, "v1beta1": 9}},
	"lifecycle.k8s.io":             {15700, map[string]int32{"v1alpha1": 1}},
	"extensions":                   {1500, nil}, // served for old manifests: all its kinds have gone to other groups
}
