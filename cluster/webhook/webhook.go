// Package webhook calls the programs that users give the API server to ask:
// webhooks of admission and of conversion. They listen at a URL or behind a
// service, speak HTTPS, and are trusted by a CA bundle of their own.
//
// A Caller keeps connections open for a while, bounds what it reads, and gives
// every call an end. It knows nothing of what is asked.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 32 << 20

// Config is what a Caller needs. Objects is required.
type Config struct {
	// Objects has the services and their endpoint slices.
	Objects client.Reader

	// Dial reaches pods and the world. Default: this machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// UserAgent names the caller. Default: "kube-apiserver-admission", which is
	// upstream's.
	UserAgent string

	Metrics *Metrics // nil: nobody asks for them
}

// Target is where a webhook listens: a URL or a Service, and whom to trust. It
// is the clientConfig of admissionregistration.k8s.io and apiextensions.k8s.io.
type Target struct {
	URL     string
	Service *Service // nil: URL
	CA      []byte   // certificates in PEM; empty: what the machine trusts
}

// Service is a webhook in the cluster.
type Service struct {
	Namespace, Name string
	Path            string
	Port            int32 // 0: 443
}

// Caller calls webhooks. It is safe for concurrent use.
type Caller struct {
	cfg        Config
	transports transports
}

// New returns a Caller. It starts nothing.
func New(cfg Config) (*Caller, error) {
	if cfg.Objects == nil {
		return nil, errors.New("webhook: Config.Objects is required")
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "kube-apiserver-admission"
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	return &Caller{cfg: cfg}, nil
}

// Call is one question to a webhook.
type Call struct {
	Target  Target
	Timeout time.Duration // required: nothing waits for ever

	// Announce tells the webhook the timeout, by the parameter "timeout", as
	// upstream does for admission and not for conversion.
	Announce bool
}

// Post sends ask as JSON and reads the answer into answer. An answer other than
// 200 is a StatusError; all else that goes wrong is an error as upstream's
// client words it: `Post "https://…": …`.
func (c *Caller) Post(ctx context.Context, call Call, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	address, err := call.Target.address()
	if err != nil {
		return err
	}
	if call.Announce {
		q := address.Query()
		q.Set("timeout", call.Timeout.String())
		address.RawQuery = q.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, call.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	// Not sent: it lets net/http try again on a fresh connection when a kept
	// one turns out to be dead. Webhooks are called again after a conflict
	// anyway, and have to bear it.
	req.Header["Idempotency-Key"] = nil
	transport, err := c.transport(call.Target)
	if err != nil {
		return err
	}
	follow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	began := time.Now()
	resp, err := (&http.Client{Transport: transport, CheckRedirect: follow}).Do(req)
	c.cfg.Metrics.asked(req, resp, began)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("Post %q: the answer is larger than %d bytes", address, maxAnswer)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return refused(resp, data)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("couldn't unmarshal the answer of %q: %w", address, err)
	}
	return nil
}

// refused turns an answer that is none into an error. (Upstream:
// client-go/rest, transformResponse.)
func refused(resp *http.Response, data []byte) error {
	var status metav1.Status
	if json.Unmarshal(data, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure {
		return apierrors.FromObject(&status)
	}
	text := "unknown"
	if kind := resp.Header.Get("Content-Type"); kind == "" || strings.HasPrefix(kind, "text/") {
		text = strings.TrimSpace(string(data[:min(len(data), 2048)]))
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, http.MethodPost, schema.GroupResource{}, "", text, 0, true)
}

// address is the URL to post to.
func (t Target) address() (*url.URL, error) {
	if t.Service == nil {
		u, err := url.Parse(t.URL)
		if err != nil {
			return nil, fmt.Errorf("unparsable webhook URL: %w", err)
		}
		if u.Scheme != "https" {
			return nil, fmt.Errorf("webhook URL %q: it has to be https", t.URL)
		}
		return u, nil
	}
	path := t.Service.Path
	if path != "" && path[0] != '/' {
		path = "/" + path
	}
	return &url.URL{Scheme: "https", Host: t.host(), Path: path}, nil
}

// host is what is dialled: of a service, the name that its certificate has to
// be for, with the port.
func (t Target) host() string {
	s := t.Service
	port := s.Port
	if port == 0 {
		port = 443
	}
	return net.JoinHostPort(s.Name+"."+s.Namespace+".svc", strconv.Itoa(int(port)))
}

// identity tells targets apart that cannot share connections.
func (t Target) identity() [sha256.Size]byte {
	h := sha256.New()
	if t.Service != nil {
		fmt.Fprintln(h, "service", t.host())
	} else if u, err := url.Parse(t.URL); err == nil {
		fmt.Fprintln(h, "url", u.Host)
	}
	h.Write(t.CA)
	return [sha256.Size]byte(h.Sum(nil))
}

// trust is the TLS configuration for t.
func (t Target) trust() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.Service != nil {
		c.ServerName = t.Service.Name + "." + t.Service.Namespace + ".svc"
	}
	if len(t.CA) == 0 {
		return c, nil
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(t.CA) {
		return nil, errors.New("unable to load root certificates: unable to parse bytes as PEM block")
	}
	return c, nil
}
