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

func TestOthersAreAskedWhetherTheirOlderDocumentHasChanged(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	one, two := `{"swagger":"2.0"}`, `{"swagger":"2.0","paths":{}}`
	w.older.Store(&one)
	w.register()
	w.available()
	if n := w.told.Load(); n != 0 {
		t.Errorf("asked %d times before somebody wants to know", n)
	}
	// reads returns what is known once it is want; who is slow is asked again.
	reads := func(want string) {
		t.Helper()
		for range 600 {
			docs := w.aggregator.OlderDocuments(t.Context())
			if len(docs) == 1 && string(docs[0].Data) == want && docs[0].GroupVersion == wardle {
				return
			}
			w.ahead.Add(int64(time.Minute))
		}
		t.Fatalf("the document never is %s", want)
	}
	reads(one)
	asked := w.told.Load()
	w.aggregator.OlderDocuments(t.Context())
	if w.told.Load() != asked && time.Since(began) < 20*time.Second {
		t.Error("asked once more at once")
	}
	for n := 0; n < 600 && w.same.Load() == 0; n++ {
		w.ahead.Add(int64(time.Minute))
		reads(one)
	}
	if w.same.Load() == 0 {
		t.Error("nobody asked for what is new alone")
	}
	w.older.Store(&two)
	w.ahead.Add(int64(time.Minute))
	reads(two)
	w.older.Store(nil)
	for n := 0; len(w.aggregator.OlderDocuments(t.Context())) > 0; n++ {
		if n == 600 {
			t.Fatal("a document that is gone stays")
		}
		w.ahead.Add(int64(time.Minute))
	}
}
