//go:build suite

package suite

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	conformancedata "k8s.io/kubernetes/test/conformance/testdata"
	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	"k8s.io/kubernetes/test/fixtures"

	// The folders with conformance specs, and what upstream's own binary sets the framework up with.
	_ "k8s.io/kubernetes/test/e2e/apimachinery"
	_ "k8s.io/kubernetes/test/e2e/apps"
	_ "k8s.io/kubernetes/test/e2e/architecture"
	_ "k8s.io/kubernetes/test/e2e/auth"
	_ "k8s.io/kubernetes/test/e2e/common"
	_ "k8s.io/kubernetes/test/e2e/dra"
	_ "k8s.io/kubernetes/test/e2e/feature"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/e2e/instrumentation"
	_ "k8s.io/kubernetes/test/e2e/kubectl"
	_ "k8s.io/kubernetes/test/e2e/network"
	_ "k8s.io/kubernetes/test/e2e/node"
	_ "k8s.io/kubernetes/test/e2e/scheduling"
	_ "k8s.io/kubernetes/test/e2e/storage"
	_ "k8s.io/kubernetes/test/utils/ktesting/format"
)

var (
	bound   = flag.Duration("spec-timeout", 15*time.Minute, "a spec that takes longer has failed")
	until   = flag.Duration("start-until", 0, "skip the specs that have not started after this time")
	results = flag.String("results", "", "file to which the report of every spec is added when the spec ends, as a line of JSON")
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	for _, files := range []testfiles.FileSource{manifests.GetE2ETestingManifestsFS(), fixtures.GetTestFixturesFS(), conformancedata.GetConformanceTestdataFS()} {
		testfiles.AddFileSource(files)
	}
	framework.AfterReadingAllFlags(&framework.TestContext)
	os.Exit(m.Run())
}

func TestE2E(t *testing.T) {
	// The specs are made in RunSpecs: what is registered here reaches all of them.
	ginkgo.AddTreeConstructionNodeArgsTransformer(bounded)
	ginkgo.ReportAfterEach(record)
	began := time.Now()
	ginkgo.BeforeEach(func() {
		if *until > 0 && time.Since(began) > *until {
			ginkgo.Skip("the time of this run is over")
		}
	})
	e2e.RunE2ETests(t)
}

// bounded gives every spec its bound. Ginkgo ends the contexts that upstream's
// specs wait on, lets them clean up, and goes on with the next one also when a spec
// does not heed that.
func bounded(node types.NodeType, _ ginkgo.Offset, text string, args []any) (string, []any, []error) {
	if node != types.NodeTypeIt {
		return text, args, nil
	}
	out := slices.Clone(args)
	for i, arg := range out {
		// Ginkgo bounds only what takes a context.
		if body, is := arg.(func()); is {
			out[i] = func(context.Context) { body() }
		}
	}
	return text, append([]any{ginkgo.SpecTimeout(*bound)}, out...), nil
}

// record adds a spec's report to the file of results. A line is written at
// once: several processes write.
func record(r types.SpecReport) {
	if *results == "" || r.State.Is(types.SpecStatePending) || r.State.Is(types.SpecStateSkipped) && r.Failure.Message == "" {
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		ginkgo.Fail(err.Error())
	}
	f, err := os.OpenFile(*results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		ginkgo.Fail(err.Error())
	}
}
