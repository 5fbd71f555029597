package api

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"sampan/cluster/aggregate"
	"sampan/cluster/kind"
)

// verbsOfObjects are what every stored kind answers to.
var verbsOfObjects = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// verbsOfEnding are what is left of them while a definition is being deleted.
var verbsOfEnding = []string{"delete", "deletecollection", "get", "list", "watch"}

// catalogue is all of discovery, made once for each state of the kind table.
type catalogue struct {
	of       uint64 // the number of the table's state that it was made from
	others   uint64 // the same of the state of other servers
	groups   []apidiscoveryv2.APIGroupDiscovery
	document map[string]cached // the aggregated document by "api" and "apis"
}

type cached struct {
	body []byte
	etag string
}

type discoveryCache struct {
	mu  sync.Mutex // guards now
	now *catalogue
}

// catalogue returns what is served now.
func (s *Server) catalogue() *catalogue {
	number := s.cfg.Kinds.Number() // what changes after this makes another one
	all := s.cfg.Kinds.All()
	state := &aggregate.State{}
	if s.cfg.Aggregate != nil {
		state = s.cfg.Aggregate.State()
	}
	s.discovery.mu.Lock()
	defer s.discovery.mu.Unlock()
	if c := s.discovery.now; c != nil && c.others == state.Number && c.of == number {
		return c
	}
	c := &catalogue{of: number, others: state.Number, groups: groupsOf(all, s.virtual, s.components, state), document: map[string]cached{}}
	s.discovery.now = c
	return c
}

// groupsOf is discovery as a pure function of the kinds and of who else
// answers.
func groupsOf(kinds []*kind.Kind, virtual []virtualKind, components *kind.Kind, state *aggregate.State) []apidiscoveryv2.APIGroupDiscovery {
	versions := map[schema.GroupVersion]apidiscoveryv2.APIVersionDiscovery{}
	add := func(gv schema.GroupVersion, r apidiscoveryv2.APIResourceDiscovery) {
		v := versions[gv]
		v.Resources = append(v.Resources, r)
		versions[gv] = v
	}
	for _, k := range kinds {
		for _, f := range k.Faces() {
			add(f.GVK.GroupVersion(), discover(f.Kind, f.GVK))
		}
	}
	for _, v := range virtual {
		add(v.gvk.GroupVersion(), v.discover())
	}
	add(components.GVK.GroupVersion(), discoverComponents(components))
	for gv, v := range versions {
		slices.SortFunc(v.Resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return cmp.Compare(a.Resource, b.Resource) })
		v.Version, v.Freshness = gv.Version, apidiscoveryv2.DiscoveryFreshnessCurrent
		versions[gv] = v
	}
	for gv, remote := range state.Remotes() {
		versions[gv] = remote.Discovery
	}
	return inOrder(versions, state)
}

// inOrder are the groups as clients prefer them where a name is in several
// ("events"): by the highest priority that one of a group's versions gives it,
// and within a group by that of the version. (Upstream: resourceDiscoveryManager.)
func inOrder(versions map[schema.GroupVersion]apidiscoveryv2.APIVersionDiscovery, state *aggregate.State) []apidiscoveryv2.APIGroupDiscovery {
	priority := map[string]int32{}
	byGroup := map[string][]apidiscoveryv2.APIVersionDiscovery{}
	for gv, v := range versions {
		priority[gv.Group] = max(priority[gv.Group], state.Priority(gv).Group)
		byGroup[gv.Group] = append(byGroup[gv.Group], v)
	}
	groups := make([]apidiscoveryv2.APIGroupDiscovery, 0, len(byGroup))
	for _, name := range slices.SortedFunc(maps.Keys(byGroup), func(a, b string) int {
		return cmp.Or(cmp.Compare(priority[b], priority[a]), cmp.Compare(a, b))
	}) {
		of := func(v apidiscoveryv2.APIVersionDiscovery) int32 {
			return state.Priority(schema.GroupVersion{Group: name, Version: v.Version}).Version
		}
		slices.SortFunc(byGroup[name], func(a, b apidiscoveryv2.APIVersionDiscovery) int {
			return cmp.Or(cmp.Compare(of(b), of(a)), version.CompareKubeAwareVersionStrings(b.Version, a.Version))
		})
		groups = append(groups, apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: name}, Versions: byGroup[name]})
	}
	return groups
}

