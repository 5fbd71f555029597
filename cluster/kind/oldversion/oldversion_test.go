package oldversion_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1beta1 "k8s.io/api/apps/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/apiregistration"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/autoscaling"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/certificates"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/flowcontrol"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/node"
	"sampan/cluster/kind/oldversion"
	"sampan/cluster/kind/policy"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/kind/scheduling"
	"sampan/cluster/kind/storage"
)

func kinds() []*kind.Kind {
	return slices.Concat(admissionregistration.Kinds(), apiextensions.Kinds(), apiregistration.Kinds(), apps.Kinds(), autoscaling.Kinds(), batch.Kinds(), certificates.Kinds(),
		coordination.Kinds(), core.Kinds(), discovery.Kinds(), flowcontrol.Kinds(), networking.Kinds(), node.Kinds(), policy.Kinds(), rbac.Kinds(),
		scheduling.Kinds(), storage.Kinds())
}

func served() *kind.Table {
	all := kinds()
	oldversion.Serve(all)
	return kind.NewTable(all)
}

// each calls do for every old version.
func each(t *testing.T, do func(t *testing.T, k *kind.Kind, v *kind.Version)) {
	for _, k := range served().All() {
		for i := range k.Versions {
			if v := &k.Versions[i]; v.Old {
				t.Run(v.GVK.Group+"_"+v.GVK.Version+"_"+v.GVK.Kind, func(t *testing.T) { do(t, k, v) })
			}
		}
	}
}

func TestEveryOldVersionWarnsOfItself(t *testing.T) {
	var got strings.Builder
	for _, k := range served().All() {
		for _, v := range k.Versions {
			if v.Old {
				fmt.Fprintln(&got, k.Deprecation(v.GVK))
			}
		}
	}
	want, err := os.ReadFile("testdata/warnings.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("warnings are\n%s\nwant\n%s", got.String(), want)
	}
}

func TestCurrentVersionsWarnOnlyWhereUpstreamDoes(t *testing.T) {
	for _, k := range served().All() {
		want := ""
		if k.String() == "endpoints" {
			want = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
		}
		if got := k.Deprecation(k.GVK); got != want {
			t.Errorf("%s: warning %q, want %q", k, got, want)
		}
	}
}

func TestStrictlyNothingOldIsServedButRead(t *testing.T) {
	all := kinds()
	before := kind.NewTable(kinds())
	oldversion.Read(all)
	for _, k := range all {
		if got, want := len(k.Versions), len(before.ByGVK(k.GVK).Versions); got != want {
			t.Errorf("%s has %d versions, want %d", k, got, want)
		}
	}
	of := kind.NewTable(all).ByGVK(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
	if len(of.Stored) != 3 {
		t.Errorf("deployments are read from %d further versions, want 3", len(of.Stored))
	}
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// filler makes random objects, without what the wire cannot carry.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 3).MaxDepth(16).Funcs(
		func(m *metav1.TypeMeta, _ randfill.Continue) {},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(5000), resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) {
			t.Time = now.Add(-time.Duration(c.Int63n(1e6)) * time.Second)
		},
		func(t *metav1.MicroTime, c randfill.Continue) {
			t.Time = now.Add(-time.Duration(c.Int63n(1e6)) * time.Second)
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			*v = intstr.FromInt32(c.Int31n(200) + 1)
			if c.Bool() {
				*v = intstr.FromString("a" + c.String(8))
			}
		},
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = []byte(`{"a":1}`) },
		func(f *metav1.FieldsV1, c randfill.Continue) { f.Raw = []byte(`{}`) },
	)
}

// own are versions whose objects are not random: what they say in one way the
// hub says in another, and not every nonsense can be said in both. Their
// conversions are in the table of manifests below.
var own = map[string]bool{
	"autoscaling/v2beta1":                                   true, // a target's type is guessed
	"apiextensions.k8s.io/v1beta1":                          true, // upstream's conversion
	"networking.k8s.io/v1beta1 Ingress":                     true,
	"extensions/v1beta1 Ingress":                            true,
	"rbac.authorization.k8s.io/v1alpha1 RoleBinding":        true,
	"rbac.authorization.k8s.io/v1alpha1 ClusterRoleBinding": true,
	"discovery.k8s.io/v1beta1 EndpointSlice":                true,
}

