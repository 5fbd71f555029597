package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apimachinery/pkg/util/wait"

	"sampan/cluster/webhook"
)

// ImagePolicy asks a program, which an administrator named in a file, whether
// the images of a pod may run. It is upstream's ImagePolicyWebhook.
type ImagePolicy struct {
	url      string
	client   *http.Client
	told     imagePolicyConfiguration
	answered *cache.LRUExpireCache
	sleeping wait.Backoff
}

// imagePolicyConfiguration has times as upstream has them: seconds that an
// answer counts, milliseconds until it is asked again; 0 is the default, -1 is
// none.
type imagePolicyConfiguration struct {
	KubeConfigFile string `json:"kubeConfigFile"`
	AllowTTL       int64  `json:"allowTTL"`
	DenyTTL        int64  `json:"denyTTL"`
	RetryBackoff   int64  `json:"retryBackoff"`
	DefaultAllow   bool   `json:"defaultAllow"`
}

const (
	imageAnswers = 1024             // that are remembered
	imageTimeout = 30 * time.Second // of one question
	imageAnswer  = 1 << 20          // bytes that are read of it

	imageAudit = "imagepolicywebhook.image-policy.k8s.io/"
)

// NewImagePolicy returns the plugin, told an imagePolicy, without which it makes
// no sense.
func NewImagePolicy(configuration []byte) (*ImagePolicy, error) {
	const plugin = "ImagePolicyWebhook"
	if len(configuration) == 0 {
		return nil, misconfigured(plugin, errors.New("no config specified"))
	}
	var told struct {
		ImagePolicy imagePolicyConfiguration `json:"imagePolicy"`
	}
	if err := strictly(configuration, &told); err != nil {
		return nil, misconfigured(plugin, err)
	}
	p := &ImagePolicy{told: told.ImagePolicy, answered: cache.NewLRUExpireCache(imageAnswers)}
	backoff, err := imageTime(p.told.RetryBackoff, time.Millisecond, 1, 5*time.Minute, 500*time.Millisecond)
	for _, ttl := range []struct {
		value *int64
		usual time.Duration
	}{{&p.told.AllowTTL, 5 * time.Minute}, {&p.told.DenyTTL, 30 * time.Second}} {
		d, terr := imageTime(*ttl.value, time.Second, time.Second, 30*time.Minute, ttl.usual)
		err = errors.Join(err, terr)
		*ttl.value = int64(d)
	}
	if err != nil {
		return nil, misconfigured(plugin, err)
	}
	p.sleeping = wait.Backoff{Duration: backoff, Factor: 1.5, Jitter: 0.2, Steps: 5}
	if p.url, p.client, err = webhook.FromFile(p.told.KubeConfigFile, imageTimeout); err != nil {
		return nil, misconfigured(plugin, err)
	}
	return p, nil
}

func imageTime(given int64, unit, least, most, usual time.Duration) (time.Duration, error) {
	switch given {
	case -1:
		return 0, nil
	case 0:
		return usual, nil
	}
	d := time.Duration(given) * unit
	if d < least || d > most || d/unit != time.Duration(given) {
		return 0, fmt.Errorf("valid value is between %v and %v, got %v", least, most, d)
	}
	return d, nil
}

// Waits implements Waiter.
func (p *ImagePolicy) Waits() {}

// Review implements Reviewer.
func (p *ImagePolicy) Review(ctx context.Context, a *Attempt) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != Create && a.Operation != Update || a.Body != nil {
		return nil
	}
	ask := imagepolicyv1alpha1.ImageReviewSpec{Namespace: a.Request.Namespace, Annotations: map[string]string{}}
	about := func(image string) {
		ask.Containers = append(ask.Containers, imagepolicyv1alpha1.ImageReviewContainerSpec{Image: image})
	}
	switch a.Request.Subresource {
	case "":
		for _, c := range pod.Spec.Containers {
			about(c.Image)
		}
		for _, c := range pod.Spec.InitContainers {
			about(c.Image)
		}
	case "ephemeralcontainers":
		for _, c := range pod.Spec.EphemeralContainers {
			about(c.Image)
		}
	default:
		return nil
	}
	for k, v := range pod.Annotations {
		if strings.Contains(k, ".image-policy.k8s.io/") {
			ask.Annotations[k] = v
		}
	}
	status, err := p.ask(ctx, ask)
	if err != nil {
		if p.told.DefaultAllow { // upstream writes it on the pod as well, which a Reviewer does not
			a.Request.Note(imageAudit+"failed-open", "true")
			return nil
		}
		return forbidden(a, err)
	}
	for k, v := range status.AuditAnnotations {
		a.Request.Note(imageAudit+k, v)
	}
	switch {
	case status.Allowed:
		return nil
	case status.Reason != "":
		return forbidden(a, fmt.Errorf("image policy webhook backend denied one or more images: %s", status.Reason))
	}
	return forbidden(a, errors.New("one or more images rejected by webhook backend"))
}

// ask returns an answer, remembered or new.
func (p *ImagePolicy) ask(ctx context.Context, spec imagepolicyv1alpha1.ImageReviewSpec) (s imagepolicyv1alpha1.ImageReviewStatus, err error) {
	key, err := json.Marshal(spec) // maps are in order
	if err != nil {
		return s, err
	}
	if known, ok := p.answered.Get(string(key)); ok {
		return known.(imagepolicyv1alpha1.ImageReviewStatus), nil
	}
	body, err := json.Marshal(imagepolicyv1alpha1.ImageReview{Spec: spec,
		TypeMeta: metav1.TypeMeta{APIVersion: imagepolicyv1alpha1.SchemeGroupVersion.String(), Kind: "ImageReview"}})
	if err != nil {
		return s, err
	}
	var last error
	werr := wait.ExponentialBackoffWithContext(ctx, p.sleeping, func(ctx context.Context) (bool, error) {
		var again bool
		s, again, last = p.post(ctx, body)
		return last == nil || !again, nil
	})
	if last != nil {
		return s, last
	}
	if werr != nil {
		return s, werr
	}
	lasts := time.Duration(p.told.DenyTTL)
	if s.Allowed {
		lasts = time.Duration(p.told.AllowTTL)
	}
	if lasts > 0 {
		p.answered.Add(string(key), s, lasts)
	}
	return s, nil
}

// post asks once; again says whether a failure may pass.
func (p *ImagePolicy) post(ctx context.Context, body []byte) (s imagepolicyv1alpha1.ImageReviewStatus, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return s, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return s, true, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, imageAnswer))
	if err != nil {
		return s, true, err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		again := resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests
		return s, again, fmt.Errorf("Error contacting webhook: %d", resp.StatusCode)
	}
	var answer imagepolicyv1alpha1.ImageReview
	if err := json.Unmarshal(data, &answer); err != nil {
		return s, false, err
	}
	return answer.Status, false, nil
}
