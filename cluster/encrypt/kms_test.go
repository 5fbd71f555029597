package encrypt

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"
)

// fakePlugin encrypts by turning bytes over, and names its key in front.
type fakePlugin struct {
	mu       sync.Mutex // guards all below
	keyID    string
	down     bool
	encrypts int
	decrypts int
}

func (p *fakePlugin) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *fakePlugin) calls() (encrypts, decrypts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.encrypts, p.decrypts
}

func (p *fakePlugin) upLocked() error {
	if p.down {
		return status.Error(codes.Unavailable, "nobody is there")
	}
	return nil
}

func turned(data []byte) []byte {
	out := bytes.Clone(data)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out
}

func (p *fakePlugin) Status(context.Context) (*kmsapi.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: p.keyID}, p.upLocked()
}

func (p *fakePlugin) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encrypts++
	return &kmsapi.EncryptResponse{Ciphertext: turned(r.Plaintext), KeyId: p.keyID,
		Annotations: map[string][]byte{"key.example.com": []byte(p.keyID)}}, p.upLocked()
}

func (p *fakePlugin) Decrypt(_ context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decrypts++
	if r.KeyId == "lost" {
		return nil, status.Error(codes.InvalidArgument, "there is no such key")
	}
	return &kmsapi.DecryptResponse{Plaintext: turned(r.Ciphertext)}, p.upLocked()
}

func (p *fakePlugin) Close() error { return nil }

func fakeKMS(p *fakePlugin) *kms {
	return &kms{name: "fake", timeout: 3 * time.Second, plugin: p, recovered: func() {}, log: slog.New(slog.DiscardHandler), seeds: map[string]provider{}}
}

func newFakeKMS(t *testing.T, p *fakePlugin) *kms {
	t.Helper()
	k := fakeKMS(p)
	if err := k.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

func sealed(t *testing.T, p provider) []byte {
	t.Helper()
	stored, err := p.seal(t.Context(), []byte(etcdKey), plain)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestAPluginIsAskedOnceForAllObjectsOfASeed(t *testing.T) {
	p := &fakePlugin{keyID: "1"}
	k := newFakeKMS(t, p)
	var stored [][]byte
	for range 100 {
		stored = append(stored, sealed(t, k))
	}
	later := newFakeKMS(t, p) // the same program, started again
	for _, s := range stored {
		if got, stale, err := later.open(t.Context(), []byte(etcdKey), s); err != nil || stale || !bytes.Equal(got, plain) {
			t.Fatalf("read %q, stale %v, error %v", got, stale, err)
		}
	}
	if encrypts, decrypts := p.calls(); encrypts != 2 || decrypts != 1 {
		t.Errorf("%d encryptions and %d decryptions were asked for, want one for each start and one for the old seed", encrypts, decrypts)
	}
}

func TestAnotherKeyOfThePluginMakesObjectsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{keyID: "1"}
		k := newFakeKMS(t, p)
		old := sealed(t, k)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go k.poll(ctx)
		p.set(func() { p.keyID = "2" })
		if _, stale, err := k.open(ctx, []byte(etcdKey), old); err != nil || stale {
			t.Fatalf("stale %v, error %v before the key was seen", stale, err)
		}
		time.Sleep(pollWell + time.Second)
		synctest.Wait()
		if _, stale, err := k.open(ctx, []byte(etcdKey), old); err != nil || !stale {
			t.Errorf("stale %v, error %v a minute after the key has changed", stale, err)
		}
		if _, stale, err := k.open(ctx, []byte(etcdKey), sealed(t, k)); err != nil || stale {
			t.Errorf("stale %v, error %v of what was written just now", stale, err)
		}
	})
}

func TestAPluginMayBeAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlugin{keyID: "1"}
		k := newFakeKMS(t, p)
		back := 0
		k.recovered = func() { back++ }
		old := sealed(t, k)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go k.poll(ctx)
		p.set(func() { p.down = true })
		time.Sleep(2 * time.Minute)
		sealed(t, k)
		time.Sleep(2 * time.Minute)
		if _, err := k.seal(ctx, []byte(etcdKey), plain); err == nil || !strings.Contains(err.Error(), "expired at") {
			t.Errorf("after four minutes without the plugin writing says %v, want that the key has expired", err)
		}
		if _, _, err := k.open(ctx, []byte(etcdKey), old); err != nil {
			t.Errorf("what was read before is to be read for ever: %v", err)
		}
		if err := k.check(ctx); err == nil {
			t.Error("the health check does not say that the plugin is away")
		}
		p.set(func() { p.down = false })
		time.Sleep(pollIll + time.Second)
		synctest.Wait()
		sealed(t, k)
		if back != 1 {
			t.Errorf("that it is back was said %d times", back)
		}
	})
}

