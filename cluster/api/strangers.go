package api

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sampan/cluster/request"
	"sampan/internal/counted"
)

// strangers counts how requests are found to be somebody's. (Upstream:
// endpoints/filters/metrics.go.)
type strangers struct {
	known, refused *counted.Values
	users          [len(userClasses)]atomic.Int64
}

func newStrangers() *strangers {
	// Upstream's bounds: from a millisecond, twice as much each.
	scale := counted.Seconds(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384)
	return &strangers{known: scale.Values(), refused: scale.Values()}
}

// userClasses are what users are told apart by, so that their number does not
// count. The last two are for names that look like addresses of mail, and for
// all others.
var userClasses = [...]string{"admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default", "email_id", "other"}

const emails, others = len(userClasses) - 2, len(userClasses) - 1

func (s *strangers) count(u request.User, err error, took time.Duration) {
	r := s.known
	if err != nil {
		r = s.refused
	} else {
		class := slices.Index(userClasses[:emails], u.Name)
		switch {
		case class >= 0:
		case strings.Contains(u.Name, "@"):
			class = emails
		default:
			class = others
		}
		s.users[class].Add(1)
	}
	r.Add(int64(took))
}

func (s *strangers) write(b *bytes.Buffer, head func(name, typ, help string)) {
	head("authenticated_user_requests", "counter", "Counter of authenticated requests broken out by username.")
	for i, name := range userClasses {
		if n := s.users[i].Load(); n > 0 {
			fmt.Fprintf(b, "authenticated_user_requests{username=%q} %d\n", name, n)
		}
	}
	results := []struct {
		name string
		of   counted.Histogram
	}{{"error", s.refused.Histogram()}, {"success", s.known.Histogram()}}
	head("authentication_attempts", "counter", "Counter of authenticated attempts.")
	for _, r := range results {
		if r.of.Count > 0 {
			fmt.Fprintf(b, "authentication_attempts{result=%q} %d\n", r.name, r.of.Count)
		}
	}
	head("authentication_duration_seconds", "histogram", "Authentication duration in seconds broken out by result.")
	for _, r := range results {
		if r.of.Count > 0 {
			r.of.Write(b, "authentication_duration_seconds", fmt.Sprintf("result=%q", r.name))
		}
	}
}
