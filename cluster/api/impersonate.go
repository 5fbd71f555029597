package api

import (
	"net/http"
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
			return apierrors.NewInternalError(errImpersonation)
		}
		return nil
	}
	asked := []auth.Attributes{{Resource: "users", Name: name}}
	if ns, sa, ok := auth.SplitServiceAccount(name); ok {
		asked[0] = auth.Attributes{Resource: "serviceaccounts", Namespace: ns, Name: sa}
	}
	for _, g := range groups {
		asked = append(asked, auth.Attributes{Resource: "groups", Name: g})
	}
	if uid != "" {
		asked = append(asked, auth.Attributes{Group: "authentication.k8s.io", Version: "v1", Resource: "uids", Name: uid})
	}
	for k, values := range extra {
		for _, v := range values {
			asked = append(asked, auth.Attributes{Group: "authentication.k8s.io", Version: "v1", Resource: "userextras", Subresource: k, Name: v})
		}
	}
	for _, a := range asked {
		a.User, a.Verb = c.user, "impersonate"
		if err := c.s.cfg.Authorizer.Check(c.r.Context(), a); err != nil {
			return err
		}
	}
	c.user = impersonated(name, groups, uid, extra)
	if c.record != nil {
		c.record.Impersonate(auditUser(c.user))
	}
	for key := range h {
		if strings.HasPrefix(key, "Impersonate-") {
			h.Del(key)
		}
	}
	return nil
}

func impersonated(name string, groups []string, uid string, extra map[string][]string) request.User {
	u := request.User{Name: name, UID: uid, Groups: slices.Clone(groups), Extra: extra}
	if ns, sa, ok := auth.SplitServiceAccount(name); ok && len(groups) == 0 {
		u.Groups = auth.ServiceAccount(ns, sa).Groups
	}
	implied := auth.Authenticated
	if name == auth.Anonymous {
		implied = auth.Unauthenticated
	}
	if !slices.Contains(u.Groups, implied) {
		u.Groups = append(u.Groups, implied)
	}
	return u
}

var errImpersonation = &http.ProtocolError{ErrorString: "requested impersonation of groups, a uid or extra fields without impersonating a user"}
