package aggregate

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
)

// Trust is what a server behind this one has to know: by which authority
// users' certificates are signed, and whom to believe in others' names.
type Trust struct {
	ClientCA string   // PEM
	ProxyCA  string   // PEM
	Names    []string // of the certificates signed by ProxyCA that are believed; none: all

	// Proxies are those in front of this server whom it believes itself, as
	// --requestheader-* says. Nil: there are none.
	Proxies *Proxies
}

// Proxies are by which certificates they are known, and in which headers they
// name users.
type Proxies struct {
	CA                                                   string   // PEM
	Names                                                []string // none: all
	UserHeaders, UIDHeaders, GroupHeaders, ExtraPrefixes []string
}

const trustName = "extension-apiserver-authentication"

// followTrust tells when somebody changes the ConfigMap with the Trust.
func (a *Aggregator) followTrust(ctx context.Context, seen func()) error {
	q := client.Query{Namespace: metav1.NamespaceSystem, Name: trustName}
	return client.Follow(ctx, a.cfg.Client, q, func(e client.Change[*corev1.ConfigMap]) {
		a.trust.Add(trustName)
		if e.Type == client.Synced {
			seen()
		}
	})
}

// publishTrust writes the ConfigMap that other servers read. What others have
// added stays, so that several servers can share it. (Upstream:
// pkg/controlplane/controller/clusterauthenticationtrust.)
func (a *Aggregator) publishTrust(ctx context.Context, name string) (time.Duration, error) {
	have, err := client.Get[*corev1.ConfigMap](ctx, a.cfg.Client, metav1.NamespaceSystem, name)
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, a.cfg.Client, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}, Data: a.cfg.Trust.in(nil)})
	case err == nil:
		data := a.cfg.Trust.in(have.Data)
		if maps.Equal(data, have.Data) {
			return 0, nil
		}
		next := have.DeepCopy()
		next.Data = data
		_, err = client.Update(ctx, a.cfg.Client, next)
	}
	return 0, err
}

// in is the ConfigMap's data with t in it.
func (t Trust) in(have map[string]string) map[string]string {
	p := t.Proxies
	if p == nil {
		p = &Proxies{}
	}
	out := map[string]string{}
	for key, all := range map[string][]string{"client-ca-file": {t.ClientCA}, "requestheader-client-ca-file": {t.ProxyCA, p.CA}} {
		out[key] = have[key]
		for _, pem := range all {
			if !strings.Contains(out[key], strings.TrimSpace(pem)) {
				out[key] += pem
			}
		}
	}
	names := append(slices.Clone(t.Names), p.Names...)
	if t.Proxies != nil && len(p.Names) == 0 {
		names = nil // whoever has a certificate; our own authority signs for one name only
	}
	for key, values := range map[string][]string{
		"requestheader-username-headers":     append([]string{UserHeader}, p.UserHeaders...),
		"requestheader-uid-headers":          append([]string{UIDHeader}, p.UIDHeaders...),
		"requestheader-group-headers":        append([]string{GroupHeader}, p.GroupHeaders...),
		"requestheader-extra-headers-prefix": append([]string{ExtraPrefix}, p.ExtraPrefixes...),
		"requestheader-allowed-names":        names,
	} {
		var all []string
		if json.Unmarshal([]byte(have[key]), &all) != nil {
			all = nil // nothing that anybody could read
		}
		for _, v := range values {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
		if all == nil || len(values) == 0 {
			all = []string{} // all names
		}
		text, err := json.Marshal(all)
		if err != nil {
			continue // strings always have a form
		}
		out[key] = string(text)
	}
	return out
}
