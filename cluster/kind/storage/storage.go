// Package storage declares the kinds of storage.k8s.io, a file per kind: how
// volumes are made, by whom, and where they are attached. Volumes and claims
// themselves are in core.
package storage

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		CSIDriver(),
		CSINode(),
		CSIStorageCapacity(),
		StorageClass(),
		VolumeAttachment(),
		VolumeAttributesClass(),
	}
}

// Upstream's limits.
const (
	maxParameters      = 512
	maxParametersBytes = 256 << 10
	maxMetadataBytes   = 256 << 10
	maxErrorBytes      = 1024
	maxNodeID          = 256
)

// provisioner checks the name of who makes volumes.
func provisioner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return kind.QualifiedName(strings.ToLower(name), path)
}

// parameters checks what is handed to a driver as it is.
func parameters(p map[string]string, needed bool, path *field.Path) (errs field.ErrorList) {
	if len(p) > maxParameters {
		return field.ErrorList{field.TooLong(path, "", maxParameters)}
	}
	if _, ok := p[""]; ok {
		errs = append(errs, field.Invalid(path, "", "field can not be empty."))
	}
	if bytesOf(p) > maxParametersBytes {
		errs = append(errs, field.TooLong(path, "", maxParametersBytes))
	}
	if needed && len(p) == 0 {
		errs = append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	return errs
}

func bytesOf(p map[string]string) (n int) {
	for _, key := range slices.Sorted(maps.Keys(p)) {
		n += len(key) + len(p[key])
	}
	return n
}
