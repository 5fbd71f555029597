package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of what an issuer says about itself, how often it is asked for keys
// that it did not have, and how long it is left alone after it gave no answer.
const (
	maxDocument = 1 << 20
	keysAfter   = 10 * time.Second
	againAfter  = 10 * time.Second
)

// errNotInitialized is upstream's for an issuer that has not answered yet.
var errNotInitialized = errors.New("oidc: authenticator not initialized")

// provider is an issuer of tokens as it describes itself: where its keys are,
// and the keys. Both are fetched when a token is to be checked, and kept; keys
// again when a token names one that is not among them. It is safe for concurrent
// use.
type provider struct {
	issuer     string
	discovery  string // where it describes itself
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	now        func() time.Time

	// asking is held by the one who asks the issuer; others wait, and find the
	// answer. It is taken before mu.
	asking chan struct{}

	mu      sync.Mutex // guards all below
	keysURL string
	keys    []jose.JSONWebKey // replaced, never written to
	fetched time.Time         // when keys were asked for
	failed  time.Time         // when it gave no answer
	err     error             // why
}

func newProvider(issuer, discovery string, algorithms []jose.SignatureAlgorithm, client *http.Client, now func() time.Time) *provider {
	if discovery == "" {
		discovery = strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	}
	return &provider{issuer: issuer, discovery: discovery, algorithms: algorithms, client: client, now: now, asking: make(chan struct{}, 1)}
}

// ready returns when the issuer has described itself and its keys are there.
func (p *provider) ready(ctx context.Context) error {
	_, err := p.current(ctx)
	return err
}

// verify returns what a token of this issuer says. Nothing but the signature is
// checked.
func (p *provider) verify(ctx context.Context, token string) ([]byte, error) {
	sig, err := jose.ParseSignedCompact(token, p.algorithms)
	if err != nil {
		return nil, fmt.Errorf("oidc: malformed jwt: %v", err)
	}
	keys, err := p.current(ctx)
	if err != nil {
		return nil, err
	}
	if payload := check(sig, keys); payload != nil {
		return payload, nil
	}
	if keys, err = p.newer(ctx); err != nil {
		return nil, fmt.Errorf("fetching keys %w", err)
	}
	if payload := check(sig, keys); payload != nil {
		return payload, nil
	}
	return nil, errors.New("failed to verify id token signature")
}

// check tries the keys that the token may mean.
func check(sig *jose.JSONWebSignature, keys []jose.JSONWebKey) []byte {
	id := sig.Signatures[0].Header.KeyID
	for _, k := range keys {
		if id != "" && k.KeyID != id || k.Use != "" && k.Use != "sig" {
			continue
		}
		if payload, err := sig.Verify(k.Key); err == nil {
			return payload
		}
	}
	return nil
}

// current are the keys as they are known; they are fetched if they are not.
func (p *provider) current(ctx context.Context) ([]jose.JSONWebKey, error) {
	if keys := p.have(); keys != nil {
		return keys, nil
	}
	return p.ask(ctx, func() bool { return p.have() == nil })
}

// newer are the keys as the issuer has them now; as they are known if it was
// asked a moment ago.
func (p *provider) newer(ctx context.Context) ([]jose.JSONWebKey, error) {
	return p.ask(ctx, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now().Sub(p.fetched) >= keysAfter
	})
}

func (p *provider) have() []jose.JSONWebKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys
}

// ask fetches the keys if that is still needed when it is this one's turn.
func (p *provider) ask(ctx context.Context, needed func() bool) ([]jose.JSONWebKey, error) {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !needed() {
		return p.have(), nil
	}
	p.mu.Lock()
	keysURL, failed, err := p.keysURL, p.failed, p.err
	p.mu.Unlock()
	now := p.now()
	if err != nil && now.Sub(failed) < againAfter {
		return nil, fmt.Errorf("%w: %w", errNotInitialized, err)
	}
	if keysURL == "" {
		keysURL, err = p.describe(ctx)
	} else {
		err = nil
	}
	var keys []jose.JSONWebKey
	if err == nil {
		keys, err = p.fetch(ctx, keysURL)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched, p.err = now, err
	if keysURL != "" {
		p.keysURL = keysURL
	}
	if err != nil {
		if ctx.Err() != nil {
			p.err = nil // the client went away: that says nothing of the issuer
		}
		p.failed = now
		return nil, fmt.Errorf("%w: %w", errNotInitialized, err)
	}
	p.keys = keys
	return keys, nil
}

// describe asks where the keys are. (OpenID Connect Discovery 1.0, section 4.)
func (p *provider) describe(ctx context.Context) (string, error) {
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := p.get(ctx, p.discovery, &doc); err != nil {
		return "", err
	}
	if doc.Issuer != p.issuer {
		return "", fmt.Errorf("oidc: issuer did not match the issuer returned by provider, expected %q got %q", p.issuer, doc.Issuer)
	}
	if doc.Keys == "" {
		return "", errors.New("provider did not return JWKS URL")
	}
	return doc.Keys, nil
}

// fetch reads the keys. One of a sort that is not known is left out, as RFC
// 7517, section 5, has it.
func (p *provider) fetch(ctx context.Context, from string) ([]jose.JSONWebKey, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := p.get(ctx, from, &doc); err != nil {
		return nil, err
	}
	keys := []jose.JSONWebKey{}
	for _, data := range doc.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(data) == nil && k.IsPublic() {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (p *provider) get(ctx context.Context, from string, into any) error {
	data, err := get(ctx, p.client, from, "")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("oidc: failed to decode %s: %v", from, err)
	}
	return nil
}

// get reads a document of bounded size.
func get(ctx context.Context, client *http.Client, from, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("unable to read response body: %v", err)
	}
	if resp.StatusCode != http.StatusOK {
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		return nil, fmt.Errorf("%s: %s (%s, %d bytes)", from, resp.Status, kind, len(data))
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s: larger than %d bytes", from, maxDocument)
	}
	return data, nil
}
