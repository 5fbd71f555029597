package definition

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// crontabs is a definition that asks for the plural given.
func crontabs(plural string, change ...func(*definition)) *definition {
	d := &definition{ObjectMeta: metav1.ObjectMeta{Name: plural + ".example.com"}}
	d.Spec.Group = "example.com"
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: plural + "-one", Kind: "Kind" + plural, ListKind: "List" + plural}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}}}
	for _, c := range change {
		c(d)
	}
	return d
}

func accepted(d *definition) { d.Status.AcceptedNames = d.Spec.Names }

// said are the conditions as "Type=Status/Reason".
func said(d *definition) (all []string) {
	for _, c := range d.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	slices.Sort(all)
	return all
}

// settled decides with what is wrong with the schemas.
func settled(d *definition, all []*definition, served bool, now time.Time) *definition {
	return decide(d, all, nonStructural(d), served, now)
}

func TestDecide(t *testing.T) {
	short := func(names ...string) func(*definition) {
		return func(d *definition) { d.Spec.Names.ShortNames = names }
	}
	for _, tc := range []struct {
		it     string
		d      *definition
		others []*definition
		served bool
		want   string
		names  string // the plural accepted
	}{
		{it: "gives a new definition its names", d: crontabs("a"), names: "a",
			want: "Established=False/Installing NamesAccepted=True/NoConflicts"},
		{it: "refuses a plural that another has", d: crontabs("a"), names: "",
			others: []*definition{crontabs("b", func(d *definition) { d.Spec.Names.Plural = "a" }, accepted)},
			want:   "Established=False/NotAccepted NamesAccepted=False/PluralConflict"},
		{it: "lets another group have the same", d: crontabs("a"), names: "a",
			others: []*definition{crontabs("a", func(d *definition) { d.Spec.Group = "other.com" }, accepted)},
			want:   "Established=False/Installing NamesAccepted=True/NoConflicts"},
		{it: "refuses a short name that is somebody's singular", d: crontabs("a", short("b-one")), names: "a",
			others: []*definition{crontabs("b", accepted)},
			want:   "Established=False/NotAccepted NamesAccepted=False/ShortNamesConflict"},
		{it: "refuses a kind that another has", d: crontabs("a", func(d *definition) { d.Spec.Names.Kind = "Kindb" }), names: "a",
			others: []*definition{crontabs("b", accepted)},
			want:   "Established=False/NotAccepted NamesAccepted=False/KindConflict"},
		{it: "says that it is served when it is", served: true, names: "a",
			d:    settled(crontabs("a"), nil, false, now),
			want: "Established=True/InitialNamesAccepted NamesAccepted=True/NoConflicts"},
		{it: "does not say so before its names are its own", d: crontabs("a"), served: true, names: "",
			others: []*definition{crontabs("b", func(d *definition) { d.Spec.Names.Plural = "a" }, accepted)},
			want:   "Established=False/NotAccepted NamesAccepted=False/PluralConflict"},
		{it: "names schemas that are not structural", d: crontabs("a", func(d *definition) {
			d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties = map[string]apiextensionsv1.JSONSchemaProps{"x": {}}
		}), names: "a", want: "Established=False/Installing NamesAccepted=True/NoConflicts NonStructuralSchema=True/Violations"},
		{it: "looks for approval in Kubernetes' own groups", d: crontabs("a", func(d *definition) { d.Spec.Group = "x.k8s.io" }), names: "a",
			want: "Established=False/Installing KubernetesAPIApprovalPolicyConformant=False/MissingAnnotation NamesAccepted=True/NoConflicts"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			before := tc.d.DeepCopy()
			got := settled(tc.d, append(tc.others, tc.d), tc.served, now)
			if text := strings.Join(said(got), " "); text != tc.want || got.Status.AcceptedNames.Plural != tc.names {
				t.Errorf("conditions %s, plural %q\nwant       %s, %q", text, got.Status.AcceptedNames.Plural, tc.want, tc.names)
			}
			if !equality.Semantic.DeepEqual(before, tc.d) {
				t.Error("the definition, which is shared, was written to")
			}
			again := settled(got, append(tc.others, got), tc.served, now.Add(time.Hour))
			if !equality.Semantic.DeepEqual(got, again) {
				t.Errorf("deciding twice decides something else:\n%+v\n%+v", got.Status, again.Status)
			}
		})
	}
}

func TestNameThatIsRefusedIsKeptAsItWas(t *testing.T) {
	d := settled(crontabs("a"), nil, false, now)
	d = settled(d, nil, true, now)
	d.Spec.Names.Kind = "Kindb"
	got := settled(d, []*definition{d, crontabs("b", accepted)}, true, now)
	if got.Status.AcceptedNames.Kind != "Kinda" || !isTrue(got, apiextensionsv1.Established) || isTrue(got, apiextensionsv1.NamesAccepted) {
		t.Errorf("names %+v, conditions %v: want the old kind, and established still", got.Status.AcceptedNames, said(got))
	}
}
