package auth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/request"
)

// Impersonate returns the user as whom a.User makes the request a, if they may
// act as want (`kubectl --as`). A user may be allowed to do so for some requests
// only, as somebody of a certain sort (KEP-5284); constraint is the verb that
// said so then. The verb impersonate alone allows all requests. The sorts are
// tried in upstream's order, and the first error is told. (Upstream:
// apiserver/pkg/endpoints/filters/impersonation.)
func (z *Authorizer) Impersonate(ctx context.Context, a Attributes, want request.User) (u request.User, constraint string, err error) {
	for _, m := range []mode{
		{name: "associated-node", fits: associated, blind: true},
		{name: "arbitrary-node", fits: func(_, want request.User) bool { _, ok := nodeUser(want.Name); return ok && onlyNamed(want) }},
		{name: "serviceaccount", fits: func(_, want request.User) bool { return isServiceAccount(want.Name) && onlyNamed(want) }},
		{name: "user-info", fits: func(_, want request.User) bool {
			_, node := nodeUser(want.Name)
			return !node && !isServiceAccount(want.Name)
		}},
		{}, // any, by the verb impersonate
	} {
		if m.name != "" && !m.fits(a.User, want) {
			continue
		}
		got, failed := impersonation{z: z, mode: m}.try(ctx, a, want)
		if failed == nil {
			return got, m.constraint(), nil
		}
		if err == nil {
			err = failed
		}
	}
	return request.User{}, "", err
}

// mode is a sort of users as whom one may act.
type mode struct {
	name string // empty: all sorts
	fits func(by, want request.User) bool

	// blind asks whether any node will do, without saying which: who asks is on
	// it.
	blind bool
}

func (m mode) constraint() string {
	if m.name == "" {
		return ""
	}
	return "impersonate:" + m.name
}

func (m mode) verb() string {
	if m.name == "" {
		return "impersonate"
	}
	return m.constraint()
}

func onlyNamed(u request.User) bool {
	return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0
}

func nodeUser(name string) (string, bool) {
	node, ok := strings.CutPrefix(name, nodePrefix)
	return node, ok && len(validation.NameIsDNSSubdomain(node, false)) == 0
}

func isServiceAccount(name string) bool {
	_, _, ok := SplitServiceAccount(name)
	return ok
}

// associated: a service account's pod may be allowed to act as its own node.
func associated(by, want request.User) bool {
	node, ok := nodeUser(want.Name)
	on := by.Extra["authentication.kubernetes.io/node-name"]
	return ok && onlyNamed(want) && isServiceAccount(by.Name) && len(on) == 1 && on[0] == node
}

// impersonation is one try.
type impersonation struct {
	z *Authorizer
	mode
}

func (i impersonation) try(ctx context.Context, a Attributes, want request.User) (u request.User, err error) {
	by := a.User
	if i.blind {
		by.Extra = map[string][]string{"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(by.Extra))}
	}
	a.User = by
	if i.name != "" { // may they do this, as somebody of this sort?
		a.Verb = "impersonate-on:" + i.name + ":" + a.Verb
		if err := i.may(ctx, a); err != nil {
			return u, err
		}
	}
	for _, ask := range []func(ctx context.Context, by, want request.User) error{i.user, i.uid, i.groups, i.extra} {
		if err := ask(ctx, by, want); err != nil {
			return u, err
		}
	}
	u = want
	if len(u.Groups) == 0 { // some follow from the name
		if namespace, _, ok := SplitServiceAccount(u.Name); ok {
			u.Groups = []string{ServiceAccounts, ServiceAccounts + ":" + namespace}
		} else if _, ok := nodeUser(u.Name); ok && i.name != "" {
			u.Groups = []string{Nodes}
		}
	}
	switch {
	case u.Name == Anonymous && !slices.Contains(u.Groups, Unauthenticated):
		u.Groups = append(slices.Clip(u.Groups), Unauthenticated)
	case u.Name != Anonymous && !slices.Contains(u.Groups, Unauthenticated) && !slices.Contains(u.Groups, Authenticated):
		u.Groups = append(slices.Clip(u.Groups), Authenticated)
	}
	return u, nil
}

// named is the question whether by may act as a user of whom this is true.
func (i impersonation) named(by request.User, group, resource, name string) Attributes {
	a := Attributes{User: by, Verb: i.verb(), Group: group, Version: "v1", Resource: resource, Name: name}
	if i.name != "" {
		a.Group = authenticationv1.GroupName
	}
	return a
}

func (i impersonation) user(ctx context.Context, by, u request.User) error {
	a := i.named(by, "", "users", u.Name)
	if node, ok := nodeUser(u.Name); ok && i.name != "" {
		a.Resource, a.Name = "nodes", node
		if i.blind {
			a.Name = "*"
		}
	}
	if namespace, name, ok := SplitServiceAccount(u.Name); ok {
		a.Resource, a.Namespace, a.Name = "serviceaccounts", namespace, name
	}
	return i.may(ctx, a)
}

func (i impersonation) uid(ctx context.Context, by, u request.User) error {
	if u.UID == "" {
		return nil
	}
	return i.may(ctx, i.named(by, authenticationv1.GroupName, "uids", u.UID))
}

// manyChecks is from how many groups, or extra values, on it is asked first
// whether all will do.
const manyChecks = 4

func (i impersonation) groups(ctx context.Context, by, u request.User) error {
	a := i.named(by, "", "groups", "")
	if i.name != "" {
		if slices.Contains(u.Groups, "") {
			return Forbidden(a, "impersonating the empty string group is not allowed")
		}
		if slices.Contains(u.Groups, Masters) {
			a.Name = Masters
			return Forbidden(a, "impersonating the system:masters group is not allowed")
		}
		if len(u.Groups) >= manyChecks {
			a.Name = "*"
			if i.may(ctx, a) == nil {
				return nil
			}
		}
	}
	for _, g := range u.Groups {
		a.Name = g
		if err := i.may(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (i impersonation) extra(ctx context.Context, by, u request.User) error {
	a := i.named(by, authenticationv1.GroupName, "userextras", "")
	if i.name != "" {
		values := 0
		for key, all := range u.Extra {
			if err := plausible(key, all); err != nil {
				return Forbidden(a, err.Error())
			}
			values += len(all)
		}
		if values >= manyChecks {
			all := a
			all.Subresource, all.Name = "*", "*"
			if i.may(ctx, all) == nil {
				return nil
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(u.Extra)) {
		a.Subresource = key
		for _, value := range u.Extra[key] {
			a.Name = value
			if err := i.may(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// plausible checks what old clients may send, and constrained ones not.
func plausible(key string, values []string) error {
	switch {
	case key == "":
		return fmt.Errorf("impersonating the empty string key in extra is not allowed")
	case len(values) == 0:
		return fmt.Errorf("impersonating empty values in extra is not allowed")
	case slices.Contains(values, ""):
		return fmt.Errorf("impersonating the empty string value in extra is not allowed")
	}
	if err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); err != nil {
		return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
	}
	if key != strings.ToLower(key) {
		return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
	}
	return nil
}

// may asks; a rule that cannot tell has not allowed it.
func (i impersonation) may(ctx context.Context, a Attributes) error {
	d, why, err := i.z.Decide(ctx, a)
	if d == Allow {
		return nil
	}
	switch {
	case err != nil && why != "":
		why = err.Error() + ": " + why
	case err != nil:
		why = err.Error()
	}
	return Forbidden(a, why)
}
