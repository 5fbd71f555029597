// Package bootstraptoken reads Secrets of the type
// bootstrap.kubernetes.io/token: short-lived credentials of machines that join,
// `ID.SECRET`, kept as kube-system/bootstrap-token-ID. What such a secret says
// is read here once, for whoever takes it for a credential, signs with it or
// deletes it. (Upstream: k8s.io/cluster-bootstrap.)
//
// It decides nothing about requests.
package bootstraptoken

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Type is the type of the secrets.
const Type corev1.SecretType = "bootstrap.kubernetes.io/token"

// NamePrefix is what the secrets' names begin with; the rest is the token's ID.
const NamePrefix = "bootstrap-token-"

// UserPrefix is what the names of the tokens' users begin with.
const UserPrefix = "system:bootstrap:"

// Group is the group that all of these users are in.
const Group = "system:bootstrappers"

// Keys of the secrets' data.
const (
	KeyID             = "token-id"
	KeySecret         = "token-secret"
	KeyExpiration     = "expiration" // RFC 3339
	KeyGroups         = "auth-extra-groups"
	KeyAuthentication = "usage-bootstrap-authentication"
	KeySigning        = "usage-bootstrap-signing"
)

// groupPattern is how the names of further groups look, in errors too.
const groupPattern = `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`

var group = regexp.MustCompile(groupPattern)

const idLength, secretLength = 6, 16

// Split takes a token apart. It is false for what does not look like one.
func Split(token string) (id, secret string, ok bool) {
	id, secret, ok = strings.Cut(token, ".")
	return id, secret, ok && wellFormed(id, idLength) && wellFormed(secret, secretLength)
}

// ID is the token that a secret of this name is about.
func ID(name string) (string, bool) {
	id, ok := strings.CutPrefix(name, NamePrefix)
	return id, ok && wellFormed(id, idLength)
}

func wellFormed(s string, length int) bool {
	if len(s) != length {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Left is how long a token is still good; zero for one without an end. A time
// that does not read counts as over.
func Left(s *corev1.Secret, now time.Time) (left time.Duration, over bool) {
	text := string(s.Data[KeyExpiration])
	if text == "" {
		return 0, false
	}
	end, err := time.Parse(time.RFC3339, text)
	if err != nil || !end.After(now) {
		return 0, true
	}
	return end.Sub(now), false
}

// Groups are the groups of the token's user, in order.
func Groups(s *corev1.Secret) ([]string, error) {
	all := []string{Group}
	further := string(s.Data[KeyGroups])
	if further == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(further, ",") {
		if !group.MatchString(name) {
			return nil, fmt.Errorf("bootstrap group %q is invalid (must match %s)", name, groupPattern)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Signs is the token with which the cluster's information is to be signed, if
// that is what the secret is for and it is good.
func Signs(s *corev1.Secret, now time.Time) (id, secret string, ok bool) {
	name, named := ID(s.Name)
	id, secret = string(s.Data[KeyID]), string(s.Data[KeySecret])
	if !named || s.Type != Type || id != name || secret == "" || string(s.Data[KeySigning]) != "true" {
		return "", "", false
	}
	if _, over := Left(s, now); over {
		return "", "", false
	}
	return id, secret, true
}
