package encrypt

import (
	"bytes"
	"context"
	"crypto/aes"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value"
	upstreamaes "k8s.io/apiserver/pkg/storage/value/encrypt/aes"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	"k8s.io/apiserver/pkg/storage/value/encrypt/secretbox"
	kmsapi "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"
)

const etcdKey = "/registry/secrets/default/x"

var plain = []byte("k8s\x00 what was stored in the clear")

// theirs is a transformer of upstream's with the prefix that its configuration
// gives it.
func theirs(prefix string, t value.Transformer) value.Transformer {
	return value.NewPrefixTransformers(nil, value.PrefixTransformer{Prefix: []byte(prefix), Transformer: t})
}

func TestWhatUpstreamHasWrittenIsReadAndTheOtherWayRound(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcmTheirs, err := upstreamaes.NewGCMTransformer(block)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(key)
	for _, tc := range []struct {
		provider string
		theirs   value.Transformer
	}{
		{"aesgcm", theirs("k8s:enc:aesgcm:v1:key1:", gcmTheirs)},
		{"aescbc", theirs("k8s:enc:aescbc:v1:key1:", upstreamaes.NewCBCTransformer(block))},
		{"secretbox", theirs("k8s:enc:secretbox:v1:key1:", secretbox.NewSecretboxTransformer([32]byte(key)))},
	} {
		t.Run(tc.provider, func(t *testing.T) {
			ours := chainOf(t, fmt.Sprintf("%s: {keys: [{name: key1, secret: %s}]}", tc.provider, text))
			exchange(t, ours, tc.theirs)
		})
	}
}

// exchange has each read what the other has written, for texts of all lengths
// up to three blocks.
func exchange(t *testing.T, ours *chain, theirs value.Transformer) {
	t.Helper()
	aad := value.DefaultContext(etcdKey)
	for n := range 3*aes.BlockSize + 1 {
		data := bytes.Repeat([]byte("x"), n)
		stored, err := theirs.TransformToStorage(t.Context(), data, aad)
		if err != nil {
			t.Fatal(err)
		}
		if got, stale, err := ours.open(t.Context(), []byte(etcdKey), stored); err != nil || stale || !bytes.Equal(got, data) {
			t.Fatalf("of upstream's we read %q, stale %v, error %v; want %q", got, stale, err, data)
		}
		if stored, err = ours.seal(t.Context(), []byte(etcdKey), data); err != nil {
			t.Fatal(err)
		}
		if got, stale, err := theirs.TransformFromStorage(t.Context(), stored, aad); err != nil || stale || !bytes.Equal(got, data) {
			t.Fatalf("of ours upstream reads %q, stale %v, error %v; want %q", got, stale, err, data)
		}
	}
}

func TestEnvelopesAreUpstreams(t *testing.T) {
	p := &fakePlugin{keyID: "1"}
	ours := newFakeKMS(t, p)
	asTheirs := serviceOf{p}
	transformer, object, cacheKey, err := kmsv2.GenerateTransformer(t.Context(), "uid", asTheirs, true)
	if err != nil {
		t.Fatal(err)
	}
	state := func() (kmsv2.State, error) {
		return kmsv2.State{Transformer: transformer, EncryptedObjectKeyID: object.KeyID, EncryptedObjectEncryptedDEKSource: object.EncryptedDEKSource,
			EncryptedObjectAnnotations: object.Annotations, EncryptedObjectEncryptedDEKSourceType: object.EncryptedDEKSourceType,
			ExpirationTimestamp: time.Now().Add(time.Hour), CacheKey: cacheKey}, nil
	}
	exchange(t, &chain{providers: []prefixed{{"k8s:enc:kms:v2:fake:", ours}}},
		theirs("k8s:enc:kms:v2:fake:", kmsv2.NewEnvelopeTransformer(asTheirs, "fake", state, "id")))
}

func TestKeysOfBeforeSeedsAreRead(t *testing.T) {
	p := &fakePlugin{keyID: "1"}
	ours := newFakeKMS(t, p)
	transformer, object, cacheKey, err := kmsv2.GenerateTransformer(t.Context(), "uid", serviceOf{p}, false)
	if err != nil {
		t.Fatal(err)
	}
	state := func() (kmsv2.State, error) {
		return kmsv2.State{Transformer: transformer, EncryptedObjectKeyID: object.KeyID, EncryptedObjectEncryptedDEKSource: object.EncryptedDEKSource,
			EncryptedObjectEncryptedDEKSourceType: object.EncryptedDEKSourceType, ExpirationTimestamp: time.Now().Add(time.Hour), CacheKey: cacheKey}, nil
	}
	stored, err := kmsv2.NewEnvelopeTransformer(serviceOf{p}, "old", state, "id").TransformToStorage(t.Context(), plain, value.DefaultContext(etcdKey))
	if err != nil {
		t.Fatal(err)
	}
	got, stale, err := ours.open(t.Context(), []byte(etcdKey), stored)
	if err != nil || !stale || !bytes.Equal(got, plain) {
		t.Errorf("read %q, stale %v, error %v; want %q, to be written anew", got, stale, err, plain)
	}
}

// serviceOf shows a plugin to upstream's code.
type serviceOf struct{ p *fakePlugin }

func (s serviceOf) Decrypt(ctx context.Context, uid string, r *service.DecryptRequest) ([]byte, error) {
	a, err := s.p.Decrypt(ctx, &kmsapi.DecryptRequest{Uid: uid, Ciphertext: r.Ciphertext, KeyId: r.KeyID, Annotations: r.Annotations})
	if err != nil {
		return nil, err
	}
	return a.Plaintext, nil
}

func (s serviceOf) Encrypt(ctx context.Context, uid string, data []byte) (*service.EncryptResponse, error) {
	a, err := s.p.Encrypt(ctx, &kmsapi.EncryptRequest{Uid: uid, Plaintext: data})
	if err != nil {
		return nil, err
	}
	return &service.EncryptResponse{Ciphertext: a.Ciphertext, KeyID: a.KeyId, Annotations: a.Annotations}, nil
}

func (s serviceOf) Status(ctx context.Context) (*service.StatusResponse, error) {
	a, err := s.p.Status(ctx)
	if err != nil {
		return nil, err
	}
	return &service.StatusResponse{Version: a.Version, Healthz: a.Healthz, KeyID: a.KeyId}, nil
}
