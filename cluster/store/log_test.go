package store

import (
	"testing"
	"time"
)

func TestLargeEventsDoNotStayForGood(t *testing.T) {
	w := Window{Min: 100, MinBytes: 1000}.withDefaults()
	now := time.Unix(1000, 0)
	l := &eventLog{}
	for i := range 20 {
		l.add(&Event{Revision: int64(i + 1), at: now, size: 300}, w)
	}
	if len(l.events) != 20 {
		t.Fatalf("%d young events are kept, want 20", len(l.events))
	}
	if again := l.trim(w, now.Add(w.Age)); again || len(l.events) != 3 {
		t.Fatalf("%d old events are kept, want the 3 that have 1000 bytes at most; again: %t", len(l.events), again)
	}
	if _, ok := l.after(16); ok {
		t.Error("the log claims to reach back to what was dropped")
	}
	if at, ok := l.after(17); !ok || len(l.from(at)) != 3 {
		t.Error("what is kept cannot be had")
	}
}
