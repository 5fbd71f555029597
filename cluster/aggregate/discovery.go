package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// maxDocument bounds what is read of another server's documents.
const maxDocument = 16 << 20

const discoveryForm = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// discover fetches what a server has of a group version: from the aggregated
// document (KEP-3352) or, of a server that has none, the older one.
func (a *Aggregator) discover(ctx context.Context, c *connection, s *apiService) (apidiscoveryv2.APIVersionDiscovery, error) {
	gv := groupVersion(s)
	none := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	base, err := a.base(ctx, s.Spec.Service)
	if err != nil {
		return none, err
	}
	code, header, data, err := c.fetch(ctx, base+"/apis", discoveryForm)
	if err != nil {
		return none, err
	}
	if code == http.StatusOK && isAggregated(header.Get("Content-Type")) {
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := json.Unmarshal(data, &list); err != nil {
			return none, fmt.Errorf("read %s/apis: %w", base, err)
		}
		for _, g := range list.Items {
			for _, v := range g.Versions {
				if g.Name == gv.Group && v.Version == gv.Version {
					v.Freshness = apidiscoveryv2.DiscoveryFreshnessCurrent
					return filled(v), nil
				}
			}
		}
		return none, nil
	}
	if code == http.StatusServiceUnavailable {
		return none, fmt.Errorf("read %s/apis: status %d", base, code)
	}
	url := base + pathOf(gv)
	if code, _, data, err = c.fetch(ctx, url, "application/json"); err != nil {
		return none, err
	}
	if code != http.StatusOK {
		return none, fmt.Errorf("read %s: status %d", url, code)
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(data, &list); err != nil {
		return none, fmt.Errorf("read %s: %w", url, err)
	}
	if none.Resources, err = newer(list.APIResources); err != nil {
		return none, fmt.Errorf("read %s: %w", url, err)
	}
	return none, nil
}

// base is the URL of one endpoint of a service.
func (a *Aggregator) base(ctx context.Context, ref *apiregistrationv1.ServiceReference) (string, error) {
	addresses, not := a.locate(ctx, ref)
	if not != nil {
		return "", errors.New(not.Message)
	}
	return "https://" + addresses[rand.IntN(len(addresses))], nil
}

func (c *connection) fetch(ctx context.Context, url, accept string, header ...string) (code int, h http.Header, data []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Accept", accept)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.ask(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("read %s: the answer is larger than %d bytes", url, maxDocument)
	}
	return resp.StatusCode, resp.Header, data, err
}

// isAggregated says whether a media type is the aggregated form's, in
// whatever order its parameters are.
func isAggregated(contentType string) bool {
	asked := map[string]bool{}
	for part := range strings.SplitSeq(contentType, ";") {
		asked[strings.TrimSpace(part)] = true
	}
	return asked["application/json"] && asked["g=apidiscovery.k8s.io"] && asked["v=v2"] && asked["as=APIGroupDiscoveryList"]
}

// filled gives every resource a kind to point to: old clients take it for
// granted. (Upstream: issue 118361.)
func filled(v apidiscoveryv2.APIVersionDiscovery) apidiscoveryv2.APIVersionDiscovery {
	for i := range v.Resources {
		r := &v.Resources[i]
		if r.ResponseKind == nil {
			r.ResponseKind = &metav1.GroupVersionKind{}
		}
		for j := range r.Subresources {
			if r.Subresources[j].ResponseKind == nil {
				r.Subresources[j].ResponseKind = &metav1.GroupVersionKind{}
			}
		}
	}
	return v
}

// newer says in the newer form what the older document does. (Upstream:
// ConvertGroupVersionIntoToDiscovery.)
func newer(list []metav1.APIResource) (all []apidiscoveryv2.APIResourceDiscovery, err error) {
	at := map[string]int{}
	scope := func(r metav1.APIResource) apidiscoveryv2.ResourceScope {
		if r.Namespaced {
			return apidiscoveryv2.ScopeNamespace
		}
		return apidiscoveryv2.ScopeCluster
	}
	for _, r := range list {
		if strings.Contains(r.Name, "/") {
			continue
		}
		at[r.Name] = len(all)
		all = append(all, apidiscoveryv2.APIResourceDiscovery{Resource: r.Name, Scope: scope(r), SingularResource: r.SingularName,
			ResponseKind: &metav1.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind},
			Verbs:        r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories})
	}
	for _, r := range list {
		of, name, ok := strings.Cut(r.Name, "/")
		if !ok {
			continue
		}
		i, known := at[of]
		if !known {
			i = len(all)
			at[of] = i
			all = append(all, apidiscoveryv2.APIResourceDiscovery{Resource: of, Scope: scope(r), ResponseKind: &metav1.GroupVersionKind{}})
		}
		if all[i].Scope != scope(r) {
			return nil, fmt.Errorf("resource %s is %s, its subresource %s is %s", of, all[i].Scope, name, scope(r))
		}
		all[i].Subresources = append(all[i].Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: name, Verbs: r.Verbs,
			ResponseKind: &metav1.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}})
	}
	return all, nil
}
