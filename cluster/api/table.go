package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/verb"
)

// sendList answers with a list in the form asked for.
func (c *call) sendList(a accepted, r request.Request, q url.Values, l *verb.List) {
	meta := metav1.ListMeta{ResourceVersion: l.ResourceVersion, Continue: l.Continue, RemainingItemCount: l.Remaining}
	switch a.as {
	case "Table":
		o, err := tableOptions(q)
		if err != nil {
			c.fail(err)
			return
		}
		t, err := c.s.table(a, r, o, l.Objects, meta, true)
		if err != nil {
			c.fail(err)
			return
		}
		c.send(http.StatusOK, a, t)
		return
	case "PartialObjectMetadata":
		c.fail(otherShape(a.as, "object is a list", r, "List"))
		return
	case "PartialObjectMetadataList":
		c.send(http.StatusOK, a, partialList(l.Objects, meta, a.version))
		return
	}
	c.auditList(r, meta, l.Objects)
	if a.mediaType == object.YAML || a.pretty {
		c.sendWholeList(a, r, meta, l.Objects)
		return
	}
	if len(l.Objects) >= longList {
		c.sendLongList(a, r, meta, l.Objects)
		return
	}
	out := c.stream(http.StatusOK, a.mediaType)
	if err := c.s.codec.EncodeList(out, r.Kind, r.GVK, meta, l.Objects, a.mediaType); err != nil {
		out.abandon(err)
		return
	}
	out.Close()
}

// sendWholeList is for the forms that are made out of the JSON one.
func (c *call) sendWholeList(a accepted, r request.Request, meta metav1.ListMeta, objs []kind.Object) {
	var whole bytesWriter
	err := c.s.codec.EncodeList(&whole, r.Kind, r.GVK, meta, objs, object.JSON)
	data := whole.data
	if err == nil && a.mediaType == object.YAML {
		data, err = toYAML(data)
	}
	if err != nil {
		c.fail(err)
		return
	}
	if a.pretty {
		data = indent(data)
	}
	c.sendBytes(http.StatusOK, a.mediaType, data)
}

type bytesWriter struct{ data []byte }

func (w *bytesWriter) Write(p []byte) (int, error) {
	w.data = append(w.data, p...)
	return len(p), nil
}

var _ io.Writer = (*bytesWriter)(nil)

func tableOptions(q url.Values) (o metav1.TableOptions, err error) {
	if len(q) > 0 {
		if err := asBadRequest(metav1.Convert_url_Values_To_v1_TableOptions(&q, &o, nil)); err != nil {
			return o, err
		}
	}
	switch o.IncludeObject {
	case "":
		o.IncludeObject = metav1.IncludeMetadata
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
	default:
		return o, apierrors.NewBadRequest("unrecognized includeObject value: \"" + string(o.IncludeObject) + "\"")
	}
	return o, nil
}

// table is what `kubectl get` shows. (KEP-576; upstream:
// endpoints/handlers/response.go.)
func (s *Server) table(a accepted, r request.Request, o metav1.TableOptions, objs []kind.Object, meta metav1.ListMeta, headers bool) (*metav1.Table, error) {
	t := &metav1.Table{TypeMeta: metav1.TypeMeta{APIVersion: metav1.GroupName + "/" + a.version, Kind: "Table"},
		ListMeta: meta, Rows: make([]metav1.TableRow, 0, len(objs))}
	if r.Kind.Order != nil && len(objs) > 1 {
		objs = slices.SortedStableFunc(slices.Values(objs), r.Kind.Order)
	}
	if r.Subresource != "scale" {
		var err error
		if objs, err = object.AllAs(r.Kind, objs, r.GVK); err != nil {
			return nil, err
		}
	}
	columns := columnsOf(r)
	if headers && !o.NoHeaders {
		t.ColumnDefinitions = make([]metav1.TableColumnDefinition, 0, len(columns))
		for _, c := range columns {
			t.ColumnDefinitions = append(t.ColumnDefinitions, c.TableColumnDefinition)
		}
	}
	now := s.cfg.Now()
	for _, obj := range objs {
		row := metav1.TableRow{Cells: make([]any, len(columns))}
		for i, c := range columns {
			row.Cells[i] = c.Cell(obj, now)
		}
		raw, err := s.rowObject(a, r, o.IncludeObject, obj)
		if err != nil {
			return nil, err
		}
		row.Object.Raw = raw
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// columnsOf are the columns of the version asked for.
func columnsOf(r request.Request) []kind.ErasedColumn {
	if r.Subresource == "scale" && r.Kind.Scale != nil {
		return scaleColumns()
	}
	for _, v := range r.Kind.Versions {
		if v.GVK != r.GVK || v.Columns == nil {
			continue
		}
		all := make([]kind.ErasedColumn, 0, len(v.Columns)+1)
		all = append(all, r.Kind.Columns[0]) // the name
		for _, c := range v.Columns {
			all = append(all, erase(c))
		}
		return all
	}
	return r.Kind.Columns
}

func (s *Server) rowObject(a accepted, r request.Request, include metav1.IncludeObjectPolicy, obj kind.Object) ([]byte, error) {
	switch include {
	case metav1.IncludeNone:
		return nil, nil
	case metav1.IncludeObject:
		if r.Subresource != "scale" {
			versioned, err := object.As(r.Kind, obj, r.GVK)
			if err != nil {
				return nil, err
			}
			obj = versioned
		}
		return s.codec.Encode(nil, obj, object.JSON)
	}
	return json.Marshal(partial(obj, a.version))
}

// partial is an object's metadata alone. The metadata is shared with obj and
// only read.
func partial(obj kind.Object, version string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: metav1.GroupName + "/" + version, Kind: "PartialObjectMetadata"},
		ObjectMeta: metaOf(obj),
	}
}

func metaOf(obj kind.Object) metav1.ObjectMeta {
	if a, ok := obj.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return *m
		}
	}
	return metav1.ObjectMeta{
		Name: obj.GetName(), GenerateName: obj.GetGenerateName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), Generation: obj.GetGeneration(),
		CreationTimestamp: obj.GetCreationTimestamp(), DeletionTimestamp: obj.GetDeletionTimestamp(),
		DeletionGracePeriodSeconds: obj.GetDeletionGracePeriodSeconds(), Labels: obj.GetLabels(),
		Annotations: obj.GetAnnotations(), OwnerReferences: obj.GetOwnerReferences(),
		Finalizers: obj.GetFinalizers(), ManagedFields: obj.GetManagedFields(), SelfLink: obj.GetSelfLink(),
	}
}

func partialList(objs []kind.Object, meta metav1.ListMeta, version string) runtime.Object {
	l := &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{APIVersion: metav1.GroupName + "/" + version, Kind: "PartialObjectMetadataList"},
		ListMeta: meta, Items: make([]metav1.PartialObjectMetadata, len(objs))}
	for i, obj := range objs {
		l.Items[i] = *partial(obj, version)
	}
	return l
}
