// Package webhook asks programs that an administrator named: whose a bearer
// token is (TokenReview), and what somebody may do (SubjectAccessReview). They
// are named by a file in the format of a kubeconfig: cluster is the program,
// user is this API server. (Upstream: apiserver/plugin/pkg/{authenticator/token,
// authorizer}/webhook.)
//
// It does not know in which order, and beside what else, they are asked.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	called "sampan/cluster/webhook"
	"sampan/internal/fault"
)

// DefaultTimeout bounds one question unless configured otherwise.
const DefaultTimeout = 30 * time.Second

// How often a question is asked if the program is there and cannot answer, and
// how long it is left alone between. (Upstream:
// DefaultAuthWebhookRetryBackoff.)
const (
	tries      = 5
	firstPause = 500 * time.Millisecond
	pauseGrows = 1.5
	jitter     = 0.2
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// Endpoint is a program that can be asked. It is safe for concurrent use.
type Endpoint struct {
	url    string
	client *http.Client
}

// Open reads a kubeconfig. It connects to nothing.
func Open(path string, timeout time.Duration) (*Endpoint, error) {
	wrong := func(err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "read webhook's kubeconfig", On: path, Err: err}
	}
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	address, client, err := called.FromFile(path, timeout)
	if err != nil {
		return nil, wrong(err)
	}
	target, err := url.Parse(address)
	if err != nil {
		return nil, wrong(err)
	}
	if target.Scheme != "https" && target.Scheme != "http" {
		return nil, wrong(fmt.Errorf("server %q: want a URL that begins with https://", address))
	}
	return &Endpoint{url: target.String(), client: client}, nil
}

// Close ends connections that are kept. What is under way goes on.
func (e *Endpoint) Close() { e.client.CloseIdleConnections() }

// refused is an answer other than success.
type refused struct {
	code int
	text string
}

func (r *refused) Error() string {
	if r.text != "" {
		return r.text
	}
	return fmt.Sprintf("the webhook answered %d %s", r.code, http.StatusText(r.code))
}

// post asks, again if that may help, and reads the answer.
func (e *Endpoint) post(ctx context.Context, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	pause := firstPause
	for i := 1; ; i++ {
		err := e.once(ctx, body, answer)
		if err == nil || i == tries || !passes(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause + time.Duration(jitter*rand.Float64()*float64(pause))):
		}
		pause = time.Duration(pauseGrows * float64(pause))
	}
}

// passes says whether an error is of the moment. (Upstream:
// webhook.DefaultShouldRetry.)
func passes(err error) bool {
	var r *refused
	if errors.As(err, &r) {
		return r.code == http.StatusInternalServerError || r.code == http.StatusTooManyRequests || r.code == http.StatusGatewayTimeout
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

func (e *Endpoint) once(ctx context.Context, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("the webhook's answer is larger than %d bytes", maxAnswer)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var s metav1.Status
		if json.Unmarshal(data, &s) != nil || s.Kind != "Status" {
			s.Message = ""
		}
		return &refused{code: resp.StatusCode, text: s.Message}
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("the webhook's answer: %w", err)
	}
	return nil
}

// version checks that an answer is of the kind and version that was asked.
func version(got, want metav1.TypeMeta) error {
	if got != want {
		return fmt.Errorf("expected webhook response of %s, Kind=%s, got %s, Kind=%s", want.APIVersion, want.Kind, got.APIVersion, got.Kind)
	}
	return nil
}
