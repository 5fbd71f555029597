package apiextensions

import (
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
	"sampan/cluster/kind/kindtest"
)

// cron is a definition with what comes after "versions".
func cron(versions string) string {
	return `
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab}
  versions: [` + versions + `]`
}

const (
	v1 = `{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}`
	v2 = `{name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}`
)

func TestDefinition(t *testing.T) {
	kindtest.Check(t, CustomResourceDefinition(), []kindtest.Rule{
		{Rule: "accepts a plain one", New: cron(v1)},
		{Rule: "wants the name to be the plural and the group", New: `
metadata: {name: crontab}
spec: {group: stable.example.com, scope: Namespaced, names: {plural: crontabs, kind: CronTab}, versions: [` + v1 + `]}`,
			Want: []string{`metadata.name: Invalid value: "crontab": must be spec.names.plural+"."+spec.group`}},
		{Rule: "wants one version to be stored", New: cron(v1 + "," + v2),
			Want: []string{`spec.versions: Invalid value: [{"Name":"v1","Served":true,"Storage":true,"Deprecated":false,"DeprecationWarning":null,"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"SelectableFields":null},` +
				`{"Name":"v2","Served":true,"Storage":true,"Deprecated":false,"DeprecationWarning":null,"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"SelectableFields":null}]: must have exactly one version marked as storage version`}},
		{Rule: "wants a schema that is structural", New: cron(`{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {a: {}}}}}`),
			Want: []string{`spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields`}},
		{Rule: "refuses a rule that does not compile", New: cron(`{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-validations: [{rule: "self.nope == 1"}]}}}`),
			Want: []string{"spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.nope == 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"}},
		{Rule: "may change its scope before it is served", Old: cron(v1), New: `
metadata: {name: crontabs.stable.example.com}
spec: {group: stable.example.com, scope: Cluster, names: {plural: crontabs, kind: CronTab}, versions: [` + v1 + `]}`},
	})
}

func TestDefinitionIsDefaultedAndRemembersWhatItWasStoredAs(t *testing.T) {
	k := CustomResourceDefinition()
	d := kindtest.Create(t, k, cron(v1)).(*apiextensionsv1.CustomResourceDefinition)
	if n := d.Spec.Names; n.Singular != "crontab" || n.ListKind != "CronTabList" {
		t.Errorf("names %+v", n)
	}
	if d.Spec.Conversion == nil || d.Spec.Conversion.Strategy != apiextensionsv1.NoneConverter {
		t.Errorf("conversion %+v, want None", d.Spec.Conversion)
	}
	if !slices.Equal(d.Status.StoredVersions, []string{"v1"}) {
		t.Errorf("stored versions %v", d.Status.StoredVersions)
	}
	next := kindtest.Update(t, k, cron(`{name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}},`+v2), d).(*apiextensionsv1.CustomResourceDefinition)
	if !slices.Equal(next.Status.StoredVersions, []string{"v1", "v2"}) {
		t.Errorf("stored versions %v after the version stored changed", next.Status.StoredVersions)
	}
	if !slices.Equal(d.Status.StoredVersions, []string{"v1"}) {
		t.Errorf("the old definition was changed: %v", d.Status.StoredVersions)
	}
}

func TestDefinitionWaitsForTheEndOfItsObjects(t *testing.T) {
	k := CustomResourceDefinition()
	d := kindtest.Create(t, k, cron(v1)).(*apiextensionsv1.CustomResourceDefinition)
	if !k.Held(d) {
		t.Error("it is removed at once")
	}
	at := kindtest.Ago(time.Second)
	d.DeletionTimestamp = &at
	k.Leaving(d)
	k.Leaving(d)
	if !slices.Equal(d.Finalizers, []string{apiextensionsv1.CustomResourceCleanupFinalizer}) {
		t.Errorf("finalizers %v", d.Finalizers)
	}
	if c := d.Status.Conditions; len(c) != 1 || c[0].Reason != "InstanceDeletionPending" || !c[0].LastTransitionTime.Equal(&at) {
		t.Errorf("conditions %+v", c)
	}
	if k.Held(d) {
		t.Error("it is held although nothing is left")
	}
}

