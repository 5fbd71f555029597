package kind_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

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
	"sampan/cluster/kind/policy"
	"sampan/cluster/kind/rbac"
	resourcekind "sampan/cluster/kind/resource"
	"sampan/cluster/kind/scheduling"
	"sampan/cluster/kind/storage"
	"sampan/cluster/kind/storagemigration"
)

func all() []*kind.Kind {
	return kind.NewTable(apiextensions.Kinds(), apiregistration.Kinds(), core.Kinds(), apps.Kinds(), coordination.Kinds(), discovery.Kinds(), rbac.Kinds(), scheduling.Kinds(), batch.Kinds(), policy.Kinds(), certificates.Kinds(), storage.Kinds(), networking.Kinds(), node.Kinds(), admissionregistration.Kinds(), resourcekind.Kinds(), storagemigration.Kinds(), flowcontrol.Kinds(), autoscaling.Kinds()).All()
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// filler makes random objects: mostly nonsense, of any depth.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(5000)-500, resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) { t.Time = now.Add(-time.Duration(c.Int63n(1e15))) },
		func(t *metav1.MicroTime, c randfill.Continue) { t.Time = now.Add(-time.Duration(c.Int63n(1e15))) },
		func(v *intstr.IntOrString, c randfill.Continue) {
			*v = intstr.FromInt32(c.Int31n(200) - 20)
			if c.Bool() {
				*v = intstr.FromString(c.String(8))
			}
		},
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = []byte(`{"a":1}`) },
		func(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue) { fillSchema(s, c, 3) }, // it holds itself in many ways
		func(f *metav1.FieldsV1, c randfill.Continue) { f.Raw = []byte(`{}`) },
	)
}

// fillSchema makes a random schema of some depth.
func fillSchema(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue, depth int) {
	types := []string{"", "object", "array", "string", "integer", "nonsense"}
	s.Type, s.Format, s.Nullable = types[c.Intn(len(types))], c.String(6), c.Bool()
	if c.Bool() {
		s.Pattern, s.Required, s.Default = c.String(4), []string{c.String(3)}, &apiextensionsv1.JSON{Raw: []byte(`{"a":1}`)}
	}
	if c.Intn(4) == 0 {
		s.XValidations = apiextensionsv1.ValidationRules{{Rule: c.String(8)}}
		list := types[c.Intn(len(types))]
		s.XListType = &list
	}
	if depth == 0 {
		return
	}
	below := func() apiextensionsv1.JSONSchemaProps {
		var b apiextensionsv1.JSONSchemaProps
		fillSchema(&b, c, depth-1)
		return b
	}
	if c.Bool() {
		s.Properties = map[string]apiextensionsv1.JSONSchemaProps{c.String(3): below(), "a": below()}
	}
	if c.Intn(3) == 0 {
		b := below()
		s.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &b}
		s.AnyOf = []apiextensionsv1.JSONSchemaProps{below()}
	}
	if c.Intn(3) == 0 {
		b := below()
		s.AdditionalProperties = &apiextensionsv1.JSONSchemaPropsOrBool{Allows: c.Bool(), Schema: &b}
	}
}

func random(k *kind.Kind, seed int64) kind.Object {
	obj := k.New()
	filler(seed).Fill(obj)
	return obj
}

// callEverything runs every pure function of a kind; it fails only by a panic.
func callEverything(k *kind.Kind, obj, old kind.Object) {
	k.Default(obj)
	k.Validate(obj, nil)
	k.Warn(obj, nil)
	k.IgnoredSet(obj)
	k.ValidateName(obj.GetName(), false)
	if k.Spec != nil {
		k.Spec(obj)
	}
	for _, c := range k.Columns {
		c.Cell(obj, now)
	}
	for _, f := range k.Fields {
		f(obj)
	}
	for _, f := range k.Indexes {
		f(obj)
	}
	if k.Scale != nil {
		k.Scale.Get(obj)
	}
	k.Grace(obj, &metav1.DeleteOptions{})
	for _, v := range k.Versions {
		if _, err := v.FromHub(obj); err != nil {
			panic(err)
		}
	}
	if old == nil {
		created := obj.DeepCopyObject().(kind.Object)
		k.Prepare(created, nil)
		return
	}
	k.Default(old)
	k.Warn(obj, old)
	k.Validate(obj, old)
	for _, p := range k.Parts {
		changed := old.DeepCopyObject().(kind.Object)
		p.Take(changed, obj)
		p.Prepare(changed, old)
		p.Validate(changed, old)
	}
	changed := obj.DeepCopyObject().(kind.Object)
	k.Prepare(changed, old)
	k.Validate(changed, old)
}

