package encrypt

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/internal/counted"
)

var secrets = schema.GroupResource{Resource: "secrets"}

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:"

// aKey is one of 32 bytes, as a configuration has it.
func aKey(name string, b byte) string {
	return fmt.Sprintf("{name: %s, secret: %s}", name, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)))
}

func written(t *testing.T, resources string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	write(t, file, resources)
	return file
}

func write(t *testing.T, file, resources string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(head+resources), 0o600); err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, resources string) *Encryption {
	t.Helper()
	e, err := Open(t.Context(), Config{File: written(t, resources)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.current.Load().close() })
	return e
}

func chainOf(t *testing.T, providers ...string) *chain {
	t.Helper()
	text := "\n- resources: [secrets]\n  providers:"
	for _, p := range providers {
		text += "\n  - " + p
	}
	return opened(t, text).current.Load().of(secrets)
}

func TestTheFirstProviderWritesAndAllRead(t *testing.T) {
	one, two := "aesgcm: {keys: ["+aKey("k1", 1)+"]}", "aescbc: {keys: ["+aKey("k2", 2)+"]}"
	for _, tc := range []struct {
		it     string
		before []string
		now    []string
		prefix string // of what is written now
		stale  bool   // what was written before
		wrong  string
	}{
		{it: "the same", before: []string{one}, now: []string{one}, prefix: "k8s:enc:aesgcm:v1:k1:"},
		{it: "encryption begins", before: []string{"identity: {}"}, now: []string{one, "identity: {}"}, prefix: "k8s:enc:aesgcm:v1:k1:", stale: true},
		{it: "encryption ends", before: []string{one}, now: []string{"identity: {}", one}, prefix: "k8s\x00", stale: true},
		{it: "another provider", before: []string{one}, now: []string{two, one}, prefix: "k8s:enc:aescbc:v1:k2:", stale: true},
		{it: "another key", before: []string{one}, now: []string{"aesgcm: {keys: [" + aKey("k9", 9) + "," + aKey("k1", 1) + "]}"}, prefix: "k8s:enc:aesgcm:v1:k9:", stale: true},
		{it: "the provider twice", before: []string{one}, now: []string{"aesgcm: {keys: [" + aKey("k9", 9) + "]}", one}, prefix: "k8s:enc:aesgcm:v1:k9:", stale: true},
		{it: "the key is gone", before: []string{one}, now: []string{"aesgcm: {keys: [" + aKey("k9", 9) + "]}"}, prefix: "k8s:enc:aesgcm:v1:k9:",
			wrong: "no matching key was found for the provided AES transformer"},
		{it: "the provider is gone", before: []string{one}, now: []string{two}, prefix: "k8s:enc:aescbc:v1:k2:", wrong: "no matching prefix found"},
		{it: "the key has another secret", before: []string{one}, now: []string{"aesgcm: {keys: [" + aKey("k1", 9) + "]}"}, prefix: "k8s:enc:aesgcm:v1:k1:",
			wrong: "message authentication failed"},
		{it: "nothing is encrypted any more", before: []string{one}, now: []string{"identity: {}"}, prefix: "k8s\x00", wrong: "no matching prefix found"},
		{it: "the box has another secret", before: []string{"secretbox: {keys: [" + aKey("k1", 1) + "]}"}, now: []string{"secretbox: {keys: [" + aKey("k1", 9) + "]}"},
			prefix: "k8s:enc:secretbox:v1:k1:", wrong: "output array was not large enough for encryption"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			stored := sealed(t, chainOf(t, tc.before...))
			now := chainOf(t, tc.now...)
			if again := sealed(t, now); !bytes.HasPrefix(again, []byte(tc.prefix)) {
				t.Errorf("now it is stored as %q…", again[:24])
			}
			got, stale, err := now.open(t.Context(), []byte(etcdKey), stored)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("error %v, want %q", err, tc.wrong)
				}
				return
			}
			if err != nil || stale != tc.stale || !bytes.Equal(got, plain) {
				t.Errorf("read %q, stale %v, error %v; want stale %v", got, stale, err, tc.stale)
			}
		})
	}
}

func TestAValueCannotBeMovedToAnotherKey(t *testing.T) {
	c := chainOf(t, "aesgcm: {keys: ["+aKey("k1", 1)+"]}")
	if got, _, err := c.open(t.Context(), []byte("/registry/secrets/default/y"), sealed(t, c)); err == nil {
		t.Errorf("it was read as %q", got)
	}
}

