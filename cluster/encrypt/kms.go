package encrypt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/uuid"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	kmsv2 "k8s.io/kms/apis/v2"
)

// Times of a plugin, upstream's: how often its key is asked for while all is
// well and while it is not, for how long a key is used for writing after the
// plugin was last well, and how long the answer to a health check holds.
const (
	pollWell   = time.Minute
	pollIll    = 10 * time.Second
	writeTTL   = 3 * time.Minute
	healthWell = 20 * time.Second
	healthIll  = 3 * time.Second
)

// plugin is what is asked of a key management plugin. (KMS v2, KEP-3299.)
type plugin interface {
	Status(ctx context.Context) (*kmsv2.StatusResponse, error)
	Encrypt(ctx context.Context, r *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error)
	Decrypt(ctx context.Context, r *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error)
	Close() error
}

// kms encrypts with seeds that a plugin keeps the key to. A seed is made once
// for each of the plugin's keys and start of this program; so the plugin is
// asked rarely, and not for each object.
type kms struct {
	name      string
	timeout   time.Duration // of a call
	plugin    plugin
	recovered func() // called when the plugin answers again
	log       *slog.Logger

	writes atomic.Pointer[writeKey] // nil until the plugin has given one
	last   atomic.Pointer[error]    // of the last check, nil if all was well; mu is held to write it

	mu      sync.Mutex // guards all below; held while the plugin is asked how it is
	version string     // of the protocol, as first heard
	checked time.Time

	seedsMu sync.Mutex // guards all below
	seeds   map[string]provider
	silent  time.Time // until then the plugin is not asked to decrypt
	why     error     // it was not
}

// seedsLimit bounds the seeds remembered; beyond it all are forgotten at once.
// There are about as many as the plugin had keys, times starts of a server.
const seedsLimit = 4096

// writeKey is what is written with now. It is never written to once it is
// handed out.
type writeKey struct {
	envelope // without data
	seed     provider
	expires  time.Time
}

func newKMS(c *apiserverv1.KMSConfiguration) (*kms, error) {
	if c.APIVersion == "v1" {
		return nil, fmt.Errorf("kms provider %q: KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead (apiVersion: v2)", c.Name)
	}
	p, err := dial(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("could not configure KMSv2-Plugin's probe %q, error: %w", c.Name, err)
	}
	return &kms{name: c.Name, timeout: c.Timeout.Duration, plugin: p, recovered: func() {},
		log: slog.New(slog.DiscardHandler), seeds: map[string]provider{}}, nil
}

func (k *kms) close() { _ = k.plugin.Close() } // nothing is lost with the connection

