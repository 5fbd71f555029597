package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/auth"
	"sampan/cluster/request"
)

// impersonate replaces the user by the one of the Impersonate headers, if the
// real one may do that (`kubectl --as`). The headers are removed: nobody
// further in must act on them. (Upstream: endpoints/filters/impersonation.)
func (c *call) impersonate() error {
	h := c.r.Header
	name, groups, uid := h.Get("Impersonate-User"), h.Values("Impersonate-Group"), h.Get("Impersonate-Uid")
	var extra map[string][]string
	for key, values := range h {
		if rest, ok := strings.CutPrefix(key, "Impersonate-Extra-"); ok {
			if extra == nil {
				extra = map[string][]string{}
			}
			k, err := url.PathUnescape(strings.ToLower(rest))
			if err != nil {
				k = strings.ToLower(rest)
			}
			extra[k] = values
		}
	}
	if name == "" {
		if len(groups) > 0 || uid != "" || extra != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("requested &user.DefaultInfo{Name:\"\", UID:%#v, Groups:%#v, Extra:%#v} without impersonating a user name",
				uid, groups, extra)) // upstream's words
		}
		return nil
	}
	u, constraint, err := c.s.cfg.Authorizer.Impersonate(c.r.Context(), c.wanted(), request.User{Name: name, UID: uid, Groups: slices.Clone(groups), Extra: extra})
	if err != nil {
		return err
	}
	c.user = u
	if c.record != nil {
		c.record.Impersonate(auditUser(c.user), constraint)
	}
	for key := range h {
		if strings.HasPrefix(key, "Impersonate-") {
			h.Del(key)
		}
	}
	return nil
}

// wanted is what the request is for, as authorization sees it, before it is
// known whether that is served at all.
func (c *call) wanted() auth.Attributes {
	r := c.route
	if r.Resource == "" {
		return auth.Attributes{User: c.user, Verb: c.asked, Path: c.r.URL.Path}
	}
	a := auth.Attributes{User: c.user, Verb: c.asked, Group: r.GV.Group, Version: r.GV.Version, Resource: r.Resource,
		Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}
	if a.Group == "" && a.Resource == "namespaces" {
		a.Namespace = a.Name // upstream: RequestInfo
	}
	return a
}
