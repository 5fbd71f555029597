package store

import (
	"cmp"
	"path"
	"strings"

	"sampan/cluster/kind"
)

// root is what all keys of a store in etcd begin with: upstream's --etcd-prefix
// and a slash.
type root string

// defaultRoot is upstream's.
const defaultRoot = root("/registry/")

// rootOf is the root of a prefix as users write it.
func rootOf(prefix string) root {
	if prefix == "" {
		return defaultRoot
	}
	return root(strings.TrimSuffix(path.Join("/", prefix), "/") + "/")
}

// Key names one object. Namespace is empty for cluster-wide kinds.
type Key struct {
	Kind            *kind.Kind
	Namespace, Name string
}

// String names the object in errors: "configmaps default/web".
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind.String() + " " + k.Name
	}
	return k.Kind.String() + " " + k.Namespace + "/" + k.Name
}

// path is an object's key in etcd.
func (r root) path(k Key) string {
	if k.Kind.Cluster {
		return string(r) + k.Kind.Prefix + "/" + k.Name
	}
	return string(r) + k.Kind.Prefix + "/" + k.Namespace + "/" + k.Name
}

// dir is what the keys of all objects of a kind begin with.
func (r root) dir(k *kind.Kind) string { return string(r) + k.Prefix + "/" }

// find says which of the sets an etcd key belongs to, and the object's name.
// Neither namespaces nor names contain a slash, prefixes may.
func (r root) find(sets map[string]*set, path string) (s *set, namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(path, string(r))
	if !ok {
		return nil, "", "", false
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return nil, "", "", false
	}
	if s := sets[rest[:i]]; s != nil && s.kind.Cluster {
		return s, "", rest[i+1:], true
	}
	j := strings.LastIndexByte(rest[:i], '/')
	if j < 0 {
		return nil, "", "", false
	}
	if s := sets[rest[:j]]; s != nil && !s.kind.Cluster {
		return s, rest[j+1 : i], rest[i+1:], true
	}
	return nil, "", "", false
}

// compare orders objects as their etcd keys are, so that a list in pages has
// one order wherever a page comes from: by namespace and name, where the end
// of a namespace counts as a slash ("a-b" is before "a").
func compare(ns1, name1, ns2, name2 string) int {
	if ns1 == ns2 {
		return strings.Compare(name1, name2)
	}
	n := min(len(ns1), len(ns2))
	if c := strings.Compare(ns1[:n], ns2[:n]); c != 0 {
		return c
	}
	if len(ns1) < len(ns2) {
		return cmp.Compare('/', ns2[n])
	}
	return cmp.Compare(ns1[n], '/')
}
