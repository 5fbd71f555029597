package image

import (
	"errors"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"sampan/internal/fault"
)

// tagged normalizes a name that is to be given to an image, as Docker does:
// busybox is docker.io/library/busybox:latest. A digest cannot be given.
func tagged(name string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err == nil {
		if _, has := ref.(reference.Digested); has {
			err = errors.New("a name cannot contain a digest")
		}
	}
	if err != nil {
		return "", &fault.Error{Class: fault.Invalid, Op: "name image", On: name, Err: err, Fix: "names look like registry.example.com/team/app:1.0"}
	}
	return reference.TagNameOnly(ref).String(), nil
}

// Familiar is a normalized name as people write it: busybox:latest.
func Familiar(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}

// find looks up a reference in Docker's order: ID, digest, name, beginning of an ID.
func find(all []Image, ref string) (Image, error) {
	missing := &fault.Error{Class: fault.NotFound, Op: "find image", On: ref, Err: errors.New("no such image"),
		Fix: "get it with: sampan pull " + ref + ", or: sampan load -i ARCHIVE"}
	if ref == "" {
		return Image{}, &fault.Error{Class: fault.Invalid, Op: "find image", Err: errors.New("empty reference")}
	}
	if id := digest.Digest(ref); id.Validate() == nil || digest.NewDigestFromEncoded(digest.SHA256, ref).Validate() == nil {
		for _, im := range all {
			if im.ID == id || im.ID.Encoded() == ref {
				return im, nil
			}
		}
		return Image{}, missing
	}
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		if c, ok := named.(reference.Canonical); ok {
			// name:tag@digest means name@digest: the digest decides.
			want := reference.TrimNamed(c).Name() + "@" + c.Digest().String()
			i := slices.IndexFunc(all, func(im Image) bool { return slices.Contains(im.Digests, want) })
			if i < 0 {
				return Image{}, missing
			}
			return all[i], nil
		}
		want := reference.TagNameOnly(named).String()
		if i := slices.IndexFunc(all, func(im Image) bool { return slices.Contains(im.Names, want) }); i >= 0 {
			return all[i], nil
		}
	} else if !isIDPrefix(ref) {
		return Image{}, &fault.Error{Class: fault.Invalid, Op: "find image", On: ref, Err: err}
	}
	if !isIDPrefix(ref) {
		return Image{}, missing
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	var hits []Image
	for _, im := range all {
		if strings.HasPrefix(im.ID.Encoded(), prefix) {
			hits = append(hits, im)
		}
	}
	switch len(hits) {
	case 0:
		return Image{}, missing
	case 1:
		return hits[0], nil
	}
	return Image{}, &fault.Error{Class: fault.Invalid, Op: "find image", On: ref, Err: errors.New("several image IDs begin so"), Fix: "give more of the ID"}
}

func isIDPrefix(ref string) bool {
	hex := strings.TrimPrefix(ref, "sha256:")
	return hex != "" && len(hex) <= 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// byID reports whether ref means im by its ID and not by one of its names.
func byID(im Image, ref string) bool {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		if c, ok := named.(reference.Canonical); ok {
			return !slices.Contains(im.Digests, reference.TrimNamed(c).Name()+"@"+c.Digest().String())
		}
		return !slices.Contains(im.Names, reference.TagNameOnly(named).String())
	}
	return true
}
