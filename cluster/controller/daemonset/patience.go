package daemonset

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// How long a failed pod stays before it is replaced: this long after the first
// one of a node was, and twice as long each time. A node that refuses a pod
// would otherwise keep us busy. The times are upstream's.
const (
	firstWait = time.Second
	maxWait   = 15 * time.Minute
)

// attempt is a daemon set's try on one node. Another generation tries anew.
type attempt struct {
	uid        types.UID
	generation int64
	node       string
}

// patience remembers which pods have failed lately. The zero value is ready.
type patience struct {
	mu    sync.Mutex // guards known
	known map[attempt]strike
}

type strike struct {
	at   time.Time
	wait time.Duration
}

// wait is how long a failed pod is to stay, 0 if it is to be replaced.
func (p *patience) wait(a attempt, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, known := p.known[a]
	if !known || now.Sub(s.at) > 2*maxWait {
		return 0
	}
	return max(s.wait-now.Sub(s.at), 0)
}

// failed notes that a failed pod is being replaced.
func (p *patience) failed(a attempt, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.known, func(_ attempt, s strike) bool { return now.Sub(s.at) > 2*maxWait })
	if p.known == nil {
		p.known = map[attempt]strike{}
	}
	s := strike{now, firstWait}
	if before, known := p.known[a]; known {
		s.wait = min(2*before.wait, maxWait)
	}
	p.known[a] = s
}
