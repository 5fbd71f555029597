package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// described is what a server said of its OpenAPI documents.
type described struct {
	url  string    // of the one of its group version; empty: it has none
	next time.Time // when it is asked again if somebody wants to know
}

// undescribed is how long a server is not asked that gave no answer.
const undescribed = 5 * time.Second

// Documents are the addresses, here and there, of the OpenAPI documents of
// version 3 that other servers have of their group versions. Who has not been
// asked for a while is asked now; one that does not answer within a second is
// left out, or keeps what it said before. (Upstream:
// kube-aggregator/pkg/controllers/openapiv3/aggregator.)
func (a *Aggregator) Documents(ctx context.Context) map[schema.GroupVersion]string {
	a.describing.Lock() // who comes meanwhile waits for the same answers
	defer a.describing.Unlock()
	now := a.cfg.Now()
	a.ask(ctx, func(k *known) bool { return !now.Before(k.described.next) }, func(was known) func(*known) {
		asked, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		url, err := a.describe(asked, was.connection, was.of)
		found := described{url, now.Add(used)}
		if err != nil {
			a.cfg.Log.Debug("OpenAPI of an aggregated API is not known", "key", was.of.Name, "err", err)
			found = described{was.described.url, now.Add(undescribed)}
		}
		return func(k *known) { k.described = found }
	})
	urls := map[schema.GroupVersion]string{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.known {
		if k.described.url != "" {
			urls[groupVersion(k.of)] = k.described.url
		}
	}
	return urls
}

// ask asks those servers that answer and whose turn has come, side by side.
// question gets what was known of one, and returns what keeps the answer.
func (a *Aggregator) ask(ctx context.Context, due func(*known) bool, question func(was known) (keep func(*known))) {
	var all sync.WaitGroup
	a.mu.Lock()
	for name, k := range a.known {
		if k.condition.Status != apiregistrationv1.ConditionTrue || !due(k) {
			continue
		}
		was := *k
		all.Go(func() {
			keep := question(was)
			if ctx.Err() != nil {
				return // who asked has left: that says nothing of the server
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if k == a.known[name] && k.connection == was.connection {
				keep(k)
			}
		})
	}
	a.mu.Unlock()
	all.Wait()
}

// describe asks a server where its document of a group version is. Servers
// from before version 3 have none. (KEP-2896.)
func (a *Aggregator) describe(ctx context.Context, c *connection, s *apiService) (string, error) {
	base, err := a.base(ctx, s.Spec.Service)
	if err != nil {
		return "", err
	}
	code, _, data, err := c.fetch(ctx, base+"/openapi/v3", "application/json")
	switch {
	case err != nil:
		return "", err
	case code == http.StatusNotFound:
		return "", nil
	case code != http.StatusOK:
		return "", fmt.Errorf("read %s/openapi/v3: status %d", base, code)
	}
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return "", fmt.Errorf("read %s/openapi/v3: %w", base, err)
	}
	own := pathOf(groupVersion(s))
	link, ok := index.Paths[strings.TrimPrefix(own, "/")]
	if !ok {
		return "", nil
	}
	if path, _, _ := strings.Cut(link.URL, "?"); path != "/openapi/v3"+own {
		return "", fmt.Errorf("read %s/openapi/v3: the document of %s is said to be at %q", base, own, link.URL)
	}
	return link.URL, nil
}
