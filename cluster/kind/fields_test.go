package kind_test

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/autoscaling"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/podspec"
	resourcekind "sampan/cluster/kind/resource"
	"sampan/cluster/kind/storage"
	"sampan/cluster/kind/storagemigration"
)

var update = flag.Bool("update", false, "write docs/unsupported.md and list fields that are in neither list")

const (
	actedFile = "testdata/acted.txt"
	docFile   = "../../docs/unsupported.md"
)

// Every field of every served type is acted on, with the place where, or
// listed as not acted on. A field that comes with a new version of k8s.io/api
// is in neither list, and fails here until somebody decides.
func TestEveryFieldIsActedOnOrListed(t *testing.T) {
	acted := readActed(t)
	used := map[string]bool{}
	missing := map[string]bool{}
	for _, k := range all() {
		ignored := map[string]bool{}
		for _, p := range k.Ignored {
			if !strings.Contains(p, "=") {
				ignored[p] = true
			}
		}
		for _, g := range core.StatusGaps {
			if path, ok := strings.CutPrefix(g.Path, k.GVK.Kind+" "); ok {
				ignored[path] = true
			}
		}
		walkFields(k.Type.Elem(), "", map[reflect.Type]bool{}, func(typ, name, path string) bool {
			// A template's spec is the pod's: its lists hold there too.
			if ignored[path] {
				return false
			}
			key := typ + "." + name
			if _, ok := acted[key]; !ok {
				missing[key+"\t# "+k.String()+" "+path] = true
				return false
			}
			used[key] = true
			return true
		})
	}
	for _, m := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("neither acted on (%s) nor ignored: %s", actedFile, m)
	}
	for key := range acted {
		if !used[key] {
			t.Errorf("%s has %s, which no served type has, or which is ignored everywhere", actedFile, key)
		}
	}
}

func readActed(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(actedFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	acted := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, where, ok := strings.Cut(line, " ")
		if !ok || strings.TrimSpace(where) == "" {
			t.Errorf("%s: %q does not say where", actedFile, line)
		}
		if _, twice := acted[key]; twice {
			t.Errorf("%s: %s is there twice", actedFile, key)
		}
		acted[key] = strings.TrimSpace(where)
	}
	return acted
}

// leaves are types whose fields are one value to the API.
var leaves = map[reflect.Type]bool{
	reflect.TypeFor[metav1.Time](): true, reflect.TypeFor[metav1.MicroTime](): true,
	reflect.TypeFor[resource.Quantity](): true, reflect.TypeFor[intstr.IntOrString](): true,
	reflect.TypeFor[runtime.RawExtension](): true, reflect.TypeFor[metav1.FieldsV1](): true,
	reflect.TypeFor[metav1.ObjectMeta](): true, reflect.TypeFor[metav1.TypeMeta](): true, // the machine's, once for all kinds
	reflect.TypeFor[metav1.LabelSelector](): true,
	// The language of schemas is one library's, whole.
	reflect.TypeFor[apiextensionsv1.JSONSchemaProps](): true,
}

// walkFields calls visit for every field below t; it goes on below a field for
// which visit is true.
func walkFields(t reflect.Type, path string, within map[reflect.Type]bool, visit func(typ, name, path string) bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || leaves[t] || within[t] {
		return
	}
	within[t] = true
	defer delete(within, t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && (name == "" || strings.Contains(options, "inline")) {
			if !leaves[f.Type] {
				walkFields(f.Type, path, within, visit)
			}
			continue
		}
		if leaves[t] || f.Type == reflect.TypeFor[metav1.ObjectMeta]() {
			continue
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		ft := f.Type
		list := ""
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Map || ft.Kind() == reflect.Pointer {
			if ft.Kind() == reflect.Slice && ft.Elem().Kind() != reflect.Uint8 {
				list = "[*]"
			}
			ft = ft.Elem()
		}
		if visit(typeName(t), name, at) {
			walkFields(ft, at+list, within, visit)
		}
	}
}

func typeName(t reflect.Type) string {
	pkg := strings.TrimPrefix(t.PkgPath(), "k8s.io/api/")
	return pkg + "." + t.Name()
}

// docs/unsupported.md is written from the same lists, so that it cannot differ.
func TestUnsupportedDocumentIsTrue(t *testing.T) {
	want := document()
	if *update {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from the lists in cluster/kind: go test ./cluster/kind -run Unsupported -update", docFile)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString(`# Fields that are served and not acted on

A request that sets one of these fields is answered with a Warning header. The
field is stored and read back. ` + "`[*]`" + ` stands for any element, ` + "`=`" + ` for one value,
` + "`!=`" + ` for any value but one.

This page is written by ` + "`go test ./cluster/kind -run Unsupported -update`" + ` from the
lists beside the kinds; a test compares them.
`)
	section := func(title, prefix string, gaps []kind.Gap) {
		fmt.Fprintf(&b, "\n## %s\n\n| field | why |\n|---|---|\n", title)
		for _, g := range gaps {
			fmt.Fprintf(&b, "| `%s%s` | %s |\n", prefix, g.Path, g.Why)
		}
	}
	section("Pod, and the templates of workloads (there below `spec.template`)", "spec.", podspec.Gaps)
	section("StatefulSet", "", apps.StatefulSetGaps)
	section("Service", "", core.ServiceGaps)
	section("Node", "", core.NodeGaps)
	section("Job, and the template of CronJob (there below `spec.jobTemplate.spec`)", "spec.", batch.JobGaps)
	section("Lease", "", coordination.LeaseGaps)
	section("EndpointSlice", "", discovery.SliceGaps)
	section("PersistentVolume", "", core.VolumeGaps)
	section("PersistentVolumeClaim", "", core.ClaimGaps)
	section("StorageClass", "", storage.StorageClassGaps)
	section("CSIDriver", "", storage.CSIDriverGaps)
	section("CSIStorageCapacity", "", storage.CapacityGaps)
	section("VolumeAttributesClass", "", storage.AttributesGaps)
	section("VolumeAttachment", "", storage.AttachmentGaps)
	section("NetworkPolicy", "", networking.PolicyGaps)
	section("DeviceClass", "", resourcekind.DeviceClassGaps)
	section("DeviceTaintRule", "", resourcekind.TaintRuleGaps)
	section("ResourceClaim", "", resourcekind.ClaimGaps)
	section("ResourceClaimTemplate", "", resourcekind.TemplateGaps)
	section("ResourceSlice", "", resourcekind.SliceGaps)
	section("StorageVersionMigration", "", storagemigration.MigrationGaps)
	section("HorizontalPodAutoscaler", "", autoscaling.AutoscalerGaps)
	b.WriteString("\n## Status fields that nothing writes\n\nA status is a report: nobody is warned, since users do not set them.\n\n| field | why |\n|---|---|\n")
	for _, g := range core.StatusGaps {
		fmt.Fprintf(&b, "| `%s` | %s |\n", g.Path, g.Why)
	}
	return b.String()
}

func TestTheDocumentNamesFieldsThatExist(t *testing.T) {
	for _, k := range all() {
		k.IgnoredSet(k.New()) // panics for a path that leads nowhere
	}
	for _, g := range core.StatusGaps {
		kindName, path, _ := strings.Cut(g.Path, " ")
		found := false
		for _, k := range all() {
			if k.GVK.Kind != kindName {
				continue
			}
			walkFields(k.Type.Elem(), "", map[reflect.Type]bool{}, func(_, _, at string) bool {
				found = found || at == path
				return strings.HasPrefix(path, at)
			})
		}
		if !found {
			t.Errorf("no field %q", g.Path)
		}
	}
}
