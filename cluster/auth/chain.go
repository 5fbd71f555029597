package auth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// TokenChain asks one after the other whose a token is: the first that knows
// counts, the errors of all others do not. (Upstream:
// apiserver/pkg/authentication/token/union.)
type TokenChain []TokenAuthenticator

// AuthenticateToken implements TokenAuthenticator.
func (c TokenChain) AuthenticateToken(ctx context.Context, token string, wanted []string) (*Identity, error) {
	var failed []error
	for _, a := range c {
		id, err := a.AuthenticateToken(ctx, token, wanted)
		if err == nil && id != nil {
			return id, nil
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return nil, utilerrors.NewAggregate(failed)
}

// ForAudiences is a check of tokens that say nothing of audiences: they are
// good for those given, which are this API server's.
type ForAudiences struct {
	Audiences []string
	Of        TokenAuthenticator
}

// AuthenticateToken implements TokenAuthenticator.
func (f ForAudiences) AuthenticateToken(ctx context.Context, token string, wanted []string) (*Identity, error) {
	good := f.Audiences
	if len(wanted) > 0 {
		if good = Common(wanted, f.Audiences); len(good) == 0 {
			return nil, nil
		}
	}
	id, err := f.Of.AuthenticateToken(ctx, token, nil)
	if err != nil || id == nil {
		return nil, err
	}
	return &Identity{User: id.User, Audiences: good}, nil
}

// Common are the audiences wanted that are among those had.
func Common(wanted, had []string) (both []string) {
	for _, a := range wanted {
		if slices.Contains(had, a) {
			both = append(both, a)
		}
	}
	return both
}

// Cached remembers for a while what somebody slow said of a token. It keeps
// hashes of tokens, not tokens. Clients that ask about the same one at the same
// time wait for one answer. (Upstream:
// apiserver/pkg/authentication/token/cache.)
type Cached struct {
	Of TokenAuthenticator

	// How long answers count; zero: not at all. Errors says whether an error is
	// an answer: not where it may be that nobody could be asked.
	Success, Failure time.Duration
	Errors           bool

	Now func() time.Time // default: time.Now

	asking singleflight.Group

	mu   sync.Mutex // guards all below
	good map[[sha256.Size]byte]answer
	not  map[[sha256.Size]byte]answer
}

// answer is of the past: it is never written to.
type answer struct {
	id    *Identity
	err   error
	until time.Time
}

// answersLimit bounds how many answers of each sort are remembered. What is
// over goes first, then all: tokens that somebody makes up do not push out good
// ones.
const answersLimit = 4096

// lookupTime bounds an answer that several may wait for.
const lookupTime = 30 * time.Second

// AuthenticateToken implements TokenAuthenticator.
func (c *Cached) AuthenticateToken(ctx context.Context, token string, wanted []string) (*Identity, error) {
	key := tokenKey(token, wanted)
	if known, ok := c.known(key); ok {
		return known.id, known.err
	}
	// The one who asks may go away while others wait.
	asked := c.asking.DoChan(string(key[:]), func() (any, error) {
		if known, ok := c.known(key); ok {
			return known, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTime)
		defer cancel()
		id, err := c.ask(ctx, token, wanted)
		return c.remember(key, id, err), nil
	})
	select {
	case said := <-asked:
		a := said.Val.(answer)
		return a.id, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask turns a panic into an error: it would be in nobody's request.
func (c *Cached) ask(ctx context.Context, token string, wanted []string) (id *Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			id, err = nil, fmt.Errorf("authentication panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Of.AuthenticateToken(ctx, token, wanted)
}

func (c *Cached) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Cached) known(key [sha256.Size]byte) (answer, bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.good[key]
	if !ok {
		a, ok = c.not[key]
	}
	return a, ok && now.Before(a.until)
}

func (c *Cached) remember(key [sha256.Size]byte, id *Identity, err error) answer {
	now := c.now()
	a := answer{id: id, err: err}
	lasts, in := c.Failure, &c.not
	if id != nil && err == nil {
		lasts, in = c.Success, &c.good
	}
	if lasts <= 0 || err != nil && !c.Errors {
		return a
	}
	a.until = now.Add(lasts)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*in) >= answersLimit {
		for k, old := range *in {
			if !now.Before(old.until) {
				delete(*in, k)
			}
		}
	}
	if *in == nil || len(*in) >= answersLimit {
		*in = map[[sha256.Size]byte]answer{}
	}
	delete(c.good, key) // it was bad before, or will be
	delete(c.not, key)
	(*in)[key] = a
	return a
}

// tokenKey hashes a token and the audiences it is asked about, each with its
// length so that none can be taken for two.
func tokenKey(token string, wanted []string) (key [sha256.Size]byte) {
	h := sha256.New()
	put := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	put(token)
	for _, a := range wanted {
		put(a)
	}
	h.Sum(key[:0])
	return key
}
