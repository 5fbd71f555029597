package aggregate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Older is the document of OpenAPI version 2 of another server, which is about
// all that it has.
type Older struct {
	GroupVersion schema.GroupVersion // that it answers for here
	Digest       string              // changes with Data
	Data         []byte              // JSON; shared: never written to
}

// told is what a server has said in version 2.
type told struct {
	Older           // Data is nil: nothing
	tag   string    // of its answer, for the next question
	next  time.Time // when it is asked again if somebody wants to know
}

// firstTold is how long who wants to know waits for a server that has never
// answered: its document may have to be made.
const firstTold = 5 * time.Second

// OlderDocuments are the documents of version 2 of other servers, ordered by
// group version. Who has not been asked for a while is asked now, and answers
// whether it has changed; one that does not answer in time is left out, or
// keeps what it said before. (Upstream:
// kube-aggregator/pkg/controllers/openapi/aggregator.)
func (a *Aggregator) OlderDocuments(ctx context.Context) []Older {
	a.telling.Lock() // who comes meanwhile waits for the same answers
	defer a.telling.Unlock()
	now := a.cfg.Now()
	a.ask(ctx, func(k *known) bool { return !now.Before(k.told.next) }, func(was known) func(*known) {
		wait := patience
		if was.told.Data == nil {
			wait = firstTold
		}
		asked, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		found, err := a.tell(asked, was.connection, was.of, was.told)
		if err != nil {
			a.cfg.Log.Debug("OpenAPI version 2 of an aggregated API is not known", "key", was.of.Name, "err", err)
			found = was.told
		}
		found.next = now.Add(used)
		return func(k *known) { k.told = found }
	})
	var docs []Older
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.known {
		if k.told.Data != nil {
			docs = append(docs, k.told.Older)
		}
	}
	slices.SortFunc(docs, func(a, b Older) int { return strings.Compare(a.GroupVersion.String(), b.GroupVersion.String()) })
	return docs
}

// tell asks a server for its document, unless it is as it was before. There are
// servers that have none.
func (a *Aggregator) tell(ctx context.Context, c *connection, s *apiService, before told) (told, error) {
	base, err := a.base(ctx, s.Spec.Service)
	if err != nil {
		return told{}, err
	}
	var more []string
	if before.tag != "" {
		more = []string{"If-None-Match", before.tag}
	}
	code, header, data, err := c.fetch(ctx, base+"/openapi/v2", "application/json", more...)
	switch {
	case err != nil:
		return told{}, err
	case code == http.StatusNotModified && before.tag != "":
		return before, nil
	case code == http.StatusNotFound:
		return told{}, nil
	case code != http.StatusOK:
		return told{}, fmt.Errorf("read %s/openapi/v2: status %d", base, code)
	}
	sum := sha256.Sum256(data)
	return told{Older: Older{GroupVersion: groupVersion(s), Digest: hex.EncodeToString(sum[:]), Data: data}, tag: header.Get("ETag")}, nil
}