func TestTransformationsAreCounted(t *testing.T) {
	counts := prometheus.NewRegistry()
	e, err := Open(t.Context(), Config{Metrics: counts, File: written(t, "\n- resources: [secrets]\n  providers:\n  - aesgcm: {keys: ["+aKey("k1", 1)+"]}\n  - identity: {}")})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := e.Seal(t.Context(), secrets, "/a", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		key  string
		data []byte
	}{{"/a", stored}, {"/b", stored}, {"/a", []byte("plain")}} {
		_, _, _ = e.Open(t.Context(), secrets, one.key, one.data)
	}
	var text strings.Builder
	if err := counted.Write(&text, counts, ""); err != nil {
		t.Fatal(err)
	}
	const name = "apiserver_storage_transformation_operations_total"
	for _, want := range []string{
		name + `{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 1`,
		name + `{resource="secrets",status="OK",transformation_type="from_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 1`,
		name + `{resource="secrets",status="Unknown",transformation_type="from_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 1`,
		name + `{resource="secrets",status="OK",transformation_type="from_storage",transformer_prefix=""} 1`,
		`apiserver_storage_transformation_duration_seconds_count{transformation_type="from_storage",transformer_prefix=""} 1`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("there is no %s in\n%s", want, text.String())
		}
	}
}

func TestTheNearestRuleCounts(t *testing.T) {
	rule := func(names, key string) string {
		return "\n- resources: [" + names + "]\n  providers: [{aesgcm: {keys: [" + aKey(key, 1) + "]}}]"
	}
	e := opened(t, rule("events", "events")+rule("'*.'", "core")+rule("'*.apps'", "apps")+rule("'*.*'", "all"))
	for _, tc := range []struct{ group, resource, want string }{
		{"", "events", "events"}, {"", "secrets", "core"}, {"apps", "deployments", "apps"}, {"stable.example.com", "crontabs", "all"},
	} {
		stored, err := e.Seal(t.Context(), schema.GroupResource{Group: tc.group, Resource: tc.resource}, "/registry/x", plain)
		if want := "k8s:enc:aesgcm:v1:" + tc.want + ":"; err != nil || !bytes.HasPrefix(stored, []byte(want)) {
			t.Errorf("%s of %q is stored as %q…, error %v; want %q", tc.resource, tc.group, stored[:30], err, want)
		}
	}
}

