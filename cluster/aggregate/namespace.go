package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/request"
)

// emptier is as whom namespaces are emptied: the controller that does it here.
var emptier = request.User{Name: "system:serviceaccount:kube-system:namespace-controller",
	Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}}

const (
	emptyWait    = 30 * time.Second // for all requests of one resource
	metadataForm = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)

// Empty deletes what other servers keep in a namespace. It returns what is
// there still, by resource, and the group versions of which nobody knows now
// what they have.
func (a *Aggregator) Empty(ctx context.Context, namespace string) (left map[schema.GroupVersionResource][]*metav1.PartialObjectMetadata, unknown []schema.GroupVersion, err error) {
	state := a.State()
	if len(state.remotes) == 0 {
		return nil, nil, nil
	}
	preferred := map[schema.GroupResource]schema.GroupVersion{}
	for gv, r := range state.remotes {
		if r.Discovery.Freshness != apidiscoveryv2.DiscoveryFreshnessCurrent {
			a.touch(r.name)
			unknown = append(unknown, gv)
			continue // what it had may not be what it has, and it may not be there
		}
		for _, d := range r.Discovery.Resources {
			if d.Scope != apidiscoveryv2.ScopeNamespace || !slices.Contains(d.Verbs, "delete") || !slices.Contains(d.Verbs, "list") {
				continue
			}
			gr := schema.GroupResource{Group: gv.Group, Resource: d.Resource}
			if other, known := preferred[gr]; !known || state.Priority(gv).Version > state.Priority(other).Version {
				preferred[gr] = gv
			}
		}
	}
	left = map[schema.GroupVersionResource][]*metav1.PartialObjectMetadata{}
	var errs []error
	for gr, gv := range preferred {
		r := state.remotes[gv]
		if !r.available {
			unknown = append(unknown, gv)
			continue
		}
		i := slices.IndexFunc(r.Discovery.Resources, func(d apidiscoveryv2.APIResourceDiscovery) bool { return d.Resource == gr.Resource })
		remain, err := a.emptyOne(ctx, r, r.Discovery.Resources[i], namespace)
		if err != nil {
			errs = append(errs, fmt.Errorf("delete %s in namespace %s: %w", gr, namespace, err))
		} else if len(remain) > 0 {
			left[gv.WithResource(gr.Resource)] = remain
		}
	}
	slices.SortFunc(unknown, func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) })
	unknown = slices.Compact(unknown)
	return left, unknown, errors.Join(errs...)
}

func (a *Aggregator) emptyOne(ctx context.Context, r *Remote, d apidiscoveryv2.APIResourceDiscovery, namespace string) ([]*metav1.PartialObjectMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, emptyWait)
	defer cancel()
	base, err := a.base(ctx, r.service)
	if err != nil {
		return nil, err
	}
	where := base + pathOf(r.GroupVersion) + "/namespaces/" + url.PathEscape(namespace) + "/" + d.Resource
	all, err := r.connection.listIn(ctx, where)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if slices.Contains(d.Verbs, "deletecollection") {
		err = r.connection.deleteAt(ctx, where)
	} else {
		for _, o := range all {
			err = errors.Join(err, r.connection.deleteAt(ctx, where+"/"+url.PathEscape(o.Name)))
		}
	}
	if err != nil {
		return nil, err
	}
	return r.connection.listIn(ctx, where)
}

// listIn returns the objects at a URL; none if there is no such resource.
func (c *connection) listIn(ctx context.Context, where string) ([]*metav1.PartialObjectMetadata, error) {
	data, code, err := c.as(ctx, emptier, http.MethodGet, where, nil)
	if err != nil || code == http.StatusNotFound || code == http.StatusMethodNotAllowed {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("list: status %d", code)
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	all := make([]*metav1.PartialObjectMetadata, len(list.Items))
	for i := range list.Items {
		all[i] = &list.Items[i]
	}
	return all, nil
}

func (c *connection) deleteAt(ctx context.Context, where string) error {
	_, code, err := c.as(ctx, emptier, http.MethodDelete, where,
		[]byte(`{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`))
	if err == nil && code >= 300 && code != http.StatusNotFound && code != http.StatusConflict {
		err = fmt.Errorf("delete: status %d", code)
	}
	return err
}

// as asks the server behind c as u.
func (c *connection) as(ctx context.Context, u request.User, method, where string, body []byte) (data []byte, code int, err error) {
	if c.wrong != nil {
		return nil, 0, c.wrong
	}
	req, err := http.NewRequestWithContext(ctx, method, where, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", metadataForm)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	identify(req.Header, u)
	resp, err := c.plain.RoundTrip(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	return data, resp.StatusCode, err
}
