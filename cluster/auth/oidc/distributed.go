package oidc

import (
	"context"
	"encoding/json"
	"fmt"

	"sampan/cluster/auth"
)

// maxOthers bounds from how many further issuers a claim may come; beyond it
// all are forgotten at once.
const maxOthers = 16

// expand fetches a claim that is not in the token but where the token says.
// (OpenID Connect Core 1.0, section 5.6.2.)
func (i *Issuer) expand(ctx context.Context, c claims, name string) error {
	if _, ok := c[name]; ok {
		return nil
	}
	if _, ok := c["_claim_names"]; !ok {
		return nil
	}
	names := map[string]string{}
	if err := c.read("_claim_names", &names); err != nil {
		return fmt.Errorf("oidc: error parsing distributed claim names: %v", err)
	}
	var sources map[string]struct {
		Endpoint    string `json:"endpoint"`
		AccessToken string `json:"access_token"`
	}
	if _, ok := c["_claim_sources"]; !ok {
		return fmt.Errorf("oidc: no claim sources")
	}
	if err := c.read("_claim_sources", &sources); err != nil {
		return fmt.Errorf("oidc: could not parse claim sources: %v", err)
	}
	from, ok := names[name]
	if !ok {
		return nil
	}
	source, ok := sources[from]
	if !ok {
		return fmt.Errorf("id token _claim_names contained a source %s missing in _claims_sources", from)
	}
	if source.Endpoint == "" { // aggregated: within the token, which upstream does not read either
		return nil
	}
	token, err := get(ctx, i.provider.client, source.Endpoint, source.AccessToken)
	if err != nil {
		return fmt.Errorf("while getting distributed claim %q: %v", name, err)
	}
	issuer := auth.UncheckedIssuer(string(token))
	if issuer == "" {
		return fmt.Errorf("getting untrusted issuer from endpoint %v failed for claim %q: malformed token", source.Endpoint, name)
	}
	payload, err := i.verify(ctx, i.other(canonical(issuer)), string(token))
	if err != nil {
		return fmt.Errorf("verify distributed claim token: %v", err)
	}
	var there claims
	if err := json.Unmarshal(payload, &there); err != nil {
		return fmt.Errorf("could not parse distributed claims for claim %v: %v", name, err)
	}
	value, ok := there[name]
	if !ok {
		return fmt.Errorf("jwt returned by distributed claim endpoint %q did not contain claim: %v", source.Endpoint, name)
	}
	c[name] = value
	return nil
}

// other is an issuer that a token of this one sends to.
func (i *Issuer) other(issuer string) *provider {
	if issuer == i.provider.issuer {
		return i.provider
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.others[issuer]
	if p == nil {
		if i.others == nil || len(i.others) >= maxOthers {
			i.others = map[string]*provider{}
		}
		p = newProvider(issuer, "", i.provider.algorithms, i.provider.client, i.provider.now)
		i.others[issuer] = p
	}
	return p
}