func TestWhatNoRuleIsAboutIsInTheClear(t *testing.T) {
	e := opened(t, "\n- resources: [secrets]\n  providers: [{aesgcm: {keys: ["+aKey("k", 1)+"]}}]")
	maps := schema.GroupResource{Resource: "configmaps"}
	stored, err := e.Seal(t.Context(), maps, "/registry/configmaps/a/b", plain)
	if err != nil || !bytes.Equal(stored, plain) {
		t.Fatalf("stored %q, error %v", stored, err)
	}
	if _, stale, err := e.Open(t.Context(), maps, "/registry/configmaps/a/b", stored); stale || err != nil {
		t.Errorf("stale %v, error %v", stale, err)
	}
	secret, err := e.Seal(t.Context(), secrets, etcdKey, plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Open(t.Context(), maps, etcdKey, secret); err == nil || err.Error() != "identity transformer tried to read encrypted data" {
		t.Errorf("error %v", err)
	}
}

func TestAWrongConfigurationIsRefused(t *testing.T) {
	const id = "providers: [{identity: {}}]"
	for _, tc := range []struct{ it, text, want string }{
		{"a misspelt field", "\n- resource: [secrets]\n  " + id, `unknown field "resources[0].resource"`},
		{"a field twice", "\n- resources: [a]\n  resources: [b]\n  " + id, `already set in map`},
		{"nothing", " []", "resources: Required value: at least one resources is required"},
		{"no providers", "\n- resources: [secrets]\n  providers: []", "resources[0].providers: Required value"},
		{"an empty provider", "\n- resources: [secrets]\n  providers: [{}]", "provider does not contain any of the expected providers"},
		{"two in one", "\n- resources: [secrets]\n  providers: [{identity: {}, aesgcm: {keys: [" + aKey("a", 1) + "]}}]", "more than one provider specified in a single element"},
		{"a short key", "\n- resources: [secrets]\n  providers: [{aescbc: {keys: [{name: a, secret: YQ==}]}}]", "secret is not of the expected length, got 1, expected one of [16 24 32]"},
		{"a key that is no base64", "\n- resources: [secrets]\n  providers: [{aescbc: {keys: [{name: a, secret: '%'}]}}]", "secrets must be base64 encoded"},
		{"a key without a name", "\n- resources: [secrets]\n  providers: [{aescbc: {keys: [{secret: YQ==}]}}]", "name is a mandatory field for a key"},
		{"capitals", "\n- resources: [Secrets]\n  " + id, "resource name should not contain capital letters"},
		{"a lone star", "\n- resources: ['*']\n  " + id, "use '*.' to encrypt all the resources from core API group"},
		{"one of all groups", "\n- resources: [a.*]\n  " + id, "encrypting the same resource across groups is not supported"},
		{"twice the same", "\n- resources: [a, a]\n  " + id, "the same resource cannot be specified multiple times"},
		{"one hides the other", "\n- resources: [a, '*.']\n  " + id, "using overlapping resources"},
		{"hidden by an earlier rule", "\n- resources: ['*.*']\n  " + id + "\n- resources: [a]\n  " + id, `resource "a" is masked by earlier rule "*.*"`},
		{"KMS v1, which is the default", "\n- resources: [a]\n  providers: [{kms: {name: k, endpoint: 'unix:///x'}}]", "KMSv1 is deprecated"},
		{"KMS over TCP", "\n- resources: [a]\n  providers: [{kms: {apiVersion: v2, name: k, endpoint: 'tcp://x'}}]", `unsupported scheme "tcp" for KMS provider, only unix is supported`},
		{"a cache for v2", "\n- resources: [a]\n  providers: [{kms: {apiVersion: v2, name: k, cachesize: 1, endpoint: 'unix:///x'}}]", "cachesize is not supported in v2"},
		{"a colon", "\n- resources: [a]\n  providers: [{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///x'}}]", "must not contain ':'"},
		{"two of one name", "\n- resources: [a]\n  providers: [{kms: {apiVersion: v2, name: k, endpoint: 'unix:///x'}}, {kms: {apiVersion: v2, name: k, endpoint: 'unix:///y'}}]", "duplicate KMS provider name k"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			_, err := Open(t.Context(), Config{File: written(t, tc.text)})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "--encryption-provider-config") {
				t.Errorf("error %v, want %q and what to do", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "AQEBAQ") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestAChangedFileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(keys ...string) string {
			return "\n- resources: [secrets]\n  providers: [{aesgcm: {keys: [" + strings.Join(keys, ",") + "]}}]"
		}
		file := written(t, with(aKey("k1", 1)))
		e, err := Open(t.Context(), Config{File: file, Reload: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { e.Run(ctx); close(done) }()
		old, err := e.Seal(ctx, secrets, etcdKey, plain)
		if err != nil {
			t.Fatal(err)
		}
		later := func() {
			time.Sleep(reloadEvery + time.Second)
			synctest.Wait()
		}
		later()
		select {
		case <-e.Changed():
			t.Error("a change was told, and there was none")
		default:
		}
		write(t, file, "no list")
		later()
		if _, stale, err := e.Open(ctx, secrets, etcdKey, old); err != nil || stale {
			t.Errorf("stale %v, error %v with a file that cannot be read", stale, err)
		}
		write(t, file, with(aKey("k2", 2), aKey("k1", 1)))
		later()
		if _, stale, err := e.Open(ctx, secrets, etcdKey, old); err != nil || !stale {
			t.Errorf("stale %v, error %v after the key has changed", stale, err)
		}
		select {
		case <-e.Changed():
		default:
			t.Error("the change was not told")
		}
		stop()
		<-done
	})
}

func FuzzOpen(f *testing.F) {
	k := fakeKMS(&fakePlugin{keyID: "1"})
	if err := k.check(context.Background()); err != nil {
		f.Fatal(err)
	}
	key := bytes.Repeat([]byte{1}, 32)
	var providers []prefixed
	for name, make := range map[string]func([]byte) (provider, error){"g": newGCM, "c": newCBC, "b": newSecretbox, "s": newSeeded} {
		p, err := make(key)
		if err != nil {
			f.Fatal(err)
		}
		providers = append(providers, prefixed{name + ":", p})
	}
	c := &chain{providers: append(providers, prefixed{"k:", k}, prefixed{"", identity{}}), none: errIdentity}
	for _, p := range c.providers {
		stored, err := p.seal(context.Background(), []byte(etcdKey), plain)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte(p.prefix), stored...))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		_, _, _ = c.open(t.Context(), []byte(etcdKey), stored)
		if e, err := unmarshal(stored); err == nil {
			again, err := unmarshal(e.marshal())
			if err != nil || again.sourceID() != e.sourceID() || !bytes.Equal(again.data, e.data) {
				t.Errorf("%+v is written and read as %+v, error %v", e, again, err)
			}
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(head + "\n- resources: [secrets]\n  providers: [{aesgcm: {keys: [" + aKey("k", 1) + "]}}, {kms: {apiVersion: v2, name: k, endpoint: 'unix:///x'}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if config, err := parse(data); err == nil {
			if table, err := build(config, func(*kms) {}); err == nil {
				table.close()
			}
		}
	})
}
