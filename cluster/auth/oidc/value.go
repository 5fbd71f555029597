package oidc

import (
	"encoding/json"
	"errors"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"

	"sampan/cluster/request"
)

// claimsValue is claims as expressions see them. What none looks at is not
// read.
func claimsValue(c claims) *lazy.MapValue {
	m := lazy.NewMapValue(types.NewObjectType("kubernetes.claims"))
	for name, data := range c {
		m.Append(name, func(*lazy.MapValue) ref.Val {
			var value any
			if err := json.Unmarshal(data, &value); err != nil {
				return types.NewErr("claim %q failed to unmarshal: %v", name, err)
			}
			return native(value)
		})
	}
	return m
}

// userValue is a user as expressions see it.
func userValue(u request.User) *lazy.MapValue {
	m := lazy.NewMapValue(types.NewObjectType("kubernetes.UserInfo"))
	for name, value := range map[string]any{"username": u.Name, "uid": u.UID, "groups": u.Groups, "extra": u.Extra} {
		m.Append(name, func(*lazy.MapValue) ref.Val { return native(value) })
	}
	return m
}

func native(value any) ref.Val { return unescaping(types.DefaultTypeAdapter.NativeToValue(value)) }

// unescaping lets expressions select a field whose name is no identifier, in the
// escaped form that Kubernetes' CEL has for it: claims.example__dot__org. It goes
// as deep as the value does.
func unescaping(v ref.Val) ref.Val {
	switch v := v.(type) {
	case traits.Mapper:
		return mapper{v}
	case traits.Lister:
		return lister{v}
	}
	return v
}

type mapper struct{ traits.Mapper }

// Find implements traits.Mapper.
func (m mapper) Find(key ref.Val) (ref.Val, bool) {
	if s, ok := key.(types.String); ok {
		if name, ok := cel.Unescape(string(s)); ok {
			key = types.String(name)
		}
	}
	v, ok := m.Mapper.Find(key)
	return unescaping(v), ok
}

type lister struct{ traits.Lister }

// Get implements traits.Indexer.
func (l lister) Get(index ref.Val) ref.Val { return unescaping(l.Lister.Get(index)) }

var errNotStrings = errors.New("expression must return a string or a list of strings")

// stringsOf makes strings of what an expression gave. Empty ones count as not
// there.
func stringsOf(v ref.Val) ([]string, error) {
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.String:
		if v == "" {
			return nil, nil
		}
		return []string{string(v)}, nil
	case traits.Lister:
		var all []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			s, ok := it.Next().(types.String)
			if !ok {
				return nil, errNotStrings
			}
			if s != "" {
				all = append(all, string(s))
			}
		}
		return all, nil
	}
	return nil, errNotStrings
}