func TestOddSchemasAreWarnedOfOnce(t *testing.T) {
	k := CustomResourceDefinition()
	const odd = `{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string, format: nonsense}}}}}`
	d := kindtest.Create(t, k, cron(odd))
	if got := k.Warn(d, nil); !slices.Equal(got, []string{`unrecognized format "nonsense"`}) {
		t.Errorf("warnings %q", got)
	}
	if got := k.Warn(d, d); len(got) > 0 {
		t.Errorf("warnings %q of what was there", got)
	}
	version := func(of string, change ...string) apiextensionsv1.CustomResourceDefinitionVersion {
		return kindtest.Create(t, k, cron(strings.NewReplacer(change...).Replace(of))).(*apiextensionsv1.CustomResourceDefinition).Spec.Versions[0]
	}
	const deep = `{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, additionalProperties: {type: object, properties:
		{l: {type: array, x-kubernetes-list-type: set, items: {type: object, x-kubernetes-map-type: atomic}}}}}}}`
	const list = `x-kubernetes-list-type: set for items of type "object" is not supported by server-side apply or CEL validation rules`
	for _, tc := range []struct {
		it       string
		versions []apiextensionsv1.CustomResourceDefinitionVersion
		want     []string
	}{
		{"what all versions have is told once", []apiextensionsv1.CustomResourceDefinitionVersion{version(odd), version(odd)}, []string{`unrecognized format "nonsense"`}},
		{"what each has otherwise is told for each", []apiextensionsv1.CustomResourceDefinitionVersion{version(odd), version(odd, "{a:", "{b:")},
			[]string{`unrecognized format "nonsense"`, `unrecognized format "nonsense"`}},
		{"it is looked for everywhere", []apiextensionsv1.CustomResourceDefinitionVersion{version(deep)}, []string{list}},
	} {
		d := d.DeepCopyObject().(*apiextensionsv1.CustomResourceDefinition)
		d.Spec.Versions = tc.versions
		if got := k.Warn(d, nil); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.it, got, tc.want)
		}
	}
}

func TestColumns(t *testing.T) {
	k := CustomResourceDefinition()
	d := kindtest.Create(t, k, cron(v1))
	d.SetCreationTimestamp(metav1.NewTime(kindtest.Now))
	if got, want := kindtest.Row(k, d), []any{"crontabs.stable.example.com", "Namespaced", "v1(storage)",
		"2026-11-21T12:00:00Z", "stable.example.com", "CronTab", "", false}; !slices.Equal(got, want) {
		t.Errorf("row %v, want %v", got, want)
	}
}

// Upstream's server stores definitions in v1beta1, as JSON.
func TestDefinitionStoredByUpstreamIsRead(t *testing.T) {
	k := CustomResourceDefinition()
	obj := k.Stored[0].New()
	if err := yaml.Unmarshal([]byte(`
apiVersion: apiextensions.k8s.io/v1beta1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com, uid: "1", generation: 1}
spec:
  group: stable.example.com
  version: v1
  versions: [{name: v1, served: true, storage: true}]
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, listKind: CronTabList}
  preserveUnknownFields: false
  conversion: {strategy: None}
  subresources: {status: {}}
  additionalPrinterColumns: [{name: Spec, type: string, JSONPath: .spec.x}]
  validation: {openAPIV3Schema: {type: object, properties: {spec: {type: object}}}}
status:
  acceptedNames: {plural: crontabs, singular: crontab, kind: CronTab, listKind: CronTabList}
  storedVersions: [v1]
  conditions: [{type: Established, status: "True"}]`), obj); err != nil {
		t.Fatal(err)
	}
	hub, err := k.Stored[0].ToHub(obj)
	if err != nil {
		t.Fatal(err)
	}
	d := hub.(*apiextensionsv1.CustomResourceDefinition)
	v := d.Spec.Versions[0]
	if d.UID != "1" || len(d.Status.Conditions) != 1 || len(d.Spec.Versions) != 1 || v.Subresources == nil || v.Subresources.Status == nil ||
		v.Schema == nil || v.Schema.OpenAPIV3Schema.Properties["spec"].Type != "object" || v.AdditionalPrinterColumns[0].JSONPath != ".spec.x" {
		t.Errorf("as v1 it is %+v", d)
	}
	k.Default(d)
	if errs := k.Validate(d, nil); len(errs) > 0 {
		t.Errorf("it is not valid: %v", errs)
	}
}

var _ kind.Object = (*apiextensionsv1.CustomResourceDefinition)(nil)
