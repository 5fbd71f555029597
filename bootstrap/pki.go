// Package bootstrap puts the planks together: it makes an instance's
// certificates and its kubeconfig, hands engine, node and cluster to each
// other as interfaces, and owns their goroutines.
//
// It is the only package that knows all three planks, and holds no rules of
// any of them.
package bootstrap

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sampan/internal/fault"
)

// Lifetimes of certificates. A leaf is made anew when less than renewBefore
// is left of it, at the next start; the CA keeps its key when it is renewed,
// so what it signed before stays valid.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	renewBefore  = 90 * 24 * time.Hour
	backdate     = 5 * time.Minute // for clients whose clock is a little behind
)

// The administrator's identity. system:masters may do everything.
const (
	AdminUser   = "kubernetes-admin"
	MastersName = "system:masters"
)

// PKIConfig says where an instance's keys are and what its server is called.
type PKIConfig struct {
	Dir   string   // made with mode 0700 if it does not exist
	Names []string // host names of the serving certificate, beside the fixed ones
	IPs   []net.IP // addresses of the serving certificate, beside loopback: of the node, first of the service range

	Now func() time.Time // default: time.Now
}

// PKI is what an instance proves who it is with, and what it trusts.
type PKI struct {
	CA      *x509.Certificate
	CAPEM   []byte
	Serving tls.Certificate
	Admin   Pair
	Kubelet tls.Certificate // of the API server as a client of nodes

	// FrontProxy is the API server's where it passes on what users ask of
	// aggregated servers. Those believe its holder who the user is, so nothing
	// else is signed by its authority.
	FrontProxy      tls.Certificate
	FrontProxyCAPEM []byte

	SigningKey *ecdsa.PrivateKey  // signs service account tokens
	OldKeys    []crypto.PublicKey // signed tokens before; still accepted

	caKey *ecdsa.PrivateKey
	now   func() time.Time
	made  files // what has to be written
}

// Pair is a certificate and its key as PEM.
type Pair struct {
	Cert, Key []byte
}

// LoadPKI reads the keys and certificates in cfg.Dir, makes those that are
// missing and renews those that are near their end or lack a name. It may be
// called at each start; a file that exists but cannot be read is an error,
// never replaced: it may be all that other machines trust.
func LoadPKI(cfg PKIConfig) (*PKI, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, &fault.Error{Op: "make directory for certificates", On: cfg.Dir, Err: err}
	}
	p := &PKI{now: cfg.Now}
	if err := p.loadCA(cfg.Dir, "ca", "sampan-ca"); err != nil {
		return nil, err
	}
	if err := p.loadServing(cfg); err != nil {
		return nil, err
	}
	if err := p.loadAdmin(cfg.Dir); err != nil {
		return nil, err
	}
	if err := p.loadKubeletClient(cfg.Dir); err != nil {
		return nil, err
	}
	if err := p.loadFrontProxy(cfg.Dir); err != nil {
		return nil, err
	}
	if err := p.loadSigning(cfg.Dir); err != nil {
		return nil, err
	}
	if err := p.made.write(cfg.Dir); err != nil {
		return nil, err
	}
	p.made = nil
	return p, nil
}

// loadCA reads the authority in the files of one name, or makes it.
func (p *PKI) loadCA(dir, file, name string) error {
	path, keyPath := filepath.Join(dir, file+".crt"), filepath.Join(dir, file+".key")
	cert, err := loadCertificate(path)
	if err != nil {
		return err
	}
	if _, err := os.Stat(keyPath); cert != nil && os.IsNotExist(err) {
		return &fault.Error{Class: fault.NotFound, Op: "load certificate authority", On: keyPath, Fix: restore}
	}
	key, err := p.made.key(keyPath)
	if err != nil {
		return err
	}
	p.caKey = key
	if cert != nil && !publicEqual(cert.PublicKey, key.Public()) {
		return &fault.Error{Class: fault.Invalid, Op: "load certificate authority", On: path,
			Fix: file + ".crt and " + file + ".key do not belong together: restore both from one backup"}
	}
	if cert == nil || p.expiring(cert) {
		if cert, err = p.renewCA(path, name, key); err != nil {
			return err
		}
	}
	p.CA, p.CAPEM = cert, encodeCertificate(cert.Raw)
	return nil
}

