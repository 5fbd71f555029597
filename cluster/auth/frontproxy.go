package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sampan/cluster/request"
)

// FrontProxy believes a proxy that authenticates users itself and names them
// in headers. The proxy proves by a certificate that it is one. (Upstream:
// apiserver/pkg/authentication/request/headerrequest, flags --requestheader-*.)
type FrontProxy struct {
	CA    *Trust
	Names []string // common names of its certificate; none: all

	// Where the user is named. The first header of UserHeaders and UIDHeaders
	// that is there counts, all of GroupHeaders.
	UserHeaders, UIDHeaders, GroupHeaders []string
	ExtraPrefixes                         []string
}

// user returns whom the proxy names; false if it is no proxy's request.
func (p *FrontProxy) user(r *http.Request, now time.Time) (u request.User, ok bool, err error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return u, false, nil
	}
	proxy, err := p.CA.user(r.TLS.PeerCertificates, now)
	if err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return u, false, nil // a user's own certificate
		}
		return u, false, err
	}
	if len(p.Names) > 0 && !slices.Contains(p.Names, proxy.Name) {
		return u, false, fmt.Errorf("x509: subject with cn=%s is not in the allowed list", proxy.Name)
	}
	u = request.User{Name: first(r.Header, p.UserHeaders), UID: first(r.Header, p.UIDHeaders)}
	if u.Name == "" {
		return request.User{}, false, nil
	}
	for _, name := range p.GroupHeaders {
		for _, g := range r.Header.Values(name) {
			if g != "" {
				u.Groups = append(u.Groups, g)
			}
		}
	}
	for _, prefix := range p.ExtraPrefixes {
		for name, values := range r.Header {
			key, ok := cutPrefixFold(name, prefix)
			if !ok {
				continue
			}
			if u.Extra == nil {
				u.Extra = map[string][]string{}
			}
			key = strings.ToLower(key)
			if text, err := url.PathUnescape(key); err == nil {
				key = text
			}
			u.Extra[key] = append(u.Extra[key], values...)
		}
	}
	p.Clear(r.Header)
	return u, true, nil
}

// Clear removes the headers by which a proxy names a user.
func (p *FrontProxy) Clear(h http.Header) {
	for _, name := range slices.Concat(p.UserHeaders, p.UIDHeaders, p.GroupHeaders) {
		h.Del(name)
	}
	for name := range h {
		for _, prefix := range p.ExtraPrefixes {
			if _, ok := cutPrefixFold(name, prefix); ok {
				delete(h, name)
			}
		}
	}
}

func first(h http.Header, names []string) string {
	for _, name := range names {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