func discover(k *kind.Kind, gvk schema.GroupVersionKind) apidiscoveryv2.APIResourceDiscovery {
	scope := apidiscoveryv2.ScopeNamespace
	if k.Cluster {
		scope = apidiscoveryv2.ScopeCluster
	}
	response := metav1.GroupVersionKind(gvk)
	d := apidiscoveryv2.APIResourceDiscovery{Resource: k.Plural, ResponseKind: &response, Scope: scope,
		SingularResource: k.Singular, Verbs: verbsOfObjects, ShortNames: k.Short, Categories: k.Categories}
	if v := k.Version(gvk); v != nil && v.Old && gvk.Group != k.GVK.Group {
		// Else "kubectl get all" would show objects twice.
		d.ShortNames, d.Categories = nil, nil
	}
	sub := func(name string, gvk schema.GroupVersionKind, verbs ...string) {
		response := metav1.GroupVersionKind(gvk)
		d.Subresources = append(d.Subresources, apidiscoveryv2.APISubresourceDiscovery{
			Subresource: name, ResponseKind: &response, Verbs: verbs})
	}
	switch {
	case k.Custom != nil && k.Custom.Ending:
		d.Verbs = verbsOfEnding
	case k.Singly:
		d.Verbs = slices.DeleteFunc(slices.Clone(verbsOfObjects), func(verb string) bool { return verb == "deletecollection" })
	}
	for name := range k.Parts {
		if name == "finalize" {
			sub(name, gvk, "update")
			continue
		}
		sub(name, gvk, "get", "patch", "update")
	}
	for name, a := range k.ActionsAs(gvk) {
		sub(name, a.GVK, "create")
	}
	if k.Scale != nil {
		sub("scale", schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}, "get", "patch", "update")
	}
	if gvk.Group == "" {
		for name, t := range throughs {
			if resource, s, _ := strings.Cut(name, "/"); resource == k.Plural {
				sub(s, schema.GroupVersionKind{Version: "v1", Kind: t.kind}, t.verbs...)
			}
		}
	}
	slices.SortFunc(d.Subresources, func(a, b apidiscoveryv2.APISubresourceDiscovery) int {
		return cmp.Compare(a.Subresource, b.Subresource)
	})
	return d
}

// aggregatedForm is the media type of /api and /apis beside plain JSON. There
// is no v2beta1 any more. (Upstream: AggregatedDiscoveryRemoveBetaType.)
const aggregatedForm = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// discover answers /api, /apis, /apis/{group}, /api/v1 and
// /apis/{group}/{version}. known is false if the path is none of these, or
// names what is not served.
func (c *call) discover(segments []string) (known bool) {
	if a := c.others(); a != nil {
		a.Refresh(c.r.Context())
	}
	cat := c.s.catalogue()
	switch {
	case len(segments) == 1:
		c.w.Header().Set("Vary", "Accept")
		if c.wantsAggregated() {
			c.aggregated(cat, segments[0])
			return true
		}
		if segments[0] == "api" {
			c.sendDoc(&metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
				ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: c.r.Host}}})
			return true
		}
		l := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}, Groups: []metav1.APIGroup{}}
		for _, g := range cat.groups {
			if g.Name != "" {
				l.Groups = append(l.Groups, legacyGroup(g))
			}
		}
		c.sendDoc(l)
		return true
	case segments[0] == "apis" && len(segments) == 2:
		for _, g := range cat.groups {
			if g.Name == segments[1] && g.Name != "" {
				legacy := legacyGroup(g)
				legacy.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroup"}
				c.sendDoc(&legacy)
				return true
			}
		}
	case segments[0] == "api" && len(segments) == 2:
		return c.resources(cat, schema.GroupVersion{Version: segments[1]})
	case segments[0] == "apis" && len(segments) == 3:
		return c.resources(cat, schema.GroupVersion{Group: segments[1], Version: segments[2]})
	}
	return false
}

func legacyGroup(g apidiscoveryv2.APIGroupDiscovery) metav1.APIGroup {
	out := metav1.APIGroup{Name: g.Name}
	for _, v := range g.Versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: g.Name + "/" + v.Version, Version: v.Version})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

