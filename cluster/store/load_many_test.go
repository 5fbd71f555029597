package store_test

import (
	"fmt"
	"sync"
	"testing"
)

func TestAllOfManyObjectsAreThereAfterAStart(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s := open(t, dir, quick)
	model := map[string]string{}
	var all sync.WaitGroup
	for i := range 1300 { // several reads, of several cores each
		name := fmt.Sprint("n", i)
		model[name] = fmt.Sprint("value ", i)
		obj := configMap(name, model[name])
		all.Go(func() {
			if _, err := s.Create(ctx, cm(name), obj); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, open(t, dir, quick), model)
}