func TestNoObjectMakesAKindPanic(t *testing.T) {
	for _, k := range all() {
		t.Run(k.String(), func(t *testing.T) {
			for seed := range int64(20) {
				callEverything(k, random(k, seed), nil)
				callEverything(k, random(k, seed), random(k, seed+1000))
				// Alike but for a little: the paths that compare.
				old := random(k, seed)
				obj := old.DeepCopyObject().(kind.Object)
				filler(seed + 2000).NilChance(0.9).Fill(obj)
				callEverything(k, obj, old)
			}
			callEverything(k, k.New(), nil)
			callEverything(k, k.New(), k.New())
		})
	}
}

func TestDefaultingTwiceIsDefaultingOnce(t *testing.T) {
	for _, k := range all() {
		t.Run(k.String(), func(t *testing.T) {
			for seed := range int64(40) {
				once := random(k, seed)
				k.Default(once)
				twice := once.DeepCopyObject().(kind.Object)
				k.Default(twice)
				if !reflect.DeepEqual(once, twice) {
					a, _ := json.Marshal(once)
					b, _ := json.Marshal(twice)
					t.Fatalf("seed %d: defaulted once\n%s\ntwice\n%s", seed, a, b)
				}
			}
		})
	}
}

func TestWhatIsReadIsNotChanged(t *testing.T) {
	for _, k := range all() {
		t.Run(k.String(), func(t *testing.T) {
			for seed := range int64(20) {
				obj, old := random(k, seed), random(k, seed+1)
				k.Default(obj)
				k.Default(old)
				wantObj, wantOld := obj.DeepCopyObject(), old.DeepCopyObject()
				k.Validate(obj, old)
				k.Warn(obj, old)
				for _, c := range k.Columns {
					c.Cell(obj, now)
				}
				for _, v := range k.Versions {
					v.FromHub(obj)
				}
				for _, p := range k.Parts {
					p.Validate(obj, old)
				}
				k.Prepare(obj.DeepCopyObject().(kind.Object), old)
				if !equality.Semantic.DeepEqual(obj, wantObj) {
					t.Fatalf("seed %d: a function that only reads changed the object", seed)
				}
				if !equality.Semantic.DeepEqual(old, wantOld) {
					t.Fatalf("seed %d: a function that only reads changed the old object", seed)
				}
			}
		})
	}
}

func TestAVersionLosesNothing(t *testing.T) {
	for _, k := range all() {
		for _, v := range k.Versions {
			if v.GVK.Group == "autoscaling" {
				continue // version 1 keeps what is valid, and has a test of its own for that
			}
			for seed := range int64(40) {
				hub := random(k, seed)
				hub.GetObjectKind().SetGroupVersionKind(k.GVK)
				other, err := v.FromHub(hub)
				if err != nil {
					t.Fatal(err)
				}
				back, err := v.ToHub(other)
				if err != nil {
					t.Fatal(err)
				}
				if !equality.Semantic.DeepEqual(back, hub) {
					t.Fatalf("%s through %s, seed %d:\n%v\nwant\n%v", k, v.GVK, seed, back, hub)
				}
				if got := other.GetObjectKind().GroupVersionKind(); got != v.GVK {
					t.Errorf("converted to %v, want %v", got, v.GVK)
				}
			}
		}
	}
}

func TestAnEmptyObjectIsNotWarnedAbout(t *testing.T) {
	for _, k := range all() {
		obj := k.New()
		k.Default(obj)
		if got := k.IgnoredSet(obj); len(got) > 0 {
			t.Errorf("%s: defaults alone count as ignored fields: %v", k, got)
		}
	}
}

