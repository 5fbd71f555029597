package crd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/webhook"
)

// converter makes objects of another version out of some that are shared and
// of one that is not that. It keeps what it is given as it is.
type converter func(objs []*unstructured.Unstructured, to schema.GroupVersionKind) ([]*unstructured.Unstructured, error)

// patience is how long a conversion webhook may take, upstream's.
const patience = 30 * time.Second

// newConverter is the strategy that a definition names.
func newConverter(def *definition, d *apiextensionsv1.CustomResourceDefinition, webhooks *webhook.Caller) (converter, error) {
	c := d.Spec.Conversion
	if c == nil || c.Strategy == apiextensionsv1.NoneConverter {
		return rename, nil
	}
	if c.Strategy != apiextensionsv1.WebhookConverter || c.Webhook == nil || c.Webhook.ClientConfig == nil {
		return nil, fmt.Errorf("unknown conversion strategy %q for CRD %s", c.Strategy, d.Name)
	}
	if webhooks == nil {
		return nil, fmt.Errorf("compile %s: there is nothing to call its webhook with", d.Name)
	}
	versions := []string{"v1", "v1beta1"}
	i := slices.IndexFunc(c.Webhook.ConversionReviewVersions, func(v string) bool { return slices.Contains(versions, v) })
	if i < 0 {
		return nil, fmt.Errorf("compile %s: no supported conversion review versions", d.Name)
	}
	w := &hook{call: webhooks, review: c.Webhook.ConversionReviewVersions[i], kept: newMemory(remembered)}
	w.target.CA = c.Webhook.ClientConfig.CABundle
	if len(bytes.TrimSpace(w.target.CA)) == 0 {
		w.target.CA = nil
	}
	if url := c.Webhook.ClientConfig.URL; url != nil {
		w.target.URL = *url
	}
	if s := c.Webhook.ClientConfig.Service; s != nil {
		w.target.Service = &webhook.Service{Namespace: s.Namespace, Name: s.Name}
		if s.Path != nil {
			w.target.Service.Path = *s.Path
		}
		if s.Port != nil {
			w.target.Service.Port = *s.Port
		}
	}
	return w.convert, nil
}

// rename is the strategy None: versions differ by name only.
func rename(objs []*unstructured.Unstructured, to schema.GroupVersionKind) ([]*unstructured.Unstructured, error) {
	all := make([]*unstructured.Unstructured, len(objs))
	for i, obj := range objs {
		all[i] = obj.DeepCopy()
		all[i].SetAPIVersion(to.GroupVersion().String())
	}
	return all, nil
}

// converted implements kind.Custom. What comes out has what its version's
// schema has.
func (d *definition) converted(objs []kind.Object, to schema.GroupVersionKind) ([]kind.Object, error) {
	var strange []*unstructured.Unstructured
	for _, obj := range objs {
		gvk := obj.GetObjectKind().GroupVersionKind()
		if gvk == to {
			continue
		}
		if d.versions[gvk.Version] == nil {
			return nil, fmt.Errorf("request to convert CR from an invalid group/version: %s", gvk.GroupVersion())
		}
		strange = append(strange, obj.(*unstructured.Unstructured))
	}
	if len(strange) == 0 {
		return objs, nil
	}
	if d.versions[to.Version] == nil {
		return nil, fmt.Errorf("request to convert CR to an invalid group/version: %s", to.GroupVersion())
	}
	made, err := d.convert(strange, to)
	if err != nil {
		return nil, err
	}
	all := make([]kind.Object, len(objs))
	for i, obj := range objs {
		if obj.GetObjectKind().GroupVersionKind() == to {
			all[i] = obj
			continue
		}
		next := made[0]
		made = made[1:]
		if _, err := d.settle(next, false, false); err != nil {
			return nil, err
		}
		all[i] = next
	}
	return all, nil
}

// hook is the strategy Webhook.
type hook struct {
	call   *webhook.Caller
	target webhook.Target
	review string // version of the review, which both sides speak
	kept   *memory
}

// review is ConversionReview in v1 and v1beta1, which are the same.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *reviewRequest  `json:"request,omitempty"`
	Response        *reviewResponse `json:"response,omitempty"`
}

type reviewRequest struct {
	UID     types.UID                    `json:"uid"`
	Desired string                       `json:"desiredAPIVersion"`
	Objects []*unstructured.Unstructured `json:"objects"`
}

type reviewResponse struct {
	UID       types.UID         `json:"uid"`
	Converted []json.RawMessage `json:"convertedObjects"`
	Result    metav1.Status     `json:"result"`
}

