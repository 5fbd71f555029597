package admission

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
)

func TestImagesAreAskedAbout(t *testing.T) {
	var asked atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review imagepolicyv1alpha1.ImageReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Kind != "ImageReview" || review.Spec.Namespace != "ns" {
			t.Errorf("asked %+v, %v", review, err)
		}
		if n := asked.Add(1); n == 1 || review.Spec.Containers[0].Image == "down" {
			http.Error(w, "later", http.StatusInternalServerError)
			return
		}
		if len(review.Spec.Annotations) > 0 {
			review.Status.AuditAnnotations = map[string]string{"ticket": review.Spec.Annotations["mine.image-policy.k8s.io/ticket"]}
		}
		switch review.Spec.Containers[0].Image {
		case "bad":
			review.Status.Reason = "it is bad"
		case "worse":
		default:
			review.Status.Allowed = true
		}
		_ = json.NewEncoder(w).Encode(review)
	}))
	defer hook.Close()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"`+hook.URL+
		`"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := func(more string) *ImagePolicy {
		p, err := NewImagePolicy([]byte("imagePolicy: {kubeConfigFile: " + config + ", retryBackoff: 1" + more + "}"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	strict, lax := plugin(""), plugin(", defaultAllow: true")
	pods := &kind.Kind{Plural: "pods"}
	for _, tc := range []struct {
		it, image, sub string
		of             *ImagePolicy
		asked          int64  // how often in all
		noted          string // in the audit log
		err            string
	}{
		{it: "again after a failure", image: "good", of: strict, asked: 2, noted: "imagepolicywebhook.image-policy.k8s.io/ticket=7"},
		{it: "not twice the same", image: "good", of: strict, asked: 2, noted: "imagepolicywebhook.image-policy.k8s.io/ticket=7"},
		{it: "and may not run", image: "bad", of: strict, asked: 3, err: `pods "p" is forbidden: image policy webhook backend denied one or more images: it is bad`},
		{it: "and may not run, without a reason", image: "worse", of: strict, asked: 4, err: "one or more images rejected by webhook backend"},
		{it: "not for a status", image: "bad", sub: "status", of: strict, asked: 4},
		{it: "in vain", image: "down", of: strict, asked: 9, err: "Error contacting webhook: 500"},
		{it: "in vain, which is no reason", image: "down", of: lax, asked: 14, noted: "imagepolicywebhook.image-policy.k8s.io/failed-open=true"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"other": "x"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: tc.image}}}}
			if tc.image == "good" {
				pod.Annotations["mine.image-policy.k8s.io/ticket"] = "7"
			}
			a, noted := create(pods, pod), ""
			a.Request.Namespace, a.Request.Subresource = "ns", tc.sub
			a.Request.Annotate = func(key, value string, _ bool) { noted += key + "=" + value }
			err := tc.of.Review(t.Context(), a)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%v, want %q", err, tc.err)
			}
			if asked.Load() != tc.asked || noted != tc.noted {
				t.Errorf("asked %d times, want %d; noted %q, want %q", asked.Load(), tc.asked, noted, tc.noted)
			}
		})
	}
	for it, text := range map[string]string{"no config specified": "", "valid value is between 1s and 30m0s, got 1h0m0s": "imagePolicy: {allowTTL: 3600}",
		"no such file": "imagePolicy: {kubeConfigFile: /none}", `unknown field "imagePolicy.more"`: "imagePolicy: {more: 1}"} {
		if _, err := NewImagePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), it) {
			t.Errorf("%s: %v", it, err)
		}
	}
}