func (c *call) resources(cat *catalogue, gv schema.GroupVersion) bool {
	for _, g := range cat.groups {
		for _, v := range g.Versions {
			if g.Name == gv.Group && v.Version == gv.Version {
				c.sendDoc(legacyResources(c.s.cfg.Kinds, gv, v))
				return true
			}
		}
	}
	return false
}

func legacyResources(kinds *kind.Table, gv schema.GroupVersion, v apidiscoveryv2.APIVersionDiscovery) *metav1.APIResourceList {
	l := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	if gv.Group != "" {
		l.TypeMeta.APIVersion = "v1"
	}
	entry := func(name string, response *metav1.GroupVersionKind) metav1.APIResource {
		r := metav1.APIResource{Name: name, Kind: response.Kind}
		if response.Group != gv.Group || response.Version != gv.Version {
			r.Group, r.Version = response.Group, response.Version
		}
		return r
	}
	for _, d := range v.Resources {
		r := entry(d.Resource, d.ResponseKind)
		r.SingularName, r.Namespaced = d.SingularResource, d.Scope == apidiscoveryv2.ScopeNamespace
		r.Verbs, r.ShortNames, r.Categories = d.Verbs, d.ShortNames, d.Categories
		if k := kinds.ByGVR(gv.WithResource(d.Resource)); k != nil {
			r.StorageVersionHash = versionHash(k.GVK)
		}
		l.APIResources = append(l.APIResources, r)
		for _, s := range d.Subresources {
			sr := entry(d.Resource+"/"+s.Subresource, s.ResponseKind)
			sr.Namespaced, sr.Verbs = r.Namespaced, s.Verbs
			l.APIResources = append(l.APIResources, sr)
		}
	}
	return l
}

// versionHash is by what clients see that objects come to be stored in another
// version. (Upstream: apiserver/pkg/endpoints/discovery.)
func versionHash(stored schema.GroupVersionKind) string {
	sum := sha256.Sum256([]byte(stored.Group + "/" + stored.Version + "/" + stored.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// wantsAggregated says whether the client prefers the aggregated form to plain
// JSON.
func (c *call) wantsAggregated() bool {
	for _, cl := range clauses(c.r.Header.Get("Accept")) {
		if cl.params["as"] == "APIGroupDiscoveryList" && cl.params["g"] == "apidiscovery.k8s.io" && cl.mediaType == "application/json" {
			if cl.params["v"] == "v2" {
				return true
			}
		} else if cl.params["as"] == "" {
			return false
		}
	}
	return false
}

// aggregated answers with everything below one prefix in one document.
// (KEP-3352.)
func (c *call) aggregated(cat *catalogue, prefix string) {
	c.s.discovery.mu.Lock()
	doc, ok := cat.document[prefix]
	c.s.discovery.mu.Unlock()
	if !ok {
		l := apidiscoveryv2.APIGroupDiscoveryList{
			TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
			Items:    []apidiscoveryv2.APIGroupDiscovery{}}
		for _, g := range cat.groups {
			if (g.Name == "") == (prefix == "api") {
				l.Items = append(l.Items, g)
			}
		}
		body, err := json.Marshal(&l)
		if err != nil {
			c.fail(err)
			return
		}
		sum := sha512.Sum512(body)
		doc = cached{body: body, etag: `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`}
		c.s.discovery.mu.Lock()
		cat.document[prefix] = doc
		c.s.discovery.mu.Unlock()
	}
	c.w.Header()["Cache-Control"] = publicCache
	if c.unchanged(doc.etag) {
		return
	}
	c.sendBytes(http.StatusOK, aggregatedForm, doc.body)
}

var publicCache = []string{"public"}

// unchanged names what is answered, and answers that the client has it if so.
func (c *call) unchanged(etag string) bool {
	c.w.Header().Set("ETag", etag)
	if !matchesETag(c.r, etag) {
		return false
	}
	c.code = http.StatusNotModified
	c.w.WriteHeader(http.StatusNotModified)
	return true
}

// matchesETag compares weakly. (RFC 9110, 13.1.2.)
func matchesETag(r *http.Request, etag string) bool {
	for part := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}