func TestASilentPluginIsNotAskedForEachObject(t *testing.T) {
	p := &fakePlugin{keyID: "1"}
	stored := sealed(t, newFakeKMS(t, p))
	k := newFakeKMS(t, p)
	p.set(func() { p.down = true })
	for range 50 {
		if _, _, err := k.open(t.Context(), []byte(etcdKey), stored); err == nil || !strings.Contains(err.Error(), "failed to decrypt DEK") {
			t.Fatalf("error %v", err)
		}
	}
	if _, decrypts := p.calls(); decrypts != 1 {
		t.Errorf("asked %d times", decrypts)
	}
}

func TestAnAnswerOfThePluginIsNoSilence(t *testing.T) {
	p := &fakePlugin{keyID: "lost"}
	lost := sealed(t, newFakeKMS(t, p))
	p.set(func() { p.keyID = "1" })
	good := sealed(t, newFakeKMS(t, p))
	k := newFakeKMS(t, p)
	if _, _, err := k.open(t.Context(), []byte(etcdKey), lost); err == nil {
		t.Fatal("opened with a key that the plugin has lost")
	}
	if _, _, err := k.open(t.Context(), []byte(etcdKey), good); err != nil {
		t.Errorf("one lost key is no reason not to ask for another: %v", err)
	}
}

func TestAPluginThatContradictsItselfIsNotUsed(t *testing.T) {
	for _, tc := range []struct {
		it   string
		p    plugin
		want string
	}{
		{"is not well", contrary{Plugin: &fakePlugin{keyID: "1"}, status: &kmsapi.StatusResponse{Version: "v2", Healthz: "bad", KeyId: "1"}}, "got unexpected healthz status: bad"},
		{"speaks another protocol", contrary{Plugin: &fakePlugin{keyID: "1"}, status: &kmsapi.StatusResponse{Version: "v3", Healthz: "ok", KeyId: "1"}}, "expected KMSv2 API version v2, got v3"},
		{"has no key", contrary{Plugin: &fakePlugin{}, status: &kmsapi.StatusResponse{Version: "v2", Healthz: "ok"}}, "keyID is empty"},
		{"encrypts with another key", contrary{Plugin: &fakePlugin{keyID: "2"}, status: &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: "1"}}, "failed to rotate DEK"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			k := fakeKMS(nil)
			k.plugin = tc.p
			if err := k.check(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

type Plugin = *fakePlugin

// contrary is a plugin with a status of its own.
type contrary struct {
	Plugin
	status *kmsapi.StatusResponse
}

func (c contrary) Status(context.Context) (*kmsapi.StatusResponse, error) { return c.status, nil }

// server is the plugin behind a socket.
type server struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	p *fakePlugin
}

func (s server) Status(ctx context.Context, _ *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	return s.p.Status(ctx)
}

func (s server) Encrypt(ctx context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	return s.p.Encrypt(ctx, r)
}

func (s server) Decrypt(ctx context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	return s.p.Decrypt(ctx, r)
}

func listen(t *testing.T, socket string, p *fakePlugin) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(s, server{p: p})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
}

func TestAPluginIsReachedOverItsSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "kms") // the name of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	listen(t, socket, &fakePlugin{keyID: "1"})
	e := opened(t, `
- resources: [secrets]
  providers: [{kms: {apiVersion: v2, name: p, endpoint: "unix://`+socket+`", timeout: 60s}}]`)
	stored, err := e.Seal(t.Context(), secrets, etcdKey, plain)
	if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:p:")) {
		t.Fatalf("stored %q, error %v", stored, err)
	}
	if got, stale, err := e.Open(t.Context(), secrets, etcdKey, stored); err != nil || stale || !bytes.Equal(got, plain) {
		t.Errorf("read %q, stale %v, error %v", got, stale, err)
	}
	if err := e.Check(t.Context()); err != nil || !e.UsesPlugin() {
		t.Errorf("check says %v", err)
	}
}

func TestAPluginThatIsNotThereStopsNobodyElse(t *testing.T) {
	e := opened(t, `
- resources: [secrets]
  providers: [{kms: {apiVersion: v2, name: p, endpoint: "unix:///nowhere/at/all", timeout: 1ms}}, {identity: {}}]`)
	if _, err := e.Seal(t.Context(), secrets, etcdKey, plain); err == nil || !strings.Contains(err.Error(), "KMS provider p has not given a key yet") {
		t.Errorf("writing says %v", err)
	}
	if got, stale, err := e.Open(t.Context(), secrets, etcdKey, plain); err != nil || !stale || !bytes.Equal(got, plain) {
		t.Errorf("what was in the clear reads as %q, stale %v, error %v", got, stale, err)
	}
	if err := e.Check(t.Context()); err == nil {
		t.Error("check says nothing")
	}
}
