package bootstrap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

// The users that parts of the program are, by the functions of package auth
// that make them. Master is in system:masters, which no part is.
func TestNoPartOfTheProgramIsInSystemMasters(t *testing.T) {
	known := map[string]bool{"ServiceAccount": true, "Component": true, "Node": true, "Server": true}
	found := map[string]int{}
	for _, root := range []string{".", "../cluster", "../node", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "cluster/auth/") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				as, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := as.X.(*ast.Ident); ok && x.Name == "auth" && (known[as.Sel.Name] || as.Sel.Name == "Master") {
					found[as.Sel.Name]++
				}
				if as.Sel.Name != "As" && as.Sel.Name != "WithCache" {
					return true
				}
				for _, arg := range call.Args { // an identity is made by one of those, or is a variable that holds one
					if user, ok := arg.(*ast.CompositeLit); ok {
						t.Errorf("%s: a user is made up on the spot: %v", path, user.Type)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found["Master"] > 0 {
		t.Errorf("%d parts of the program are system:masters", found["Master"])
	}
	if found["ServiceAccount"] == 0 || found["Component"] == 0 || found["Server"] == 0 {
		t.Errorf("this test looks in the wrong place: %v", found)
	}
}

func TestKeysOfServiceAccountTokens(t *testing.T) {
	pki, err := LoadPKI(PKIConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	write := func(kind string, der []byte, err error) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "key.pem")
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(first.Public())
	firstKey, firstPublic := write("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(first), nil), write("PUBLIC KEY", public, err)
	der, err := x509.MarshalECPrivateKey(second)
	secondKey := write("EC PRIVATE KEY", der, err)

	objects := clienttest.New(t, kind.NewTable(core.Kinds()), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"}})
	issue := func(s ServiceAccounts) (string, *running) {
		t.Helper()
		r := &running{reader: objects, pki: pki}
		r.cfg.ServiceAccounts = s
		var err error
		if r.tokens, err = r.serviceAccountTokens(); err != nil {
			t.Fatal(err)
		}
		var warned []string
		out, err := r.tokens.Request(t.Context(), "shop", "web", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(7200))}},
			func(text string) { warned = append(warned, text) })
		if err != nil {
			t.Fatal(err)
		}
		if (len(warned) > 0) != (s.MaxExpiration > 0) || s.MaxExpiration > 0 && *out.Spec.ExpirationSeconds != 3600 {
			t.Errorf("%+v: warned %v, lasts %d s", s, warned, *out.Spec.ExpirationSeconds)
		}
		return out.Status.Token, r
	}
	own, _ := issue(ServiceAccounts{})
	old, _ := issue(ServiceAccounts{SigningKeyFile: firstKey, MaxExpiration: time.Hour})
	_, now := issue(ServiceAccounts{SigningKeyFile: secondKey, KeyFiles: []string{firstPublic}})
	_, without := issue(ServiceAccounts{SigningKeyFile: secondKey})
	_, renamed := issue(ServiceAccounts{Issuers: []string{"https://new.example", "https://kubernetes.default.svc.cluster.local"}, KeyFiles: []string{firstPublic}})
	for _, c := range []struct {
		it    string
		r     *running
		token string
		good  bool
	}{
		{"the key before, which is named", now, old, true}, {"the key before, which is not", without, old, false},
		{"the instance's own key", now, own, true}, {"another issuer first, and this one after it", renamed, own, true},
	} {
		id, err := c.r.tokens.AuthenticateToken(t.Context(), c.token, nil)
		if (err == nil && id != nil) != c.good {
			t.Errorf("%s: %v, %v", c.it, id, err)
		}
	}
	r := &running{reader: objects, pki: pki}
	r.cfg.ServiceAccounts.KeyFiles = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := r.serviceAccountTokens(); err == nil {
		t.Error("a file that is not there is accepted")
	}
}