// convert asks the webhook about those objects whose answer it does not know.
func (w *hook) convert(objs []*unstructured.Unstructured, to schema.GroupVersionKind) ([]*unstructured.Unstructured, error) {
	all, keys := make([]*unstructured.Unstructured, len(objs)), make([]memoryKey, len(objs))
	var unknown []int
	for i, obj := range objs {
		var ok bool
		if keys[i], ok = key(obj, to.Version); ok {
			all[i] = w.kept.get(keys[i])
		}
		if all[i] == nil {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) == 0 {
		return all, nil
	}
	ask := make([]*unstructured.Unstructured, len(unknown))
	for i, at := range unknown {
		ask[i] = objs[at]
	}
	answer, err := w.ask(ask, to)
	if err != nil {
		return nil, err
	}
	for i, at := range unknown {
		w.kept.put(keys[at], answer[i])
		all[at] = answer[i].DeepCopy() // what is kept stays as it is
	}
	return all, nil
}

// ask is one call. The texts are upstream's.
func (w *hook) ask(objs []*unstructured.Unstructured, to schema.GroupVersionKind) ([]*unstructured.Unstructured, error) {
	first := objs[0].GroupVersionKind()
	group := apiextensionsv1.GroupName + "/" + w.review
	id := uuid.NewUUID()
	question := review{TypeMeta: metav1.TypeMeta{APIVersion: group, Kind: "ConversionReview"},
		Request: &reviewRequest{UID: id, Desired: to.GroupVersion().String(), Objects: objs}}
	var answer review
	err := w.call.Post(context.Background(), webhook.Call{Target: w.target, Timeout: patience}, question, &answer)
	if err == nil {
		err = answer.check(w.review, group, id)
	}
	if err != nil {
		return nil, fmt.Errorf("conversion webhook for %v failed: %w", first, err)
	}
	if got := len(answer.Response.Converted); got != len(objs) {
		return nil, fmt.Errorf("conversion webhook for %v returned %d objects, expected %d", first, got, len(objs))
	}
	all := make([]*unstructured.Unstructured, len(objs))
	for i, raw := range answer.Response.Converted {
		u := &unstructured.Unstructured{}
		err := u.UnmarshalJSON(raw)
		switch got := u.GroupVersionKind(); {
		case err != nil:
		case got.GroupVersion() != to.GroupVersion():
			err = fmt.Errorf("invalid groupVersion (expected %v, received %v)", to.GroupVersion(), got.GroupVersion())
		case got.Kind != objs[i].GetKind():
			err = fmt.Errorf("invalid kind (expected %v, received %v)", objs[i].GetKind(), got.Kind)
		default:
			err = sameObject(objs[i], u)
		}
		if err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid converted object at index %v: %w", first, i, err)
		}
		if err := keepMetadata(objs[i], u); err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid metadata in object at index %v: %w", first, i, err)
		}
		all[i] = u
	}
	return all, nil
}

// check says whether an answer is one to the question.
func (r *review) check(version, apiVersion string, id types.UID) error {
	if version == "v1" && (r.APIVersion != apiVersion || r.Kind != "ConversionReview") {
		want := schema.FromAPIVersionAndKind(apiVersion, "ConversionReview")
		return fmt.Errorf("expected webhook response of %v, got %v", want, r.GroupVersionKind())
	}
	if r.Response == nil {
		return errors.New("no response provided")
	}
	if version == "v1" && r.Response.UID != id {
		return fmt.Errorf("expected response.uid=%q, got %q", id, r.Response.UID)
	}
	if result := r.Response.Result; result.Status != metav1.StatusSuccess {
		if result.Message != "" {
			return errors.New(result.Message)
		}
		return fmt.Errorf("response.result.status was '%s', not 'Success'", result.Status)
	}
	return nil
}

// sameObject checks that a conversion did not make another object.
func sameObject(was, is *unstructured.Unstructured) error {
	switch {
	case was.GetName() != is.GetName():
		return fmt.Errorf("must have the same name: %v != %v", was.GetName(), is.GetName())
	case was.GetNamespace() != is.GetNamespace():
		return fmt.Errorf("must have the same namespace: %v != %v", was.GetNamespace(), is.GetNamespace())
	case was.GetUID() != is.GetUID():
		return fmt.Errorf("must have the same UID: %v != %v", was.GetUID(), is.GetUID())
	}
	return nil
}

// keepMetadata gives is the metadata that was had, but for labels and
// annotations, which a conversion may change.
func keepMetadata(was, is *unstructured.Unstructured) error {
	theirs, ok := is.Object["metadata"].(map[string]any)
	if !ok {
		return errors.New("missing metadata in converted object")
	}
	ours := map[string]any{}
	if had, ok := was.Object["metadata"].(map[string]any); ok {
		ours = runtime.DeepCopyJSON(had)
	}
	for _, name := range []string{"labels", "annotations"} {
		if theirs[name] == nil {
			delete(ours, name)
			continue
		}
		values, ok := theirs[name].(map[string]any)
		if !ok {
			return fmt.Errorf("invalid metadata.%s of type %T in converted object", name, theirs[name])
		}
		texts := make(map[string]string, len(values))
		for key, v := range values {
			if texts[key], ok = v.(string); !ok {
				return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, key, v)
			}
		}
		var errs field.ErrorList
		if name == "labels" {
			errs = metav1validation.ValidateLabels(texts, field.NewPath("metadata", "labels"))
		} else {
			errs = apivalidation.ValidateAnnotations(texts, field.NewPath("metadata", "annotation"))
		}
		if len(errs) > 0 {
			return errs.ToAggregate()
		}
		ours[name] = values
	}
	is.Object["metadata"] = ours
	return nil
}
