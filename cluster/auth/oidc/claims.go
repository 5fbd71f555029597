package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	celgo "github.com/google/cel-go/cel"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/cel/lazy"

	"sampan/cluster/request"
)

// claims are what a token says, by name.
type claims map[string]json.RawMessage

func (c claims) read(name string, into any) error {
	data, ok := c[name]
	if !ok {
		return errors.New("claim not present")
	}
	return json.Unmarshal(data, into)
}

// oneOrMore is a list of strings, or one alone.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(o))
}

// numericDate is a time as seconds since 1970. (RFC 7519, section 2.)
type numericDate struct{ time.Time }

func (d *numericDate) UnmarshalJSON(data []byte) error {
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return err
	}
	if math.Abs(seconds) > 1<<53 { // beyond it they are not whole, and no date
		return fmt.Errorf("%s is not a time", data)
	}
	d.Time = time.Unix(int64(seconds), 0)
	return nil
}

// user maps claims to a user, and holds both to the rules.
func (i *Issuer) user(ctx context.Context, c claims) (u request.User, err error) {
	var value *lazy.MapValue
	if m := i.mapper; m.Username != nil || m.Groups != nil || m.UID != nil || m.Extra != nil || m.ClaimValidationRules != nil {
		value = claimsValue(c) // one for all expressions
	}
	if u.Name, err = i.username(ctx, c, value); err != nil {
		return u, err
	}
	if u.Groups, err = i.groups(ctx, c, value); err != nil {
		return u, err
	}
	if u.UID, err = i.uid(ctx, c, value); err != nil {
		return u, err
	}
	if u.Extra, err = i.extra(ctx, c, value); err != nil {
		return u, err
	}
	for _, rule := range i.jwt.ClaimValidationRules {
		if rule.Claim == "" {
			continue
		}
		if _, ok := c[rule.Claim]; !ok {
			return u, fmt.Errorf("oidc: required claim %s not present in ID token", rule.Claim)
		}
		var got string
		if err := c.read(rule.Claim, &got); err != nil {
			return u, fmt.Errorf("oidc: parse claim %s: %w", rule.Claim, err)
		}
		if got != rule.RequiredValue {
			return u, fmt.Errorf("oidc: required claim %s value does not match. Got = %s, want = %s", rule.Claim, got, rule.RequiredValue)
		}
	}
	if rules := i.mapper.ClaimValidationRules; rules != nil {
		results, err := rules.EvalClaimMappings(ctx, value)
		if err == nil {
			err = hold(results)
		}
		if err != nil {
			return u, fmt.Errorf("oidc: error evaluating claim validation expression: %w", err)
		}
	}
	if rules := i.mapper.UserValidationRules; rules != nil {
		results, err := rules.EvalUser(ctx, userValue(u))
		if err == nil {
			err = hold(results)
		}
		if err != nil {
			return u, fmt.Errorf("oidc: error evaluating user info validation rule: %w", err)
		}
	}
	return u, nil
}

func (i *Issuer) username(ctx context.Context, c claims, value *lazy.MapValue) (string, error) {
	if m := i.mapper.Username; m != nil {
		name, err := text(ctx, m, value, "username")
		if err == nil && name == "" {
			err = errors.New("oidc: empty username via CEL expression is not allowed")
		}
		return name, err
	}
	from := i.jwt.ClaimMappings.Username
	var name string
	if err := c.read(from.Claim, &name); err != nil {
		return "", fmt.Errorf("oidc: parse username claims %q: %v", from.Claim, err)
	}
	if _, said := c["email_verified"]; said && from.Claim == "email" {
		var verified bool
		if err := c.read("email_verified", &verified); err != nil {
			return "", fmt.Errorf("oidc: parse 'email_verified' claim: %v", err)
		}
		if !verified {
			return "", errors.New("oidc: email not verified")
		}
	}
	return prefixed(from.Prefix, name), nil
}

func prefixed(prefix *string, name string) string {
	if prefix == nil {
		return name
	}
	return *prefix + name
}

func (i *Issuer) groups(ctx context.Context, c claims, value *lazy.MapValue) ([]string, error) {
	if from := i.jwt.ClaimMappings.Groups; from.Claim != "" {
		if _, ok := c[from.Claim]; ok {
			var names oneOrMore
			if err := c.read(from.Claim, &names); err != nil {
				return nil, fmt.Errorf("oidc: parse groups claim %q: %w", from.Claim, err)
			}
			for n := range names {
				names[n] = prefixed(from.Prefix, names[n])
			}
			return names, nil
		}
	}
	if i.mapper.Groups == nil {
		return nil, nil
	}
	result, err := i.mapper.Groups.EvalClaimMapping(ctx, value)
	var names []string
	if err == nil {
		names, err = stringsOf(result.EvalResult)
	}
	if err != nil {
		return nil, fmt.Errorf("oidc: error evaluating group claim expression: %w", err)
	}
	return names, nil
}

func (i *Issuer) uid(ctx context.Context, c claims, value *lazy.MapValue) (string, error) {
	if name := i.jwt.ClaimMappings.UID.Claim; name != "" {
		var uid string
		if err := c.read(name, &uid); err != nil {
			return "", fmt.Errorf("oidc: parse uid claim %q: %w", name, err)
		}
		return uid, nil
	}
	if i.mapper.UID == nil {
		return "", nil
	}
	return text(ctx, i.mapper.UID, value, "uid")
}

// text evaluates an expression that must give a string.
func text(ctx context.Context, m authenticationcel.ClaimsMapper, value *lazy.MapValue, what string) (string, error) {
	result, err := m.EvalClaimMapping(ctx, value)
	if err != nil {
		return "", fmt.Errorf("oidc: error evaluating %s claim expression: %w", what, err)
	}
	s, ok := result.EvalResult.Value().(string)
	if !ok || result.EvalResult.Type() != celgo.StringType {
		return "", fmt.Errorf("oidc: error evaluating %s claim expression: %s claim expression must return a string", what, what)
	}
	return s, nil
}

func (i *Issuer) extra(ctx context.Context, c claims, value *lazy.MapValue) (map[string][]string, error) {
	extra := map[string][]string{}
	var id string
	if c.read("jti", &id) == nil && id != "" {
		extra["authentication.kubernetes.io/credential-id"] = []string{"JTI=" + id}
	}
	if i.mapper.Extra != nil {
		results, err := i.mapper.Extra.EvalClaimMappings(ctx, value)
		if err != nil {
			return nil, err
		}
		for _, r := range results {
			m, ok := r.ExpressionAccessor.(*authenticationcel.ExtraMappingExpression)
			if !ok {
				return nil, fmt.Errorf("oidc: error evaluating extra claim expression: unexpected %T", r.ExpressionAccessor)
			}
			values, err := stringsOf(r.EvalResult)
			if err != nil {
				return nil, fmt.Errorf("oidc: error evaluating extra claim expression: %s: %w", m.Expression, err)
			}
			if len(values) > 0 {
				extra[m.Key] = values
			}
		}
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

// hold says which of the rules does not hold.
func hold(results []authenticationcel.EvaluationResult) error {
	for _, r := range results {
		holds, ok := r.EvalResult.Value().(bool)
		if !ok {
			return errors.New("validation expression must return a boolean")
		}
		if holds {
			continue
		}
		message := ""
		switch rule := r.ExpressionAccessor.(type) {
		case *authenticationcel.ClaimValidationCondition:
			message = rule.Message
		case *authenticationcel.UserValidationCondition:
			message = rule.Message
		}
		return fmt.Errorf("validation expression '%s' failed: %s", r.ExpressionAccessor.GetExpression(), message)
	}
	return nil
}
