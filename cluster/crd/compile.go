package crd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/version"

	"sampan/cluster/kind"
	"sampan/cluster/webhook"
)

// definition is a CustomResourceDefinition as far as its objects depend on it.
// It is shared by the kinds of all versions. Only what is made of it comes and
// goes.
type definition struct {
	// source is the object that the schemas are read from. It is replaced by
	// newer ones that say the same, so that only one is kept in memory.
	source atomic.Pointer[apiextensionsv1.CustomResourceDefinition]

	group    string
	names    apiextensionsv1.CustomResourceDefinitionNames // those accepted
	scope    apiextensionsv1.ResourceScope
	preserve bool // unknown fields, wherever they are: v1beta1's way
	versions map[string]*form
	convert  converter

	shelf   *shelf
	kept    *sync.Map   // kind.Custom.Kept
	used    atomic.Bool // since the shelf looked last
	shelved bool        // the shelf's lock guards it
}

// version is what d says of a version; nil if it has not that.
func (d *definition) version(name string) *apiextensionsv1.CustomResourceDefinitionVersion {
	all := d.source.Load().Spec.Versions
	if i := slices.IndexFunc(all, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// Compile makes the kinds of a definition, one for each version served, of
// the names that it was given. It returns the first of them, which has the
// others as its faces. Schemas are compiled when an object first needs them.
func Compile(d *apiextensionsv1.CustomResourceDefinition, webhooks *webhook.Caller) (*kind.Kind, error) {
	k, _, err := compile(d, webhooks, &shelf{most: inUse})
	return k, err
}

func compile(d *apiextensionsv1.CustomResourceDefinition, webhooks *webhook.Caller, on *shelf) (*kind.Kind, *definition, error) {
	def := &definition{group: d.Spec.Group, names: *d.Status.AcceptedNames.DeepCopy(), scope: d.Spec.Scope,
		preserve: d.Spec.PreserveUnknownFields, versions: map[string]*form{}, shelf: on, kept: &sync.Map{}}
	def.source.Store(d)
	if def.names.Plural == "" || def.names.Kind == "" || def.names.Singular == "" || def.names.ListKind == "" {
		return nil, nil, fmt.Errorf("compile %s: its names have not been accepted", d.Name)
	}
	storage := ""
	custom := kind.Custom{Settle: def.settle, Ending: ending(d), Kept: def.kept, Told: &sync.Map{}, List: def.names.ListKind}
	all := slices.Clone(d.Spec.Versions)
	slices.SortFunc(all, func(a, b apiextensionsv1.CustomResourceDefinitionVersion) int {
		return version.CompareKubeAwareVersionStrings(b.Name, a.Name)
	})
	for i := range all {
		v := &all[i]
		def.versions[v.Name] = newForm(def, v)
		custom.Versions = append(custom.Versions, def.gvk(v.Name))
		if v.Storage {
			storage = v.Name
		}
	}
	if storage == "" {
		return nil, nil, fmt.Errorf("compile %s: no version is the one to store", d.Name)
	}
	custom.Storage = def.gvk(storage)
	var err error
	if def.convert, err = newConverter(def, d, webhooks); err != nil {
		return nil, nil, err
	}
	custom.Convert = def.converted
	var kinds []*kind.Kind
	for i := range all {
		if all[i].Served {
			k := def.kind(&all[i])
			own := custom
			own.Schema = def.versions[all[i].Name].schema
			own.Digest = digest(d, &all[i])
			if all[i].Deprecated {
				own.Deprecated = deprecation(d, &all[i], all)
			}
			k.Custom = &own
			kinds = append(kinds, k)
		}
	}
	if len(kinds) == 0 {
		// Nothing serves it; its objects are kept, and looked after.
		i := slices.IndexFunc(all, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
		k := def.kind(&all[i])
		k.Custom = &custom
		return k, def, nil
	}
	for _, k := range kinds {
		k.Custom.Faces = kinds
	}
	return kinds[0], def, nil
}

func (d *definition) gvk(v string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: d.group, Version: v, Kind: d.names.Kind}
}

// form is of which version obj is; nil if the definition has not that.
func (d *definition) form(obj kind.Object) *form {
	return d.versions[obj.GetObjectKind().GroupVersionKind().Version]
}

// digest changes with whatever is published of a version. It is not of the
// schema, which may be long, but of what changes with each write of it.
func digest(d *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion) string {
	h := sha256.New()
	fmt.Fprintln(h, d.UID, d.Generation, d.Spec.Scope, v.Name, d.Status.AcceptedNames)
	for _, m := range d.ManagedFields {
		// A restored snapshot may come to a generation for the second time.
		if m.Subresource == "" && m.Time != nil {
			fmt.Fprintln(h, m.Manager, m.Operation, m.Time.Unix())
		}
	}
	if d.Generation == 0 { // nobody counted
		fmt.Fprintln(h, fingerprint(d.Spec.PreserveUnknownFields, v))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// fingerprint changes whenever one of the values does.
func fingerprint(of ...any) string {
	text, err := json.Marshal(of)
	if err != nil {
		panic(err) // it was JSON before
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func ending(d *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Terminating && c.Status == apiextensionsv1.ConditionTrue
	})
}

// deprecation is the warning of a deprecated version. all is in the order of
// preference.
func deprecation(d *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion, all []apiextensionsv1.CustomResourceDefinitionVersion) string {
	if v.DeprecationWarning != nil {
		return *v.DeprecationWarning
	}
	text := fmt.Sprintf("%s/%s %s is deprecated", d.Spec.Group, v.Name, d.Spec.Names.Kind)
	for _, other := range all {
		if other.Name == v.Name {
			break // what follows is older
		}
		if other.Served && !other.Deprecated {
			return text + fmt.Sprintf("; use %s/%s %s", d.Spec.Group, other.Name, d.Spec.Names.Kind)
		}
	}
	return text
}

// kind is one version's.
func (d *definition) kind(v *apiextensionsv1.CustomResourceDefinitionVersion) *kind.Kind {
	f, gvk := d.versions[v.Name], d.gvk(v.Name)
	k := &kind.Kind{
		GVK: gvk, Plural: d.names.Plural, Singular: d.names.Singular, Short: d.names.ShortNames,
		Categories: d.names.Categories, Cluster: d.scope == apiextensionsv1.ClusterScoped,
		Prefix: d.group + "/" + d.names.Plural,
		New: func() kind.Object {
			u := &unstructured.Unstructured{Object: map[string]any{}}
			u.SetGroupVersionKind(gvk)
			return u
		},
		Default:      d.setDefaults,
		Prepare:      func(_, _ kind.Object) {},
		Validate:     f.validate,
		ValidateName: apivalidation.NameIsDNSSubdomain,
		Warn:         f.warn,
		Spec:         func(obj kind.Object) any { return wanted(obj, f.status) },
		Grace:        func(kind.Object, *metav1.DeleteOptions) bool { return false },
		Held:         func(kind.Object) bool { return false },
		Leaving:      func(kind.Object) {},
		Conditional:  true,
		Parts:        map[string]kind.ErasedPart{},
		Columns:      columns(v.AdditionalPrinterColumns),
		Fields:       map[string]func(kind.Object) string{},
		Indexes: map[string]func(kind.Object) []string{kind.OwnerIndex: func(obj kind.Object) (uids []string) {
			for _, ref := range obj.GetOwnerReferences() {
				uids = append(uids, string(ref.UID))
			}
			return uids
		}},
	}
	for _, s := range v.SelectableFields {
		name, value := selectable(s.JSONPath)
		k.Fields[name] = func(obj kind.Object) string { return value(d.in(gvk, obj)) }
	}
	if f.status {
		k.Parts["status"] = kind.ErasedPart{Take: takeStatus, Prepare: func(_, _ kind.Object) {}, Validate: f.validateStatus}
	}
	if v.Subresources != nil && v.Subresources.Scale != nil {
		k.Scale = scaleOf(v.Subresources.Scale)
	}
	return k
}

// in is obj in one version, for those who cannot report an error: what cannot
// be converted has no fields.
func (d *definition) in(gvk schema.GroupVersionKind, obj kind.Object) map[string]any {
	all, err := d.converted([]kind.Object{obj}, gvk)
	if err != nil {
		return nil
	}
	return all[0].(*unstructured.Unstructured).Object
}

// wanted is what a user wants: all but metadata, and but the status where that
// is a part of its own.
func wanted(obj kind.Object, status bool) map[string]any {
	all := map[string]any{}
	for name, v := range obj.(*unstructured.Unstructured).Object {
		if name != "metadata" && !(status && name == "status") {
			all[name] = v
		}
	}
	return all
}

func takeStatus(dst, src kind.Object) {
	to, from := dst.(*unstructured.Unstructured), src.(*unstructured.Unstructured)
	if v, ok := from.Object["status"]; ok {
		to.Object["status"] = runtime.DeepCopyJSONValue(v)
	} else {
		delete(to.Object, "status")
	}
}

// scaleOf maps the paths that a definition names. (Upstream:
// registry/customresource/etcd.go.)
func scaleOf(s *apiextensionsv1.CustomResourceSubresourceScale) *kind.ErasedScale {
	path := func(p string) []string { return strings.Split(strings.TrimPrefix(p, "."), ".") }
	number := func(obj kind.Object, p string) (int64, bool) {
		n, found, err := unstructured.NestedInt64(obj.(*unstructured.Unstructured).Object, path(p)...)
		return n, found && err == nil
	}
	return &kind.ErasedScale{
		Check: func(obj kind.Object) error {
			if _, ok := number(obj, s.SpecReplicasPath); !ok {
				return fmt.Errorf("the spec replicas field %q does not exist", s.SpecReplicasPath)
			}
			return nil
		},
		Get: func(obj kind.Object) (spec autoscalingv1.ScaleSpec, status autoscalingv1.ScaleStatus) {
			n, _ := number(obj, s.SpecReplicasPath)
			spec.Replicas = int32(n)
			n, _ = number(obj, s.StatusReplicasPath)
			status.Replicas = int32(n)
			if s.LabelSelectorPath != nil {
				status.Selector, _, _ = unstructured.NestedString(obj.(*unstructured.Unstructured).Object, path(*s.LabelSelectorPath)...)
			}
			return spec, status
		},
		Set: func(obj kind.Object, n int32) {
			// A path through what is no object is refused when the result is validated.
			_ = unstructured.SetNestedField(obj.(*unstructured.Unstructured).Object, int64(n), path(s.SpecReplicasPath)...)
		},
		Path: path(s.SpecReplicasPath),
	}
}

// validateScale checks the numbers that the scale reads.
func validateScale(obj kind.Object, s *apiextensionsv1.CustomResourceSubresourceScale, spec bool) (errs field.ErrorList) {
	look := func(p string, selector bool) {
		at := field.NewPath(p)
		parts := strings.Split(strings.TrimPrefix(p, "."), ".")
		content := obj.(*unstructured.Unstructured).Object
		if selector {
			if v, _, err := unstructured.NestedString(content, parts...); err != nil {
				errs = append(errs, field.Invalid(at, v, err.Error()))
			}
			return
		}
		n, _, err := unstructured.NestedInt64(content, parts...)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at, n, err.Error()))
		case n < 0:
			errs = append(errs, field.Invalid(at, n, "should be a non-negative integer"))
		case n > 1<<31-1:
			errs = append(errs, field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", 1<<31-1)))
		}
	}
	if s == nil {
		return nil
	}
	if spec {
		look(s.SpecReplicasPath, false)
	}
	look(s.StatusReplicasPath, false)
	if s.LabelSelectorPath != nil {
		look(*s.LabelSelectorPath, true)
	}
	return errs
}