func (p *PKI) renewCA(path, name string, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	t := p.template(pkix.Name{CommonName: name}, caLifetime)
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, &fault.Error{Op: "sign certificate", On: path, Err: err}
	}
	p.made.add(path, encodeCertificate(der), 0o644)
	return x509.ParseCertificate(der)
}

func (p *PKI) loadServing(cfg PKIConfig) error {
	names, ips := servingNames(cfg)
	good := func(c *x509.Certificate) bool {
		for _, n := range names {
			if !slices.Contains(c.DNSNames, n) {
				return false
			}
		}
		for _, ip := range ips {
			if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
				return false
			}
		}
		return true
	}
	t := p.template(pkix.Name{CommonName: "kube-apiserver"}, leafLifetime)
	t.DNSNames, t.IPAddresses = names, ips
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	pair, err := p.leaf(cfg.Dir, "apiserver", t, good)
	if err != nil {
		return err
	}
	p.Serving, err = tls.X509KeyPair(pair.Cert, pair.Key)
	return err
}

// servingNames are what clients call the server: by loopback, by host, and by
// the names that pods use (upstream's kubeadm makes the same list).
func servingNames(cfg PKIConfig) ([]string, []net.IP) {
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local"}
	for _, n := range cfg.Names {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, ip := range cfg.IPs {
		if !slices.ContainsFunc(ips, ip.Equal) {
			ips = append(ips, ip)
		}
	}
	return names, ips
}

func (p *PKI) loadAdmin(dir string) error {
	t := p.clientTemplate(AdminUser, []string{MastersName})
	pair, err := p.leaf(dir, "admin", t, func(*x509.Certificate) bool { return true })
	p.Admin = pair
	return err
}

// KubeletClient is the API server's name where it is a client of a node.
const KubeletClient = "kube-apiserver-kubelet-client"

func (p *PKI) loadKubeletClient(dir string) error {
	t := p.clientTemplate(KubeletClient, nil)
	pair, err := p.leaf(dir, "apiserver-kubelet-client", t, func(*x509.Certificate) bool { return true })
	if err != nil {
		return err
	}
	p.Kubelet, err = tls.X509KeyPair(pair.Cert, pair.Key)
	return err
}

// FrontProxyClient is the API server's name where it passes requests on.
const FrontProxyClient = "front-proxy-client"

func (p *PKI) loadFrontProxy(dir string) error {
	front := &PKI{now: p.now}
	if err := front.loadCA(dir, "front-proxy-ca", "front-proxy-ca"); err != nil {
		return err
	}
	pair, err := front.leaf(dir, FrontProxyClient, front.clientTemplate(FrontProxyClient, nil), func(*x509.Certificate) bool { return true })
	if err != nil {
		return err
	}
	p.made, p.FrontProxyCAPEM = append(p.made, front.made...), front.CAPEM
	p.FrontProxy, err = tls.X509KeyPair(pair.Cert, pair.Key)
	return err
}

// Authority reads the certificate authority of an instance that has one, to
// sign certificates with.
func Authority(dir string) (*PKI, error) {
	if _, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "load certificate authority", On: dir, Err: err,
			Fix: "run this on the machine where the cluster was started, as root and with its --state"}
	}
	p := &PKI{now: time.Now}
	if err := p.loadCA(dir, "ca", "sampan-ca"); err != nil {
		return nil, err
	}
	return p, p.made.write(dir)
}

// loadSigning reads the key of service account tokens, and the public keys of
// those before it: sa-*.pub, put there by RotateSigningKey or by hand.
func (p *PKI) loadSigning(dir string) error {
	key, err := p.made.key(filepath.Join(dir, "sa.key"))
	if err != nil {
		return err
	}
	p.SigningKey = key
	old, err := filepath.Glob(filepath.Join(dir, "sa-*.pub"))
	if err != nil {
		return err
	}
	for _, path := range old {
		pub, err := loadPublicKey(path)
		if err != nil {
			return err
		}
		p.OldKeys = append(p.OldKeys, pub)
	}
	return nil
}

