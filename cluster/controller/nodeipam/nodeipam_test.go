package nodeipam

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

func TestEachNodeGetsARangeOfItsOwnAndAFreeOneGoesToWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		defer func() { stop(); synctest.Wait() }()
		f := clienttest.New(t, kind.NewTable(core.Kinds()), node("a"), node("b"))
		c := New(Config{Client: f, Range: netip.MustParsePrefix("10.244.0.0/23"), Log: slog.New(slog.DiscardHandler)})
		go c.Run(ctx)
		synctest.Wait()
		pods := func(name string) string {
			n, err := client.Get[*corev1.Node](ctx, f, "", name)
			if err != nil {
				t.Fatal(err)
			}
			return n.Spec.PodCIDR
		}
		a, b := pods("a"), pods("b")
		if a == "" || b == "" || a == b {
			t.Fatalf("a has %q, b has %q", a, b)
		}
		f.Put(node("c"))
		synctest.Wait()
		if got := pods("c"); got != "" {
			t.Fatalf("c has %q, though none was left", got)
		}
		f.Drop(client.KindOf[*corev1.Node](f), "", "a")
		synctest.Wait()
		if got := pods("c"); got != a {
			t.Errorf("c has %q, want %q, which a had", got, a)
		}
	})
}
