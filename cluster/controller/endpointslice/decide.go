package endpointslice

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ManagedBy is what slices of this controller wear.
const ManagedBy = "endpointslice-controller.k8s.io"

// most is how many endpoints a slice has (upstream's
// --max-endpoints-per-slice). More slices are made instead.
const most = 100

// state is what a decision is made from.
type state struct {
	service *corev1.Service
	pods    []*corev1.Pod                // all that its selector matches
	slices  []*discoveryv1.EndpointSlice // all that this controller made for it
	node    func(name string) *corev1.Node
}

// decision is what must happen so that the slices say where the service is.
type decision struct {
	create []*discoveryv1.EndpointSlice
	update []*discoveryv1.EndpointSlice // changed copies
	remove []*discoveryv1.EndpointSlice
}

// decide is a pure function of what the cache holds. An endpoint stays in the
// slice where it is; what is new fills slices that are written anyway, then
// one that has room, then new ones. So a change of one pod is one write.
func decide(s state) (d decision) {
	families := addressTypes(s.service)
	labels := sliceLabels(s.service)
	for _, t := range families {
		of := func(slice *discoveryv1.EndpointSlice) bool {
			return slice.AddressType == t && slice.DeletionTimestamp == nil
		}
		d.family(s, t, filter(s.slices, of), labels)
	}
	for _, slice := range s.slices {
		if !slices.Contains(families, slice.AddressType) && slice.DeletionTimestamp == nil {
			d.remove = append(d.remove, slice)
		}
	}
	return d
}

// group is the endpoints that listen on the same ports: a slice has one list
// of ports for all its endpoints, and a named port may be another number in
// another pod.
type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints map[string]discoveryv1.Endpoint // by identity
}

// family decides for one address type.
func (d *decision) family(s state, t discoveryv1.AddressType, have []*discoveryv1.EndpointSlice, labels map[string]string) {
	wanted := groups(s, t)
	keys := slices.Sorted(maps.Keys(wanted))
	if len(keys) == 0 {
		// One empty slice says "nobody", where none would say "not known yet".
		keys, wanted = []string{""}, map[string]*group{"": {ports: []discoveryv1.EndpointPort{}}}
		if i := slices.IndexFunc(have, func(e *discoveryv1.EndpointSlice) bool { return len(e.Endpoints) == 0 }); i > 0 {
			have = slices.Concat(have[i:i+1], have[:i], have[i+1:])
		}
	}
	byPorts := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range have {
		key := portsKey(slice.Ports)
		byPorts[key] = append(byPorts[key], slice)
	}
	var spare []*discoveryv1.EndpointSlice // to be removed, or used for something else
	for key, some := range byPorts {
		if wanted[key] == nil {
			spare = append(spare, some...)
		}
	}
	slices.SortFunc(spare, byName)
	var fresh []*discoveryv1.EndpointSlice
	for _, key := range keys {
		f, unused := d.fill(s, t, wanted[key], byPorts[key], labels)
		fresh, spare = append(fresh, f...), append(spare, unused...)
	}
	// Changing a slice is cheaper for all who watch than two other ones.
	for len(fresh) > 0 && len(spare) > 0 {
		next := spare[0].DeepCopy()
		next.Endpoints, next.Ports, next.Labels = fresh[0].Endpoints, fresh[0].Ports, fresh[0].Labels
		d.update = append(d.update, next)
		fresh, spare = fresh[1:], spare[1:]
	}
	d.create, d.remove = append(d.create, fresh...), append(d.remove, spare...)
}

