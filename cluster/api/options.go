package api

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/object"
	"sampan/cluster/request"
)

// The functions below read a query into the options of a verb. A value that
// cannot be read is 400, one that is not allowed 422, as upstream.

func getOptions(q url.Values) (o metav1.GetOptions, err error) {
	if len(q) > 0 {
		if isTrue(q, "export") {
			return o, apierrors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported")
		}
		err = asBadRequest(metav1.Convert_url_Values_To_v1_GetOptions(&q, &o, nil))
	}
	return o, err
}

func listOptions(q url.Values) (o metav1.ListOptions, err error) {
	if len(q) > 0 {
		err = asBadRequest(metav1.Convert_url_Values_To_v1_ListOptions(&q, &o, nil))
	}
	return o, err
}

// createOptions fills in what a create's query says about r.
func createOptions(q url.Values, agent string, r *request.Request) error {
	var o metav1.CreateOptions
	if err := asBadRequest(metav1.Convert_url_Values_To_v1_CreateOptions(&q, &o, nil)); err != nil {
		return err
	}
	if errs := metavalidation.ValidateCreateOptions(&o); len(errs) > 0 {
		return invalidOptions("CreateOptions", errs)
	}
	settle(r, o.DryRun, o.FieldManager, o.FieldValidation, agent)
	return nil
}

func updateOptions(q url.Values, agent string, r *request.Request) error {
	var o metav1.UpdateOptions
	if err := asBadRequest(metav1.Convert_url_Values_To_v1_UpdateOptions(&q, &o, nil)); err != nil {
		return err
	}
	if errs := metavalidation.ValidateUpdateOptions(&o); len(errs) > 0 {
		return invalidOptions("UpdateOptions", errs)
	}
	settle(r, o.DryRun, o.FieldManager, o.FieldValidation, agent)
	return nil
}

func patchOptions(q url.Values, agent string, pt types.PatchType, r *request.Request) error {
	var o metav1.PatchOptions
	if err := asBadRequest(metav1.Convert_url_Values_To_v1_PatchOptions(&q, &o, nil)); err != nil {
		return err
	}
	if errs := metavalidation.ValidatePatchOptions(&o, pt); len(errs) > 0 {
		return invalidOptions("PatchOptions", errs)
	}
	settle(r, o.DryRun, o.FieldManager, o.FieldValidation, agent)
	r.Force = o.Force != nil && *o.Force
	return nil
}

// deleteOptions come from the body or, where there is none, from the query.
func deleteOptions(q url.Values, body []byte, mediaType string, r *request.Request) (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	if len(body) > 0 {
		if err := decodeDeleteOptions(o, body, mediaType); err != nil {
			return nil, err
		}
	} else if len(q) > 0 {
		if err := asBadRequest(metav1.Convert_url_Values_To_v1_DeleteOptions(&q, o, nil)); err != nil {
			return nil, err
		}
	}
	if errs := metavalidation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, invalidOptions("DeleteOptions", errs)
	}
	r.DryRun = len(o.DryRun) > 0
	return o, nil
}

// decodeDeleteOptions takes the options in whatever version they claim to be:
// every group has the same, and clients send their own group's. (Upstream
// registers DeleteOptions in each group version.)
func decodeDeleteOptions(o *metav1.DeleteOptions, body []byte, mediaType string) error {
	if err := object.DecodeOptions(o, "DeleteOptions", body, mediaType); err != nil {
		// Upstream says of options what is wrong, and not that they are.
		return apierrors.NewBadRequest(strings.TrimPrefix(err.Error(), `DeleteOptions in version "v1" cannot be handled as a DeleteOptions: `))
	}
	return nil
}

func settle(r *request.Request, dryRun []string, manager, validation, agent string) {
	r.DryRun = len(dryRun) > 0
	r.FieldManager, r.FieldValidation = manager, validation
	if manager == "" {
		r.FieldManager = managerOf(agent)
	}
}

// managerOf is the field manager of a client that names none: its User-Agent
// up to the first slash. (Upstream: endpoints/handlers/create.go.)
func managerOf(agent string) string {
	name, _, _ := strings.Cut(agent, "/")
	var b strings.Builder
	for _, r := range name {
		if b.Len()+utf8.RuneLen(r) > metavalidation.FieldManagerMaxLength {
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// patchType is the type of a patch by its Content-Type.
func patchType(r *http.Request) (types.PatchType, error) {
	mt, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch pt := types.PatchType(strings.TrimSpace(mt)); pt {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
		return pt, nil
	}
	return "", unsupportedMediaType([]string{string(types.JSONPatchType), string(types.MergePatchType),
		string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType)})
}

func asBadRequest(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(apierrors.APIStatus); ok {
		return err
	}
	return apierrors.NewBadRequest(err.Error())
}

func invalidOptions(kind string, errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}
