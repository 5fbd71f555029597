package api

import (
	"bytes"
	"errors"
	"fmt"
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
	return &call{s: &Server{codec: &object.Codec{Kinds: kinds}}}, request.Request{Verb: "list", Kind: k, GVK: k.GVK}
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

func TestLongListsAreThoseOfOnePiece(t *testing.T) {
	for _, mediaType := range []string{object.JSON, object.Protobuf} {
		t.Run(mediaType, func(t *testing.T) {
			c, r := lists()
			var objs []kind.Object
			next := 0
			fresh := func() kind.Object {
				next++
				return numbered(r, next, 1+rand.IntN(3000))
			}
			for range 1000 {
				objs = append(objs, fresh())
			}
			for round := range 30 {
				if got, want := c.long(t, r, mediaType, objs), c.whole(t, r, mediaType, objs); !bytes.Equal(got, want) {
					t.Fatalf("round %d: of %d objects: %d bytes, not the %d wanted", round, len(objs), len(got), len(want))
				}
				objs = slices.Clone(objs) // the list that was asked for is not the one that changes
				for range 1 + rand.IntN(4) {
					switch at := rand.IntN(len(objs)); rand.IntN(4) {
					case 0:
						objs = slices.Insert(objs, at, fresh())
					case 1:
						objs = slices.Delete(objs, at, at+1)
					case 2:
						objs[at] = fresh()
					case 3:
						objs = objs[rand.IntN(min(100, len(objs)-1)):]
					}
				}
			}
		})
	}
}

func TestPiecesOfWhatHasNotChangedAreUsedAgain(t *testing.T) {
	c, r := lists()
	var objs []kind.Object
	for i := range 640 {
		objs = append(objs, numbered(r, i, 100))
	}
	c.long(t, r, object.JSON, objs)
	made := map[*piece]bool{}
	for _, p := range c.s.pieces.young {
		made[p] = true
	}
	if len(made) != 10 {
		t.Fatalf("%d pieces, not 10", len(made))
	}
	objs = slices.Insert(slices.Clone(objs), 320, numbered(r, 1000, 100))
	objs = slices.Delete(objs, 100, 101)
	c.long(t, r, object.JSON, objs)
	again := 0
	for _, p := range c.s.pieces.young {
		if !made[p] {
			again++
		}
	}
	if again > 4 {
		t.Errorf("%d pieces were made for two changes", again)
	}
}

func TestPiecesAreBoundedAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mediaType := range []string{object.JSON, object.Protobuf} {
			c, r := lists()
			var objs []kind.Object
			for i := range 90 {
				objs = append(objs, numbered(r, i, 500_000))
			}
			for range 2 {
				if got, want := c.long(t, r, mediaType, objs), c.whole(t, r, mediaType, objs); !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes, not the %d wanted", mediaType, len(got), len(want))
				}
			}
			p := &c.s.pieces
			kept := 0
			for _, all := range []map[pieceKey]*piece{p.young, p.old} {
				for _, one := range all {
					kept += len(one.data)
				}
			}
			if kept == 0 || kept > 2*piecesBytes+1<<20 {
				t.Errorf("%s: %d bytes are kept", mediaType, kept)
			}
			time.Sleep(2*piecesAge + time.Second)
			synctest.Wait()
			if len(p.young)+len(p.old) > 0 || p.timer != nil {
				t.Errorf("%s: %d young and %d old pieces are still there, timer %v", mediaType, len(p.young), len(p.old), p.timer)
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