func TestIgnoredFieldsAreFoundWithTheirPlace(t *testing.T) {
	k := core.Pod()
	p := &corev1.Pod{Spec: corev1.PodSpec{
		SchedulingGroup:  &corev1.PodSchedulingGroup{PodGroupName: new("g")},
		PreemptionPolicy: new(corev1.PreemptLowerPriority), // as admission sets it
		HostUsers:        new(true),
		Volumes: []corev1.Volume{
			{Name: "a", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "b", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}},
		},
		Containers: []corev1.Container{{}, {SecurityContext: &corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)}}},
	}}
	const not = ": not acted on by this version of sampan, see docs/unsupported.md"
	want := map[string]bool{"spec.volumes[1].nfs" + not: true, "spec.schedulingGroup" + not: true,
		"spec.containers[1].securityContext.procMount" + not: true}
	got := k.IgnoredSet(p)
	for _, text := range got {
		if !want[text] {
			t.Errorf("unexpected warning %q", text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("warnings %q, want %v", got, want)
	}
}

func TestNamesAreUpstreams(t *testing.T) {
	// Names, prefixes and short names are API: clients and existing data
	// depend on them.
	want := map[string]string{
		"horizontalpodautoscalers.autoscaling":                           "horizontalpodautoscalers hpa",
		"prioritylevelconfigurations.flowcontrol.apiserver.k8s.io":       "prioritylevelconfigurations ",
		"flowschemas.flowcontrol.apiserver.k8s.io":                       "flowschemas ",
		"storageversionmigrations.storagemigration.k8s.io":               "storageversionmigrations ",
		"resourceslices.resource.k8s.io":                                 "resourceslices ",
		"resourceclaimtemplates.resource.k8s.io":                         "resourceclaimtemplates ",
		"customresourcedefinitions.apiextensions.k8s.io":                 "apiextensions.k8s.io/customresourcedefinitions crd",
		"resourceclaims.resource.k8s.io":                                 "resourceclaims ",
		"devicetaintrules.resource.k8s.io":                               "devicetaintrules ",
		"deviceclasses.resource.k8s.io":                                  "deviceclasses ",
		"validatingadmissionpolicies.admissionregistration.k8s.io":       "validatingadmissionpolicies ",
		"validatingadmissionpolicybindings.admissionregistration.k8s.io": "validatingadmissionpolicybindings ",
		"mutatingadmissionpolicies.admissionregistration.k8s.io":         "mutatingadmissionpolicies ",
		"mutatingadmissionpolicybindings.admissionregistration.k8s.io":   "mutatingadmissionpolicybindings ",
		"mutatingwebhookconfigurations.admissionregistration.k8s.io":     "mutatingwebhookconfigurations ",
		"validatingwebhookconfigurations.admissionregistration.k8s.io":   "validatingwebhookconfigurations ",
		"apiservices.apiregistration.k8s.io":                             "apiregistration.k8s.io/apiservices ",
		"runtimeclasses.node.k8s.io":                                     "runtimeclasses ",
		"servicecidrs.networking.k8s.io":                                 "servicecidrs ",
		"ipaddresses.networking.k8s.io":                                  "ipaddresses ip",
		"networkpolicies.networking.k8s.io":                              "networkpolicies netpol",
		"ingressclasses.networking.k8s.io":                               "ingressclasses ",
		"ingresses.networking.k8s.io":                                    "ingress ing",
		"volumeattributesclasses.storage.k8s.io":                         "volumeattributesclasses vac",
		"csistoragecapacities.storage.k8s.io":                            "csistoragecapacities ",
		"csinodes.storage.k8s.io":                                        "csinodes ",
		"csidrivers.storage.k8s.io":                                      "csidrivers ",
		"volumeattachments.storage.k8s.io":                               "volumeattachments ",
		"storageclasses.storage.k8s.io":                                  "storageclasses sc",
		"persistentvolumeclaims":                                         "persistentvolumeclaims pvc",
		"persistentvolumes":                                              "persistentvolumes pv",
		"configmaps":                                                     "configmaps cm", "endpoints": "services/endpoints ep", "events": "events ev",
		"namespaces": "namespaces ns", "nodes": "minions no", "pods": "pods po", "podtemplates": "podtemplates ",
		"certificatesigningrequests.certificates.k8s.io": "certificatesigningrequests csr", "clustertrustbundles.certificates.k8s.io": "clustertrustbundles ",
		"podcertificaterequests.certificates.k8s.io": "podcertificaterequests ",
		"cronjobs.batch": "cronjobs cj", "jobs.batch": "jobs ", "poddisruptionbudgets.policy": "poddisruptionbudgets pdb",
		"replicationcontrollers": "controllers rc", "secrets": "secrets ",
		"limitranges": "limitranges limits", "resourcequotas": "resourcequotas quota", "priorityclasses.scheduling.k8s.io": "priorityclasses pc",
		"services": "services/specs svc", "serviceaccounts": "serviceaccounts sa",
		"controllerrevisions.apps": "controllerrevisions ", "daemonsets.apps": "daemonsets ds", "deployments.apps": "deployments deploy", "statefulsets.apps": "statefulsets sts", "replicasets.apps": "replicasets rs",
		"leases.coordination.k8s.io": "leases ", "endpointslices.discovery.k8s.io": "endpointslices ",
		"roles.rbac.authorization.k8s.io": "roles ", "rolebindings.rbac.authorization.k8s.io": "rolebindings ",
		"clusterroles.rbac.authorization.k8s.io": "clusterroles ", "clusterrolebindings.rbac.authorization.k8s.io": "clusterrolebindings ",
	}
	for _, k := range all() {
		short := ""
		if len(k.Short) > 0 {
			short = k.Short[0]
		}
		if got := k.Prefix + " " + short; got != want[k.String()] {
			t.Errorf("%s is %q, want %q", k, got, want[k.String()])
		}
		delete(want, k.String())
	}
	if len(want) > 0 {
		t.Errorf("not declared: %v", want)
	}
}

func FuzzPodRules(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"a","image":"b","ports":[{"containerPort":80,"name":"http"}]}]}}`))
	f.Add([]byte(`{"spec":{"volumes":[{"name":"v","projected":{"sources":[{"secret":{"items":[{"key":"a","path":"../b"}]}}]}}]}}`))
	f.Add([]byte(`{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{}}},"tolerations":[{"operator":"Exists"}]}}`))
	f.Add([]byte(`{"spec":{"containers":[{"env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['']']"}}}]}]}}`))
	k := core.Pod()
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &corev1.Pod{}
		if json.Unmarshal(data, p) != nil {
			return
		}
		callEverything(k, p, nil)
		callEverything(k, p.DeepCopy(), p)
	})
}

// What a write costs of the rules: a pod as a Deployment makes it.
func BenchmarkPodRules(b *testing.B) {
	k := core.Pod()
	p := &corev1.Pod{}
	if err := json.Unmarshal([]byte(`{"metadata":{"name":"web"},"spec":{"serviceAccountName":"default","volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}}],
		"containers":[{"name":"a","image":"nginx:1","ports":[{"containerPort":80}],"env":[{"name":"A","value":"1"}],"resources":{"limits":{"cpu":"1","memory":"1Gi"}},
		"volumeMounts":[{"name":"v","mountPath":"/v"}],"readinessProbe":{"httpGet":{"port":80}}}]}}`), p); err != nil {
		b.Fatal(err)
	}
	k.Default(p)
	b.Run("default", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.Default(p)
		}
	})
	b.Run("validate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if errs := k.Validate(p, nil); len(errs) > 0 {
				b.Fatal(errs)
			}
		}
	})
	b.Run("ignored", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.IgnoredSet(p)
		}
	})
	b.Run("columns", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, c := range k.Columns {
				c.Cell(p, now)
			}
		}
	})
}

func BenchmarkDeclare(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		all()
	}
}