func TestAnOldObjectComesBackAsItWas(t *testing.T) {
	each(t, func(t *testing.T, k *kind.Kind, v *kind.Version) {
		gv := v.GVK.GroupVersion().String()
		if own[gv] || own[gv+" "+v.GVK.Kind] {
			t.Skip("its objects are in TestOldManifests")
		}
		for seed := range int64(30) {
			obj := v.New()
			filler(seed).Fill(obj)
			obj.GetObjectKind().SetGroupVersionKind(v.GVK)
			if v.Default != nil {
				v.Default(obj)
			}
			if s, ok := obj.(*appsv1beta1.StatefulSet); ok && s.Status.ObservedGeneration == nil {
				s.Status.ObservedGeneration = new(int64) // the hub cannot say that there is none
			}
			want := obj.DeepCopyObject()
			hub, err := v.ToHub(obj)
			if err != nil {
				t.Fatal(err)
			}
			if got := hub.GetObjectKind().GroupVersionKind(); got != k.GVK {
				t.Fatalf("converted to %v, want %v", got, k.GVK)
			}
			before := hub.DeepCopyObject()
			back, err := v.FromHub(hub)
			if err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(back, want) {
				t.Fatalf("seed %d: through %s it comes to have the lines\n%s\nfor\n%s", seed, k.GVK.GroupVersion(),
					strings.Join(without(lines(back), lines(want)), "\n"), strings.Join(without(lines(want), lines(back)), "\n"))
			}
			if !equality.Semantic.DeepEqual(hub, before) {
				t.Fatalf("seed %d: converting changed the hub", seed)
			}
		}
	})
}

func lines(obj any) []string {
	text, _ := json.MarshalIndent(obj, "", " ")
	return strings.Split(string(text), "\n")
}

func without(all, some []string) []string {
	return slices.DeleteFunc(all, func(line string) bool { return slices.Contains(some, line) })
}

// What the current version cannot say in an old one is listed: upstream loses
// it as well. A field that comes to be missing is seen here.
func TestFieldsThatAnOldVersionLacks(t *testing.T) {
	want := map[string][]string{}
	data, err := os.ReadFile("testdata/lacking.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	each(t, func(t *testing.T, k *kind.Kind, v *kind.Version) {
		if v.GVK.Group == "apiextensions.k8s.io" || v.GVK.Group == "events.k8s.io" || v.GVK.Version == "v2beta1" {
			return // their conversions do not go by names
		}
		var missing []string
		lacking(reflect.TypeOf(v.New()), k.Type, "", map[reflect.Type]bool{}, &missing)
		if len(missing) > 0 {
			got[v.GVK.GroupVersion().String()+" "+v.GVK.Kind] = missing
		}
	})
	if !reflect.DeepEqual(got, want) {
		text, _ := yaml.Marshal(got)
		t.Errorf("fields lacking are\n%s\nwant those of testdata/lacking.yaml", text)
	}
}

func lacking(old, hub reflect.Type, path string, within map[reflect.Type]bool, missing *[]string) {
	for old.Kind() == hub.Kind() && (hub.Kind() == reflect.Pointer || hub.Kind() == reflect.Slice) {
		old, hub = old.Elem(), hub.Elem()
	}
	if old == hub || old.Kind() != reflect.Struct || hub.Kind() != reflect.Struct || within[hub] {
		return
	}
	within[hub] = true
	defer delete(within, hub)
	for i := range hub.NumField() {
		f := hub.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := strings.TrimPrefix(path+"."+name, ".")
		if has, ok := old.FieldByName(f.Name); ok {
			lacking(has.Type, f.Type, at, within, missing)
		} else {
			*missing = append(*missing, at)
		}
	}
}

// Only these old versions are selected by a field that the current one has not.
func TestFieldsToSelectBy(t *testing.T) {
	want := []string{"apps/v1beta1 StatefulSet: status.successful", "apps/v1beta2 StatefulSet: status.successful",
		"batch/v1beta1 CronJob: status.successful"}
	var got []string
	each(t, func(t *testing.T, k *kind.Kind, v *kind.Version) {
		for name, of := range v.Fields {
			if k.Fields[name] == nil && k.GVK.Kind != "Event" {
				got = append(got, fmt.Sprintf("%s %s: %s", v.GVK.GroupVersion(), v.GVK.Kind, name))
				if value := of(k.New()); value != "" {
					t.Errorf("%s of %s is %q", name, v.GVK, value)
				}
			}
		}
	})
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("fields\n%q\nwant\n%q", got, want)
	}
}
