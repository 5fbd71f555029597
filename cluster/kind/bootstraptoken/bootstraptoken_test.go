package bootstraptoken

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSplit(t *testing.T) {
	for token, want := range map[string]bool{
		"abcdef.0123456789abcdef": true, "abcdef.0123456789abcde": false, "abcdeF.0123456789abcdef": false,
		"abcdef.0123456789abcdeF": false, "abcde.f0123456789abcdef": false, "abcdef0123456789abcdef": false,
		"": false, ".": false, "abcdef.0123456789abcdef.": false,
	} {
		if id, secret, ok := Split(token); ok != want || ok && (id != "abcdef" || secret != "0123456789abcdef") {
			t.Errorf("%q: %q, %q, %v", token, id, secret, ok)
		}
	}
}

func TestWhatASecretSays(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		it     string
		name   string
		change func(*corev1.Secret)
		signs  bool
		left   time.Duration
		groups []string // nil: an error
	}{
		{it: "signs", signs: true, groups: []string{Group}},
		{it: "signs until its end", change: func(s *corev1.Secret) { s.Data[KeyExpiration] = []byte("2026-11-21T13:00:00+01:00") }, groups: []string{Group}},
		{it: "has an hour", change: func(s *corev1.Secret) { s.Data[KeyExpiration] = []byte("2026-11-21T13:00:00Z") }, signs: true, left: time.Hour, groups: []string{Group}},
		{it: "takes a time that does not read for one that is over", change: func(s *corev1.Secret) { s.Data[KeyExpiration] = []byte("soon") }, groups: []string{Group}},
		{it: "wants the name to be of the token", name: "bootstrap-token-fedcba", groups: []string{Group}},
		{it: "wants the type", change: func(s *corev1.Secret) { s.Type = "Opaque" }, groups: []string{Group}},
		{it: "wants the usage", change: func(s *corev1.Secret) { delete(s.Data, KeySigning) }, groups: []string{Group}},
		{it: "gives further groups once each", change: func(s *corev1.Secret) {
			s.Data[KeyGroups] = []byte("system:bootstrappers:b,system:bootstrappers:a,system:bootstrappers:b")
		}, signs: true, groups: []string{Group, "system:bootstrappers:a", "system:bootstrappers:b"}},
		{it: "gives no other groups", change: func(s *corev1.Secret) { s.Data[KeyGroups] = []byte("system:masters") }, signs: true},
	} {
		t.Run(c.it, func(t *testing.T) {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-abcdef"}, Type: Type, Data: map[string][]byte{
				KeyID: []byte("abcdef"), KeySecret: []byte("0123456789abcdef"), KeySigning: []byte("true")}}
			if c.name != "" {
				s.Name = c.name
			}
			if c.change != nil {
				c.change(s)
			}
			if _, _, ok := Signs(s, now); ok != c.signs {
				t.Errorf("signs: %v", ok)
			}
			if left, _ := Left(s, now); left != c.left {
				t.Errorf("left: %v", left)
			}
			groups, err := Groups(s)
			if (err != nil) != (c.groups == nil) || !slices.Equal(groups, c.groups) {
				t.Errorf("groups: %v, %v", groups, err)
			}
		})
	}
}
