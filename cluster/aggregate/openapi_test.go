package aggregate_test

import (
	"testing"
	"time"
)

func TestOthersAreAskedForDocumentsWhenSomebodyWantsThem(t *testing.T) {
	const own = "/openapi/v3/apis/wardle.example.com/v1alpha1"
	for _, c := range []struct{ it, index, want string }{
		{"has none", "", ""},
		{"has the one of its group version", `{"paths":{"version":{"serverRelativeURL":"/openapi/v3/version"},"apis/wardle.example.com/v1alpha1":{"serverRelativeURL":"` + own + `?hash=7"}}}`, own + "?hash=7"},
		{"has those of others", `{"paths":{"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1"}}}`, ""},
		{"leads elsewhere", `{"paths":{"apis/wardle.example.com/v1alpha1":{"serverRelativeURL":"/api/v1/secrets"}}}`, ""},
		{"talks nonsense", `{"paths":[]}`, ""},
	} {
		t.Run(c.it, func(t *testing.T) {
			w := newWorld(t)
			if c.index != "" {
				w.index.Store(&c.index)
			}
			w.register()
			w.available()
			began := time.Now()
			if n := w.described.Load(); n != 0 {
				t.Errorf("asked %d times before somebody wants to know", n)
			}
			got := w.aggregator.Documents(t.Context())[wardle]
			for n := 0; n < 1200 && w.described.Load() == 0 || got != c.want; n++ { // one that is slow is asked again
				time.Sleep(50 * time.Millisecond)
				got = w.aggregator.Documents(t.Context())[wardle]
				if n == 1200 {
					t.Fatalf("the document is at %q, want %q", got, c.want)
				}
			}
			asked := w.described.Load()
			w.aggregator.Documents(t.Context())
			if w.described.Load() != asked && time.Since(began) < 20*time.Second && c.want != "" {
				t.Errorf("asked once more at once")
			}
		})
	}
}
