package engine

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"sampan/engine/image"
)

func (e *Engine) openImages() (err error) {
	e.Images, err = image.Open(image.Config{Dir: e.path("images"), Snapshots: e.Snapshots, Log: e.log, Mirrors: e.config.Mirrors, InUse: e.imageUsers})
	return err
}

// imageUsers names the containers that stand on an image.
func (e *Engine) imageUsers(ctx context.Context, id digest.Digest) ([]string, error) {
	ids, err := e.ids("containers")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, cid := range ids {
		c, err := e.container(cid)
		uses := c.Image == id.String() || slices.ContainsFunc(c.Config.Mounts, func(m Mount) bool { return m.Type == "image" && m.Source == id.String() })
		if err == nil && uses {
			name := short(cid)
			if c.Config.Name != "" {
				name = c.Config.Name
			}
			out = append(out, "container "+name)
		}
	}
	return out, nil
}