func (k *kms) seal(ctx context.Context, key, data []byte) ([]byte, error) {
	w := k.writes.Load()
	if w == nil {
		return nil, k.notYet()
	}
	if now := time.Now(); now.After(w.expires) {
		return nil, fmt.Errorf("encryptedDEKSource with keyID hash %q expired at %s (current time is %s)",
			hashed(w.keyID), w.expires.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	sealed, err := w.seed.seal(ctx, key, data)
	if err != nil {
		return nil, err
	}
	e := w.envelope
	e.data = sealed
	return e.marshal(), nil
}

func (k *kms) open(ctx context.Context, key, stored []byte) ([]byte, bool, error) {
	e, err := unmarshal(stored)
	if err != nil {
		return nil, false, err
	}
	w := k.writes.Load()
	if w == nil {
		return nil, false, k.notYet()
	}
	seed, err := k.seedOf(ctx, e)
	if err != nil {
		return nil, false, fmt.Errorf("failed to decrypt DEK, error: %w", err)
	}
	data, _, err := seed.open(ctx, key, e.data)
	return data, e.keyID != w.keyID || e.sourceType != w.sourceType, err
}

func (k *kms) notYet() error {
	return fmt.Errorf("KMS provider %s has not given a key yet: %w", k.name, k.ill())
}

// ill is what the last check said.
func (k *kms) ill() error {
	if err := k.last.Load(); err != nil {
		return *err
	}
	return nil
}

// seedOf returns what opens e, from memory or from the plugin.
func (k *kms) seedOf(ctx context.Context, e *envelope) (provider, error) {
	id := e.sourceID()
	k.seedsMu.Lock()
	seed, silent, why := k.seeds[id], k.silent, k.why
	k.seedsMu.Unlock()
	if seed != nil {
		return seed, nil
	}
	// Whoever reads many objects must not wait for a dead plugin for each.
	if time.Now().Before(silent) {
		return nil, why
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	answer, err := k.plugin.Decrypt(ctx, &kmsv2.DecryptRequest{Uid: string(uuid.NewUUID()),
		Ciphertext: e.source, KeyId: e.keyID, Annotations: e.annotations})
	if err != nil {
		k.decryptFailed(err)
		return nil, err
	}
	if e.sourceType == sourceSeed {
		seed, err = newSeeded(answer.Plaintext)
	} else {
		seed, err = newGCM(answer.Plaintext)
	}
	if err == nil {
		k.remember(id, seed)
	}
	return seed, err
}

func (k *kms) decryptFailed(err error) {
	if c := status.Code(err); c != codes.Unavailable && c != codes.DeadlineExceeded {
		return // it has answered
	}
	k.seedsMu.Lock()
	defer k.seedsMu.Unlock()
	k.silent, k.why = time.Now().Add(pollIll), err
}

func (k *kms) remember(id string, seed provider) {
	k.seedsMu.Lock()
	defer k.seedsMu.Unlock()
	if len(k.seeds) >= seedsLimit {
		clear(k.seeds)
	}
	k.seeds[id] = seed
	k.silent, k.why = time.Time{}, nil
}

// poll asks the plugin for its key from time to time until ctx ends.
func (k *kms) poll(ctx context.Context) {
	for {
		wait := pollWell
		if k.ill() != nil {
			wait = pollIll
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := k.check(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("a key management plugin is not well", "err", err)
		}
	}
}

// check asks the plugin how it is, unless it was asked a moment ago, and
// takes its key if that is another now.
func (k *kms) check(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	was, fresh := k.ill(), healthWell
	if was != nil {
		fresh = healthIll
	}
	if !k.checked.IsZero() && time.Since(k.checked) < fresh {
		return was
	}
	err := k.askLocked(ctx)
	k.checked = time.Now()
	if err != nil {
		k.last.Store(&err)
		return err
	}
	k.last.Store(nil)
	if was != nil {
		k.seedsMu.Lock()
		k.silent, k.why = time.Time{}, nil
		k.seedsMu.Unlock()
		k.recovered()
	}
	return nil
}

func (k *kms) askLocked(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	s, err := k.plugin.Status(short)
	if err != nil {
		return fmt.Errorf("failed to perform status section of the healthz check for KMS Provider %s, error: %w", k.name, err)
	}
	var errs []error
	if s.Healthz != "ok" {
		errs = append(errs, fmt.Errorf("got unexpected healthz status: %s", s.Healthz))
	}
	switch {
	case s.Version != "v2" && s.Version != "v2beta1":
		errs = append(errs, fmt.Errorf("expected KMSv2 API version %s, got %s", "v2", s.Version))
	case k.version != "" && k.version != s.Version:
		errs = append(errs, fmt.Errorf("KMSv2 API version should not change after the initial status response version %s, got %s", k.version, s.Version))
	default:
		k.version = s.Version
	}
	if err := checkKeyID(s.KeyId); err != nil {
		errs = append(errs, fmt.Errorf("got invalid KMSv2 KeyID hash %q: %w", hashed(s.KeyId), err))
	} else if err := k.rotateLocked(ctx, s.KeyId); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("kmsv2 Provider %s is not healthy, error: %w", k.name, errors.Join(errs...))
	}
	return nil
}

// rotateLocked makes a new seed if the plugin has another key than the one
// written with, and else lets the seed be used for longer. If that fails the
// one there is goes on until it expires.
func (k *kms) rotateLocked(ctx context.Context, keyID string) error {
	expires := time.Now().Add(writeTTL) // before the call: it is the most there may be
	if w := k.writes.Load(); w != nil && w.keyID == keyID {
		next := *w
		next.expires = expires
		k.writes.Store(&next)
		return nil
	}
	seed := make([]byte, seedSize)
	rand.Read(seed)
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	answer, err := k.plugin.Encrypt(ctx, &kmsv2.EncryptRequest{Uid: string(uuid.NewUUID()), Plaintext: seed})
	if err != nil {
		return fmt.Errorf("failed to rotate DEK: failed to encrypt DEK, error: %w", err)
	}
	w := &writeKey{expires: expires, envelope: envelope{keyID: answer.KeyId, source: answer.Ciphertext,
		annotations: answer.Annotations, sourceType: sourceSeed}}
	if err := w.checkSource(); err != nil {
		return fmt.Errorf("failed to rotate DEK: %w", err)
	}
	if w.keyID != keyID {
		return fmt.Errorf("failed to rotate DEK: statusKeyIDHash=%q, encryptKeyIDHash=%q", hashed(keyID), hashed(w.keyID))
	}
	if w.seed, err = newSeeded(seed); err != nil {
		return err
	}
	k.remember(w.sourceID(), w.seed)
	k.writes.Store(w)
	return nil
}

// hashed is a key's name as logs may have it.
func hashed(keyID string) string {
	if keyID == "" {
		return ""
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(keyID)))
}
