package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"

	"sampan/internal/fault"
)

// TLSFiles says how to reach an etcd elsewhere, as upstream's flags
// --etcd-cafile, --etcd-certfile and --etcd-keyfile do.
type TLSFiles struct{ CA, Cert, Key string }

// Config returns nil if no file is named. The certificate is read anew for each
// connection, so that it may be renewed while the program runs.
func (f TLSFiles) Config() (*tls.Config, error) {
	if f == (TLSFiles{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	wrong := func(on string, err error, fix string) error {
		return &fault.Error{Class: fault.Invalid, Op: "configure TLS to etcd", On: on, Err: err, Fix: fix}
	}
	if f.CA != "" {
		data, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, wrong(f.CA, err, "name it with --etcd-cafile")
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, wrong(f.CA, errors.New("no certificate is in it"), "")
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, wrong(f.Cert+f.Key, errors.New("a certificate and its key are needed together"), "give both --etcd-certfile and --etcd-keyfile")
	}
	if f.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, wrong(f.Cert, err, "")
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}
