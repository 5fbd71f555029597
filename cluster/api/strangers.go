package api

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sampan/cluster/request"
)

// strangers counts how requests are found to be somebody's. (Upstream:
// endpoints/filters/metrics.go.)
type strangers struct {
	known, refused result
	users          [len(userClasses)]atomic.Int64
}

// result counts times by the bounds resultSeconds.
type result struct {
	under [16]atomic.Int64 // the last is above all bounds
	sum   atomic.Int64     // nanoseconds
}

// resultSeconds are upstream's: from a millisecond, twice as much each.
var resultSeconds = []float64{0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384}

// userClasses are what users are told apart by, so that their number does not
// count. The last two are for names that look like addresses of mail, and for
// all others.
var userClasses = [...]string{"admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default", "email_id", "other"}

const emails, others = len(userClasses) - 2, len(userClasses) - 1

func (s *strangers) count(u request.User, err error, took time.Duration) {
	r := &s.known
	if err != nil {
		r = &s.refused
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
	i := 0
	for i < len(resultSeconds) && took.Seconds() > resultSeconds[i] {
		i++
	}
	r.under[i].Add(1)
	r.sum.Add(int64(took))
}

func (s *strangers) write(b *bytes.Buffer, head func(name, typ, help string)) {
	results := []struct {
		name string
		of   *result
	}{{"error", &s.refused}, {"success", &s.known}}
	head("authenticated_user_requests", "counter", "Counter of authenticated requests broken out by username.")
	for i, name := range userClasses {
		if n := s.users[i].Load(); n > 0 {
			fmt.Fprintf(b, "authenticated_user_requests{username=%q} %d\n", name, n)
		}
	}
	var all [2]histogram
	head("authentication_attempts", "counter", "Counter of authenticated attempts.")
	for i, r := range results {
		h := newHistogram(resultSeconds)
		for j := range r.of.under {
			n := r.of.under[j].Load()
			h.count += n
			if j < len(h.under) {
				h.under[j] = n
			}
		}
		h.sum = time.Duration(r.of.sum.Load()).Seconds()
		all[i] = *h
		if h.count > 0 {
			fmt.Fprintf(b, "authentication_attempts{result=%q} %d\n", r.name, h.count)
		}
	}
	head("authentication_duration_seconds", "histogram", "Authentication duration in seconds broken out by result.")
	for i, r := range results {
		if all[i].count > 0 {
			all[i].write(b, "authentication_duration_seconds", fmt.Sprintf("result=%q", r.name))
		}
	}
}
