package encrypt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
)

// provider is one way of encryption. What is authenticated together with the
// data is the key in etcd, so that a value cannot be moved to another.
type provider interface {
	seal(ctx context.Context, key, data []byte) ([]byte, error)
	open(ctx context.Context, key, stored []byte) (data []byte, stale bool, err error)
}

// chain is providers by the prefix of what they write. The first writes; each
// reads what has its prefix.
type chain struct {
	providers []prefixed
	none      error // for what has no prefix of theirs
}

type prefixed struct {
	prefix string
	provider
}

func (c *chain) seal(ctx context.Context, key, data []byte) ([]byte, error) {
	first := c.providers[0]
	sealed, err := first.seal(ctx, key, data)
	if err != nil || first.prefix == "" {
		return sealed, err
	}
	stored := make([]byte, 0, len(first.prefix)+len(sealed))
	return append(append(stored, first.prefix...), sealed...), nil
}

// open tries all whose prefix fits: while keys are rotated the same kind of
// provider may stand there twice.
func (c *chain) open(ctx context.Context, key, stored []byte) ([]byte, bool, error) {
	var errs []error
	for i, p := range c.providers {
		rest, ok := bytes.CutPrefix(stored, []byte(p.prefix))
		if !ok {
			continue
		}
		data, stale, err := p.open(ctx, key, rest)
		switch {
		case err == nil:
			return data, stale || i > 0, nil
		case p.prefix != "": // identity only says that the next are meant
			errs = append(errs, err)
		}
	}
	switch len(errs) {
	case 0:
		return nil, false, c.none
	case 1:
		return nil, false, errs[0]
	}
	return nil, false, errors.Join(errs...)
}

// identity stores data as it is. It refuses to take encrypted data for that.
type identity struct{}

func (identity) seal(_ context.Context, _, data []byte) ([]byte, error) { return data, nil }

func (identity) open(_ context.Context, _, stored []byte) ([]byte, bool, error) {
	if bytes.HasPrefix(stored, []byte(reserved)) {
		return nil, false, errIdentity
	}
	return stored, false, nil
}

// reserved begins all that is encrypted. Neither JSON nor protobuf begins so.
const reserved = "k8s:enc:"

var errIdentity = errors.New("identity transformer tried to read encrypted data")

// everything is the rule for all resources.
var everything = schema.GroupResource{Group: "*", Resource: "*"}

// table says how each resource is stored. It is never written to once built.
type table struct {
	rules   map[schema.GroupResource]*chain
	plugins []*kms
}

// of returns the rule for a resource, nil if there is none.
func (t *table) of(gr schema.GroupResource) *chain {
	if c := t.rules[gr]; c != nil {
		return c
	}
	if c := t.rules[schema.GroupResource{Group: gr.Group, Resource: "*"}]; c != nil {
		return c
	}
	return t.rules[everything]
}

// poll keeps the plugins' keys fresh until ctx ends; then the channel closes.
func (t *table) poll(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, k := range t.plugins {
		all.Go(func() { k.poll(ctx) })
	}
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// grace is how long calls may last that have begun with this table.
func (t *table) grace() (d time.Duration) {
	for _, k := range t.plugins {
		d += 2 * k.timeout
	}
	return d
}

func (t *table) close() {
	for _, k := range t.plugins {
		k.close()
	}
}

// build makes a table of a configuration that was found right. each is called
// for every plugin before it is used.
func build(config *apiserverv1.EncryptionConfiguration, each func(*kms)) (*table, error) {
	t := &table{rules: map[schema.GroupResource]*chain{}}
	for _, rule := range config.Resources {
		providers, plugins, err := providersOf(rule.Providers)
		if err != nil {
			return nil, err
		}
		for _, k := range plugins {
			each(k)
		}
		t.plugins = append(t.plugins, plugins...)
		for _, name := range rule.Resources {
			gr := schema.ParseGroupResource(name)
			for _, wide := range []schema.GroupResource{{Group: gr.Group, Resource: "*"}, everything} {
				if t.rules[wide] != nil {
					return nil, fmt.Errorf("resource %q is masked by earlier rule %q", inYAML(gr), inYAML(wide))
				}
			}
			c := t.rules[gr]
			if c == nil {
				c = &chain{none: errors.New("no matching prefix found")}
				t.rules[gr] = c
			}
			c.providers = append(c.providers, providers...)
		}
	}
	return t, nil
}

func inYAML(gr schema.GroupResource) string {
	if gr.Group == "" && gr.Resource == "*" {
		return "*."
	}
	return gr.String()
}

func providersOf(configs []apiserverv1.ProviderConfiguration) (all []prefixed, plugins []*kms, err error) {
	for _, p := range configs {
		var one prefixed
		switch {
		case p.AESGCM != nil:
			one.prefix = reserved + "aesgcm:v1:"
			one.provider, err = keyed(p.AESGCM.Keys, "AES", newGCM)
		case p.AESCBC != nil:
			one.prefix = reserved + "aescbc:v1:"
			one.provider, err = keyed(p.AESCBC.Keys, "AES", newCBC)
		case p.Secretbox != nil:
			one.prefix = reserved + "secretbox:v1:"
			one.provider, err = keyed(p.Secretbox.Keys, "Secretbox", newSecretbox)
		case p.KMS != nil:
			one.prefix = reserved + "kms:v2:" + p.KMS.Name + ":"
			var k *kms
			if k, err = newKMS(p.KMS); err == nil {
				one.provider, plugins = k, append(plugins, k)
			}
		default:
			one.provider = identity{}
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, one)
	}
	return all, plugins, nil
}

// keyed is a chain of one cipher with several keys, by their names.
func keyed(keys []apiserverv1.Key, what string, cipher func(key []byte) (provider, error)) (provider, error) {
	c := &chain{none: fmt.Errorf("no matching key was found for the provided %s transformer", what)}
	for _, k := range keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("could not obtain secret for named key %s: %w", k.Name, err)
		}
		p, err := cipher(secret)
		if err != nil {
			return nil, fmt.Errorf("error while creating cipher for named key %s: %w", k.Name, err)
		}
		c.providers = append(c.providers, prefixed{k.Name + ":", p})
	}
	return c, nil
}
