package crd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"

	"sampan/cluster/kind"
)

// columns are those that a version declares, or the age alone. (Upstream:
// registry/customresource/tableconvertor.)
func columns(declared []apiextensionsv1.CustomResourceColumnDefinition) []kind.ErasedColumn {
	all := []kind.ErasedColumn{{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name",
			Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
		Cell: func(obj kind.Object, _ time.Time) any { return obj.GetName() },
	}}
	if len(declared) == 0 {
		declared = []apiextensionsv1.CustomResourceColumnDefinition{{Name: "Age", Type: "date",
			Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], JSONPath: ".metadata.creationTimestamp"}}
	}
	for _, c := range declared {
		path, err := parse(c.Name, c.JSONPath)
		if err != nil {
			return all // as upstream: those before it are shown
		}
		if c.Description == "" {
			c.Description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		all = append(all, kind.ErasedColumn{
			TableColumnDefinition: metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format,
				Description: c.Description, Priority: c.Priority},
			Cell: func(obj kind.Object, now time.Time) any {
				return path.cell(c.Type, obj.(*unstructured.Unstructured).Object, now)
			},
		})
	}
	return all
}

// selectable is the name of a field that objects can be selected by, and what
// an object has there.
func selectable(jsonPath string) (name string, value func(content map[string]any) string) {
	path, err := parse("selectableField", jsonPath)
	return strings.TrimPrefix(jsonPath, "."), func(content map[string]any) string {
		if err != nil || content == nil {
			return ""
		}
		if v := path.first(content); v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
}

// expression is a JSONPath. The library's has state while it looks, so that
// one at a time may, and is much larger than its text, so that there is none
// until somebody looks.
type expression struct {
	name, text string

	mu   sync.Mutex // guards path
	path *jsonpath.JSONPath
}

func parse(name, text string) (*expression, error) {
	e := &expression{name: name, text: text}
	_, err := e.parsed()
	return e, err
}

func (e *expression) parsed() (*jsonpath.JSONPath, error) {
	path := jsonpath.New(e.name).AllowMissingKeys(true)
	return path, path.Parse("{" + e.text + "}")
}

// openLocked makes the path if there is none yet. It was parsed before.
func (e *expression) openLocked() *jsonpath.JSONPath {
	if e.path == nil {
		e.path, _ = e.parsed()
	}
	return e.path
}

// first is what the path leads to first, nil if that is nothing.
func (e *expression) first(content map[string]any) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	found, err := e.openLocked().FindResults(content)
	if err != nil || len(found) == 0 || len(found[0]) == 0 {
		return nil
	}
	return found[0][0].Interface()
}

// print is what was found as text, nil if it has none.
func (e *expression) print(v any) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	var text bytes.Buffer
	if err := e.openLocked().PrintResults(&text, []reflect.Value{reflect.ValueOf(v)}); err != nil {
		return nil
	}
	return text.String()
}

// cell is what is shown of an object in a column of a type.
func (e *expression) cell(typ string, content map[string]any, now time.Time) any {
	v := e.first(content)
	if v == nil {
		return nil
	}
	switch typ {
	case "string":
		return e.print(v)
	case "integer":
		switch n := v.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		case json.Number:
			if i, err := n.Int64(); err == nil {
				return i
			}
		}
	case "number":
		switch n := v.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		case json.Number:
			if f, err := n.Float64(); err == nil {
				return f
			}
		}
	case "boolean":
		if b, ok := v.(bool); ok {
			return b
		}
	case "date":
		if text, ok := v.(string); ok {
			var at metav1.Time
			if err := at.UnmarshalQueryParameter(text); err != nil {
				return "<invalid>"
			}
			return kind.Since(at, now)
		}
	}
	return nil
}
