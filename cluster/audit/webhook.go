package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	called "sampan/cluster/webhook"
	"sampan/internal/fault"
)

// webhook is a program that events are posted to, as an EventList.
type webhook struct {
	url    string
	client *http.Client
	first  time.Duration // before the first repetition
}

// How often a call is tried, how much longer each pause is than the one
// before, how long one may take, and how much of an answer is read: upstream's,
// but for the last.
const (
	tries       = 5
	factor      = 1.5
	jitter      = 0.2
	callTimeout = 30 * time.Second
	maxAnswer   = 4 << 10
)

func newWebhook(c WebhookConfig) (*webhook, error) {
	url, client, err := called.FromFile(c.File, callTimeout)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read audit webhook's kubeconfig", On: c.File, Err: err,
			Fix: "correct the file given with --audit-webhook-config-file"}
	}
	return &webhook{url: url, client: client, first: c.Backoff}, nil
}

// write tries again whatever went wrong: an event that may still arrive is not
// given up for an odd answer.
func (w *webhook) write(ctx context.Context, events []*auditv1.Event) error {
	list := auditv1.EventList{TypeMeta: metav1.TypeMeta{Kind: "EventList", APIVersion: auditv1.SchemeGroupVersion.String()}}
	for _, e := range events {
		list.Items = append(list.Items, *e)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	pause := w.first
	for try := 1; ; try++ {
		if err = w.post(body); err == nil || try == tries {
			return err
		}
		timer := time.NewTimer(pause + time.Duration(rand.Float64()*jitter*float64(pause)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause = time.Duration(float64(pause) * factor)
	}
}

func (w *webhook) post(body []byte) error {
	resp, err := w.client.Post(w.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("the webhook answered %s: %s", resp.Status, bytes.TrimSpace(said))
	}
	return err
}
