package aggregate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/client"
)

type condition = apiregistrationv1.APIServiceCondition

// where says where the server behind ref listens, a pure function of its
// service, nil if there is none, and of the service's slices; or why it cannot
// be there. Reasons and messages are upstream's
// (kube-aggregator/pkg/controllers/status/remote).
func where(ref *apiregistrationv1.ServiceReference, service *corev1.Service, all []*discoveryv1.EndpointSlice) (addresses []string, not *condition) {
	no := func(reason, text string, args ...any) ([]string, *condition) {
		args = append([]any{ref.Name, ref.Namespace}, args...)
		return nil, &condition{Status: apiregistrationv1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(text, args...)}
	}
	if service == nil {
		return no("ServiceNotFound", "service/%s in %q is not present")
	}
	number := int32(443)
	if ref.Port != nil {
		number = *ref.Port
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return []string{net.JoinHostPort(service.Spec.ExternalName, strconv.Itoa(int(number)))}, nil
	}
	i := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == number })
	if i < 0 {
		return no("ServicePortError", "service/%s in %q is not listening on port %d", number)
	}
	if len(all) == 0 {
		return no("EndpointsNotFound", "cannot find endpointslices for service/%s in %q")
	}
	name := service.Spec.Ports[i].Name
	for _, s := range all {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil && name != "" || p.Name != nil && *p.Name != name {
				continue
			}
			for _, e := range s.Endpoints {
				if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
					addresses = append(addresses, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	if len(addresses) == 0 {
		return no("MissingEndpoints", "endpointslices for service/%s in %q have no addresses with port name %q", name)
	}
	return addresses, nil
}

// locate is where for what there is now.
func (a *Aggregator) locate(ctx context.Context, ref *apiregistrationv1.ServiceReference) ([]string, *condition) {
	unknown := func(reason string, err error) ([]string, *condition) {
		return nil, &condition{Status: apiregistrationv1.ConditionUnknown, Reason: reason,
			Message: fmt.Sprintf("service/%s in %q cannot be checked due to: %v", ref.Name, ref.Namespace, err)}
	}
	service, err := client.Get[*corev1.Service](ctx, a.cfg.Client, ref.Namespace, ref.Name)
	if apierrors.IsNotFound(err) {
		return where(ref, nil, nil)
	}
	if err != nil {
		return unknown("ServiceAccessError", err)
	}
	all, err := client.List[*discoveryv1.EndpointSlice](ctx, a.cfg.Client, slicesOf(ref))
	if err != nil {
		return unknown("EndpointsAccessError", err)
	}
	return where(ref, service, all)
}

// How many endpoints are asked at once whether they answer, and how long one
// may take.
const (
	attempts  = 5
	checkWait = 5 * time.Second
)

// check finds out whether the server behind s answers. worthwhile is true if
// the same question can have another answer later although nothing in the
// cluster changes.
func (a *Aggregator) check(ctx context.Context, s *apiService, c *connection) (found condition, worthwhile bool) {
	found = condition{Type: apiregistrationv1.Available, LastTransitionTime: metav1.NewTime(a.cfg.Now().Truncate(time.Second))}
	addresses, not := a.locate(ctx, s.Spec.Service)
	if not != nil {
		found.Status, found.Reason, found.Message = not.Status, not.Reason, not.Message
		return found, not.Status == apiregistrationv1.ConditionUnknown
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	addresses = addresses[:min(len(addresses), attempts)]
	results := make(chan error, len(addresses))
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel() // who has not answered by then need not
	for _, address := range addresses {
		go func() { results <- c.answers(ctx, address, groupVersion(s)) }()
	}
	var err error
	for waiting := len(addresses); waiting > 0; waiting-- {
		if failed := <-results; failed != nil {
			err = failed
			continue
		}
		found.Status, found.Reason, found.Message = apiregistrationv1.ConditionTrue, "Passed", "all checks passed"
		cancel()
		for waiting--; waiting > 0; waiting-- {
			<-results
		}
		return found, false
	}
	found.Status, found.Reason, found.Message = apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck", err.Error()
	return found, true
}

// answers asks one endpoint for what every server of a group version serves.
func (c *connection) answers(ctx context.Context, address string, gv schema.GroupVersion) error {
	url := "https://" + address + pathOf(gv)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.ask(req)
	if err != nil {
		return fmt.Errorf("failing or missing response from %v: %w", url, err)
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("failing or missing response from %v: bad status from %v: %d", url, url, resp.StatusCode)
	}
	return nil
}

func pathOf(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}
