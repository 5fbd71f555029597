package store

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestReadsAreOfAboutOneSizeWhateverObjectsAre(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		it   string
		size int
		want int
	}{
		{"many small ones", 100, readObjects},
		{"objects as pods are", 3000, readBytes / 3000},
		{"large ones, but not fewer than one core decodes", 1 << 20, pageSize},
	} {
		kvs := []*mvccpb.KeyValue{{Value: make([]byte, c.size)}, {Value: make([]byte, c.size)}}
		if got := nextRead(kvs); got != c.want && got != c.want-1 {
			t.Errorf("%s: %d are read at a time, want %d", c.it, got, c.want)
		}
	}
}
