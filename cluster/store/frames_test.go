package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestFramesAreSharedForSomeSecondsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := &frames{}
		defer all.stop()
		e, made := &Event{enc: encodings{of: all}}, 0
		ask := func() {
			if got := string(e.Encoded("json", func() []byte { made++; return []byte("{}") })); got != "{}" {
				t.Fatalf("got %q", got)
			}
		}
		ask()
		time.Sleep(framesAge - time.Second)
		if ask(); made != 1 {
			t.Fatalf("made %d times", made)
		}
		time.Sleep(framesAge + 2*time.Second)
		synctest.Wait()
		if e.enc.forms != nil || all.timer != nil || len(all.young)+len(all.old) > 0 {
			t.Fatalf("kept: %v, %d young, %d old, timer %v", e.enc.forms, len(all.young), len(all.old), all.timer)
		}
		if ask(); made != 2 || all.timer == nil {
			t.Fatalf("made %d times, timer %v", made, all.timer)
		}
	})
}

func TestFramesAreBoundedInBytes(t *testing.T) {
	all := &frames{}
	defer all.stop()
	var events []*Event
	for i := range 64 { // one MiB each
		e := &Event{enc: encodings{of: all}}
		e.Encoded(fmt.Sprint(i), func() []byte { return make([]byte, 1<<20) })
		events = append(events, e)
	}
	kept := 0
	for _, e := range events {
		kept += len(e.enc.forms)
	}
	if most := 2*framesBytes>>20 + 1; kept > most || kept == 0 {
		t.Errorf("%d MiB are kept, at most %d may be", kept, most)
	}
	if events[63].enc.forms == nil {
		t.Error("the last one is not kept")
	}
}
