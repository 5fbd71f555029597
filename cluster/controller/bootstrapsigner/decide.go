package bootstrapsigner

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/bootstraptoken"
)

// What is signed, and where signatures are: keys of the ConfigMap. (Upstream:
// k8s.io/cluster-bootstrap/token/api.)
const (
	infoName        = "cluster-info"
	keyKubeconfig   = "kubeconfig"
	signaturePrefix = "jws-kubeconfig-"
)

type decision struct {
	data  map[string]string // what the ConfigMap is to hold; nil: what it holds
	again time.Duration     // until the first of the tokens is over; 0: never
}

// decide is a pure function of what the cache holds.
func decide(info *corev1.ConfigMap, secrets []*corev1.Secret, now time.Time) (d decision) {
	content, ok := info.Data[keyKubeconfig]
	if !ok {
		return decision{}
	}
	data := map[string]string{}
	for k, v := range info.Data {
		if !strings.HasPrefix(k, signaturePrefix) {
			data[k] = v
		}
	}
	for _, s := range secrets {
		id, secret, ok := bootstraptoken.Signs(s, now)
		if !ok {
			continue
		}
		if left, _ := bootstraptoken.Left(s, now); left > 0 && (d.again == 0 || left < d.again) {
			d.again = left
		}
		data[signaturePrefix+id] = sign(content, id, secret)
	}
	if !maps.Equal(data, info.Data) {
		d.data = data
	}
	return d
}

// sign makes a JSON web signature (HS256) without the content, which is beside
// it. (RFC 7515, appendix F; RFC 7518, 3.2, would have a longer key.)
func sign(content, id, secret string) string {
	enc := base64.RawURLEncoding
	head := enc.EncodeToString([]byte(`{"alg":"HS256","kid":"` + id + `"}`)) // an ID has letters and digits alone
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(head + "." + enc.EncodeToString([]byte(content))))
	return head + ".." + enc.EncodeToString(mac.Sum(nil))
}
