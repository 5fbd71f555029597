package verb

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// List is the answer to a list: hubs, shared.
type List struct {
	Objects         []kind.Object
	ResourceVersion string
	Continue        string // for the next page; empty: this was the last
	Remaining       *int64 // objects after this page, where upstream knows it
}

// List returns objects in the order of their keys, a page of them if o has a
// Limit. All pages of a list are of one resourceVersion.
func (a *API) List(ctx context.Context, r request.Request, o metav1.ListOptions) (*List, error) {
	r = narrowed(r, o)
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, err
	}
	return a.list(ctx, r, o)
}

func (a *API) list(ctx context.Context, r request.Request, o metav1.ListOptions) (*List, error) {
	if o.ResourceVersion == "0" && o.Continue == "" {
		o.Limit = 0 // upstream answers this from its cache, whole
	}
	by, err := selectedBy(r, o, validListOptions)
	if err != nil {
		return nil, err
	}
	view, err := a.view(ctx, r, by, o)
	if err != nil {
		return nil, err
	}
	if err := by.prepare(r, view); err != nil {
		return nil, err
	}
	list := &List{ResourceVersion: strconv.FormatInt(view.Revision, 10)}
	if by.all() && o.Limit <= 0 {
		list.Objects = view.Slice() // without a look at each
		return list, nil
	}
	var last kind.Object
	for obj := range view.All() {
		if !by.matches(obj) {
			continue
		}
		if o.Limit > 0 && len(list.Objects) == int(o.Limit) {
			list.Continue = page{Revision: view.Revision, Start: after(last, by.namespace)}.String()
			if by.all() {
				left := int64(view.Count() - len(list.Objects))
				list.Remaining = &left
			}
			break
		}
		list.Objects, last = append(list.Objects, obj), obj
	}
	return list, nil
}

// view finds the state that a list is made of.
func (a *API) view(ctx context.Context, r request.Request, by *selected, o metav1.ListOptions) (*store.List, error) {
	opts := store.ListOptions{Namespace: by.namespace, Keep: o.Limit > 0}
	if o.Continue != "" {
		p, err := parsePage(o.Continue)
		if err != nil {
			return nil, err
		}
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return nil, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		opts.AfterNamespace, opts.AfterName = p.after(by.namespace)
		if p.Revision == inconsistent {
			if _, err := a.Store.Sync(ctx); err != nil {
				return nil, failure(r, err)
			}
			l, err := a.Store.List(r.Kind, opts)
			return l, failure(r, err)
		}
		l, err := a.Store.ListAt(ctx, r.Kind, p.Revision, opts)
		var expired *store.Expired
		if errors.As(err, &expired) {
			err = tooOld(p)
		}
		return l, failure(r, err)
	}
	if exact(o) {
		at, err := revision(o.ResourceVersion)
		if err != nil {
			return nil, err
		}
		if err := a.fresh(ctx, r, o.ResourceVersion); err != nil {
			return nil, err
		}
		l, err := a.Store.ListAt(ctx, r.Kind, at, opts)
		return l, failure(r, err)
	}
	if err := a.fresh(ctx, r, o.ResourceVersion); err != nil {
		return nil, err
	}
	if o.Limit == 0 {
		opts.Index, opts.Value = by.index, by.value
	}
	l, err := a.Store.List(r.Kind, opts)
	return l, failure(r, err)
}

// exact says whether a list is to be of precisely its resourceVersion. Without
// a match that is so for lists in pages, as it always was.
func exact(o metav1.ListOptions) bool {
	if o.ResourceVersion == "" || o.ResourceVersion == "0" {
		return false
	}
	return o.ResourceVersionMatch == metav1.ResourceVersionMatchExact || o.ResourceVersionMatch == "" && o.Limit > 0
}

// validListOptions reports what a list cannot be asked for. (Upstream:
// internalversion/validation; a negative limit is none.)
func validListOptions(o metav1.ListOptions) (errs field.ErrorList) {
	at := field.NewPath("resourceVersionMatch")
	if match := o.ResourceVersionMatch; match != "" {
		if o.ResourceVersion == "" {
			errs = append(errs, field.Forbidden(at, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
		}
		if o.Continue != "" {
			errs = append(errs, field.Forbidden(at, "resourceVersionMatch is forbidden when continue is provided"))
		}
		if match != metav1.ResourceVersionMatchExact && match != metav1.ResourceVersionMatchNotOlderThan {
			errs = append(errs, field.NotSupported(at, match,
				[]string{string(metav1.ResourceVersionMatchExact), string(metav1.ResourceVersionMatchNotOlderThan), ""}))
		}
		if match == metav1.ResourceVersionMatchExact && o.ResourceVersion == "0" {
			errs = append(errs, field.Forbidden(at, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`))
		}
	}
	if o.SendInitialEvents != nil {
		errs = append(errs, field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
	}
	return errs
}

// inconsistent as a page's revision: the list goes on with what there is now.
const inconsistent = -1

// page is a continue token, in upstream's form: the key to start at, below
// the list's prefix.
type page struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

// after is the key that follows obj's, below the prefix of a list in
// namespace.
func after(obj kind.Object, namespace string) string {
	if namespace != "" || obj.GetNamespace() == "" {
		return obj.GetName() + "\x00"
	}
	return obj.GetNamespace() + "/" + obj.GetName() + "\x00"
}

// after is the object that the page starts behind.
func (p page) after(namespace string) (ns, name string) {
	start := strings.TrimSuffix(p.Start, "\x00")
	if ns, name, ok := strings.Cut(start, "/"); ok {
		return ns, name
	}
	return namespace, start
}

func (p page) String() string {
	p.Version = "meta.k8s.io/v1"
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // two strings and a number
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePage(token string) (page, error) {
	var p page
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	switch name := strings.TrimSuffix(p.Start, "\x00"); {
	case err != nil:
	case p.Version != "meta.k8s.io/v1":
		err = errors.New("continue key is not valid: server does not recognize this encoded version " + p.Version)
	case p.Revision == 0 || p.Revision < inconsistent:
		err = errors.New("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	case name == "" || strings.Count(name, "/") > 1 || strings.Contains(name, ".."):
		err = errors.New("continue key is not valid: start key is not valid")
	}
	if err != nil {
		return page{}, apierrors.NewBadRequest(fmt.Sprintf("continue key is not valid: %v", err))
	}
	return p, nil
}

// tooOld is upstream's answer to a token whose revision is kept no more; it
// carries a token to go on with all the same.
func tooOld(p page) error {
	p.Revision = inconsistent
	err := apierrors.NewResourceExpired("The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list.")
	err.ErrStatus.ListMeta.Continue = p.String()
	return err
}
