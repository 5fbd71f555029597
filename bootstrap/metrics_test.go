package bootstrap

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/counted"
)

func TestWhetherTheRangesOfNodesAreManagedIsMeasured(t *testing.T) {
	down := &outages{}
	in := prometheus.NewRegistry()
	in.MustRegister(managed(down))
	says := func(it, want string) {
		t.Helper()
		var b strings.Builder
		if err := counted.Write(&b, in, "running_"); err != nil {
			t.Fatal(err)
		}
		if line := `running_managed_controllers{manager="kube-controller-manager",name="nodeipam"} ` + want + "\n"; !strings.HasSuffix(b.String(), line) {
			t.Errorf("%s: %s", it, b.String())
		}
	}
	says("not begun", "0")
	down.set("nodeipam", nil)
	says("it runs", "1")
	down.set("nodeipam", errors.New("broken"))
	says("it failed", "0")
}