// RotateSigningKey replaces the signing key in dir and keeps the public half
// of the old one beside it, so that tokens that are out remain good. It takes
// effect at the next start.
func RotateSigningKey(dir string) error {
	path := filepath.Join(dir, "sa.key")
	old, err := readKey(path)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(old.Public())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	var made files
	made.add(filepath.Join(dir, "sa-"+hex.EncodeToString(sum[:4])+".pub"),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
	if _, err := made.newKey(path); err != nil {
		return err
	}
	return made.write(dir)
}

// Client makes a certificate for a user of this instance's API: name is its
// user name, groups its groups. Nothing is written.
func (p *PKI) Client(name string, groups ...string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	return p.sign(p.clientTemplate(name, groups), key)
}

// Server makes a certificate for a listener of another process, such as a
// node's port 10250. Nothing is written.
func (p *PKI) Server(name string, groups, hosts []string, ips []net.IP) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	t := p.template(pkix.Name{CommonName: name, Organization: groups}, leafLifetime)
	t.DNSNames, t.IPAddresses = hosts, ips
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return p.sign(t, key)
}

// leaf reads the pair <name>.crt and <name>.key, or makes it from t when it is
// missing, near its end, of another CA, or not good.
func (p *PKI) leaf(dir, name string, t *x509.Certificate, good func(*x509.Certificate) bool) (Pair, error) {
	crtPath, keyPath := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	key, err := p.made.key(keyPath)
	if err != nil {
		return Pair{}, err
	}
	cert, err := loadCertificate(crtPath)
	if err != nil {
		return Pair{}, err
	}
	if cert != nil && !p.expiring(cert) && cert.CheckSignatureFrom(p.CA) == nil &&
		publicEqual(cert.PublicKey, key.Public()) && good(cert) {
		keyPEM, err := encodeKey(key)
		return Pair{Cert: encodeCertificate(cert.Raw), Key: keyPEM}, err
	}
	pair, err := p.sign(t, key)
	if err != nil {
		return Pair{}, err
	}
	p.made.add(crtPath, pair.Cert, 0o600)
	return pair, nil
}

func (p *PKI) sign(t *x509.Certificate, key *ecdsa.PrivateKey) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, p.CA, key.Public(), p.caKey)
	if err != nil {
		return Pair{}, &fault.Error{Op: "sign certificate", On: t.Subject.CommonName, Err: err}
	}
	keyPEM, err := encodeKey(key)
	return Pair{Cert: encodeCertificate(der), Key: keyPEM}, err
}

func (p *PKI) clientTemplate(name string, groups []string) *x509.Certificate {
	t := p.template(pkix.Name{CommonName: name, Organization: groups}, leafLifetime)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return t
}

func (p *PKI) template(subject pkix.Name, lifetime time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		serial = big.NewInt(p.now().UnixNano()) // rand.Reader does not fail on Linux
	}
	now := p.now()
	end := now.Add(lifetime)
	if p.CA != nil && end.After(p.CA.NotAfter) {
		end = p.CA.NotAfter // RFC 5280, 6.1: a leaf beyond its issuer is of no use
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-backdate), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
}

func (p *PKI) expiring(c *x509.Certificate) bool {
	now := p.now()
	return now.Add(renewBefore).After(c.NotAfter) || now.Before(c.NotBefore)
}

// readKey reads a private key.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM("read key", path)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read key", On: path, Err: err, Fix: restore}
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read key", On: path, Fix: "only ECDSA keys are supported"}
	}
	return ec, nil
}

// loadCertificate returns nil if there is no such file.
func loadCertificate(path string) (*x509.Certificate, error) {
	der, err := readPEM("read certificate", path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read certificate", On: path, Err: err, Fix: restore}
	}
	return cert, nil
}

func loadPublicKey(path string) (crypto.PublicKey, error) {
	der, err := readPEM("read key", path)
	if err != nil {
		return nil, err
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read key", On: path, Err: err, Fix: restore}
	}
	return pub, nil
}

const restore = "restore it from a backup, or remove it to have a new one made"

// readPEM returns the bytes of the first block of a file.
func readPEM(op, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Op: op, On: path, Err: err}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: op, On: path, Err: errNotPEM, Fix: restore}
	}
	return block.Bytes, nil
}

var errNotPEM = &fault.Error{Class: fault.Invalid, Op: "decode PEM"}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func publicEqual(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