// fill puts a group into the slices that have its ports. It returns slices to
// be made, and those that are not needed.
func (d *decision) fill(s state, t discoveryv1.AddressType, g *group, have []*discoveryv1.EndpointSlice, labels map[string]string) (fresh, unused []*discoveryv1.EndpointSlice) {
	left := maps.Clone(g.endpoints)
	type edit struct {
		slice     *discoveryv1.EndpointSlice
		endpoints []discoveryv1.Endpoint
		changed   bool
	}
	var edits []*edit
	for _, slice := range have {
		e := &edit{slice: slice, changed: !equality.Semantic.DeepEqual(slice.Labels, labels) || !ownedBy(slice, s.service)}
		for _, ep := range slice.Endpoints {
			id := identity(ep)
			want, ok := left[id]
			if !ok {
				e.changed = true
				continue
			}
			delete(left, id)
			e.changed = e.changed || !equality.Semantic.DeepEqual(ep, want)
			e.endpoints = append(e.endpoints, want)
		}
		edits = append(edits, e)
	}
	rest := make([]discoveryv1.Endpoint, 0, len(left))
	for _, id := range slices.Sorted(maps.Keys(left)) {
		rest = append(rest, left[id])
	}
	put := func(e *edit) {
		n := max(0, min(most-len(e.endpoints), len(rest)))
		e.endpoints, rest = append(e.endpoints, rest[:n]...), rest[n:]
		e.changed = e.changed || n > 0
	}
	for _, e := range edits {
		if e.changed && len(e.endpoints) > 0 {
			put(e)
		}
	}
	// The fullest slice that takes all that is left leaves room in the others.
	if len(rest) > 0 {
		var best *edit
		for _, e := range edits {
			if len(e.endpoints)+len(rest) <= most && (best == nil || len(e.endpoints) > len(best.endpoints)) {
				best = e
			}
		}
		if best != nil {
			put(best)
		}
	}
	for len(rest) > 0 {
		n := min(most, len(rest))
		fresh = append(fresh, newSlice(s.service, t, g.ports, rest[:n:n], labels))
		rest = rest[n:]
	}
	kept := 0
	for _, e := range edits {
		if len(e.endpoints) == 0 && (len(g.endpoints) > 0 || kept > 0) {
			unused = append(unused, e.slice)
			continue
		}
		kept++
		if e.changed {
			next := e.slice.DeepCopy()
			next.Endpoints, next.Labels = e.endpoints, labels
			next.OwnerReferences = []metav1.OwnerReference{owner(s.service)}
			d.update = append(d.update, next)
		}
	}
	if len(g.endpoints) == 0 && kept == 0 {
		fresh = append(fresh, newSlice(s.service, t, g.ports, []discoveryv1.Endpoint{}, labels))
	}
	return fresh, unused
}

func newSlice(svc *corev1.Service, t discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint, labels map[string]string) *discoveryv1.EndpointSlice {
	prefix := svc.Name + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = svc.Name
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, GenerateName: prefix, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{owner(svc)}},
		AddressType: t, Ports: ports, Endpoints: endpoints,
	}
}

func owner(svc *corev1.Service) metav1.OwnerReference {
	return *metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))
}

// ownedBy is false for a slice of a service of the same name that is gone.
func ownedBy(slice *discoveryv1.EndpointSlice, svc *corev1.Service) bool {
	return len(slice.OwnerReferences) == 1 && slice.OwnerReferences[0].UID == svc.UID
}

// sliceLabels are the service's, and those that say whose the slice is.
func sliceLabels(svc *corev1.Service) map[string]string {
	all := maps.Clone(svc.Labels)
	if all == nil {
		all = map[string]string{}
	}
	delete(all, corev1.IsHeadlessService)
	if headless(svc) {
		all[corev1.IsHeadlessService] = ""
	}
	all[discoveryv1.LabelServiceName] = svc.Name
	all[discoveryv1.LabelManagedBy] = ManagedBy
	return all
}

func headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

// addressTypes are a service's families; IPv4 for one that nobody gave any.
func addressTypes(svc *corev1.Service) (all []discoveryv1.AddressType) {
	for _, f := range svc.Spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			all = append(all, discoveryv1.AddressTypeIPv4)
		case corev1.IPv6Protocol:
			all = append(all, discoveryv1.AddressTypeIPv6)
		}
	}
	if len(all) == 0 {
		all = append(all, discoveryv1.AddressTypeIPv4)
		if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && ip.Is6() {
			all[0] = discoveryv1.AddressTypeIPv6
		}
	}
	return all
}

// identity tells endpoints apart that are not the same pod at the same
// addresses.
func identity(e discoveryv1.Endpoint) string {
	id := strings.Join(e.Addresses, ",")
	if e.TargetRef != nil {
		id += " " + string(e.TargetRef.UID) + " " + e.TargetRef.Name
	}
	return id
}

func byName(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }

func filter[T any](all []T, keep func(T) bool) (some []T) {
	for _, v := range all {
		if keep(v) {
			some = append(some, v)
		}
	}
	return some
}
