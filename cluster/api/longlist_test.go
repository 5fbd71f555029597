package api

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// lists is a server as far as long lists need one, with a request for
// ConfigMaps.
func lists() (*call, request.Request) {
	kinds := kind.NewTable(core.Kinds())
	k := kinds.ByGVR(corev1.SchemeGroupVersion.WithResource("configmaps"))
	return &call{s: &Server{codec: &object.Codec{Kinds: kinds}, pieces: pieces{most: 1 << 20}}}, request.Request{Verb: "list", Kind: k, GVK: k.GVK}
}

func numbered(r request.Request, n, size int) kind.Object {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%06d", n), Namespace: "shop"},
		Data: map[string]string{"a": strings.Repeat("x<", size/2)}}
	m.SetGroupVersionKind(r.GVK)
	return m
}

var listMeta = metav1.ListMeta{ResourceVersion: "7"}

func (c *call) long(t *testing.T, r request.Request, mediaType string, objs []kind.Object) []byte {
	t.Helper()
	var out bytes.Buffer
	w := writeBehind(&out)
	defer w.end()
	if err := c.longList(w, accepted{mediaType: mediaType}, r, listMeta, objs); err != nil {
		t.Fatal(err)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (c *call) whole(t *testing.T, r request.Request, mediaType string, objs []kind.Object) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := c.s.codec.EncodeList(&out, r.Kind, r.GVK, listMeta, objs, mediaType); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// all are the pieces that are kept, young and old.
func (p *pieces) all() (young, old []*piece, timed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.young)), slices.Collect(maps.Values(p.old)), p.timer != nil
}

func TestLongListsAreThoseOfOnePiece(t *testing.T) {
	for _, mediaType := range []string{object.JSON, object.Protobuf} {
		t.Run(mediaType, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			c, r := lists()
			next := 0
			fresh := func() kind.Object {
				next++
				return numbered(r, next, 1+random.IntN(200)+10_000*(random.IntN(30)/29))
			}
			var objs []kind.Object
			for range 400 {
				objs = append(objs, fresh())
			}
			for round := range 12 {
				if got, want := c.long(t, r, mediaType, objs), c.whole(t, r, mediaType, objs); !bytes.Equal(got, want) {
					t.Fatalf("round %d: of %d objects: %d bytes, not the %d wanted", round, len(objs), len(got), len(want))
				}
				objs = slices.Clone(objs) // the list that was asked for is not the one that changes
				for range 1 + random.IntN(4) {
					switch at := random.IntN(len(objs)); random.IntN(4) {
					case 0:
						objs = slices.Insert(objs, at, fresh())
					case 1:
						objs = slices.Delete(objs, at, at+1)
					case 2:
						objs[at] = fresh()
					case 3:
						objs = objs[random.IntN(10):]
					}
				}
			}
		})
	}
}

func TestPiecesOfWhatHasNotChangedAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := lists()
		var objs []kind.Object
		for i := range 640 {
			objs = append(objs, numbered(r, i, 100))
		}
		c.long(t, r, object.JSON, objs)
		made, _, _ := c.s.pieces.all()
		if len(made) != 10 {
			t.Fatalf("%d pieces, not 10", len(made))
		}
		time.Sleep(piecesAge + time.Second) // they are the older generation now
		objs = slices.Insert(slices.Clone(objs), 320, numbered(r, 1000, 100))
		objs = slices.Delete(objs, 100, 101)
		c.long(t, r, object.JSON, objs)
		again := 0
		young, _, _ := c.s.pieces.all()
		for _, p := range young {
			if !slices.Contains(made, p) {
				again++
			}
		}
		if again == 0 || again > 4 {
			t.Errorf("%d pieces were made for two changes", again)
		}
		time.Sleep(2*piecesAge + time.Second)
	})
}

func TestPiecesAreBoundedAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mediaType := range []string{object.JSON, object.Protobuf} {
			c, r := lists()
			var objs []kind.Object
			for i := range 100 {
				objs = append(objs, numbered(r, i, 25_000))
			}
			for range 2 {
				if got, want := c.long(t, r, mediaType, objs), c.whole(t, r, mediaType, objs); !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes, not the %d wanted", mediaType, len(got), len(want))
				}
			}
			p := &c.s.pieces
			kept := 0
			young, old, _ := p.all()
			for _, one := range append(young, old...) {
				kept += len(one.data)
			}
			if kept == 0 || kept > 2*p.most {
				t.Errorf("%s: %d bytes are kept", mediaType, kept)
			}
			time.Sleep(2*piecesAge + time.Second)
			synctest.Wait()
			if young, old, timed := p.all(); len(young)+len(old) > 0 || timed {
				t.Errorf("%s: %d young and %d old pieces are still there, timer %v", mediaType, len(young), len(old), timed)
			}
		}
	})
}

type broken struct{ after int }

func (b *broken) Write(p []byte) (int, error) {
	if b.after--; b.after < 0 {
		return 0, errors.New("gone")
	}
	return len(p), nil
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("no") }

func TestALongListEndsWhenNobodyTakesIt(t *testing.T) {
	c, r := lists()
	var objs []kind.Object
	for i := range 2000 {
		objs = append(objs, numbered(r, i, 2000))
	}
	w := writeBehind(&broken{after: 3})
	if err := c.longList(w, accepted{mediaType: object.JSON}, r, listMeta, objs); err != nil {
		t.Fatal(err)
	}
	if err := w.end(); err == nil || err.Error() != "gone" {
		t.Errorf("got %v", err)
	}
	w = writeBehind(panicking{})
	w.write([]byte("x"))
	if err := w.end(); err == nil || !w.failed.Load() {
		t.Errorf("a panic of the writer: got %v", err)
	}
}
