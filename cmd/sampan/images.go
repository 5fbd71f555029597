package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"sampan/engine/image"
)

func newImagesCommand(g *globals) *cobra.Command {
	var quiet, noTrunc bool
	var output string
	cmd := &cobra.Command{
		Use:     "images",
		Short:   "List images",
		Example: "  sampan images",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			list, err := e.Images.List(cmd.Context())
			if err != nil {
				return err
			}
			id := func(img image.Image) string {
				if noTrunc {
					return img.ID.String()
				}
				return img.ID.Encoded()[:12]
			}
			switch {
			case output == "json":
				out := make([]any, len(list))
				for i, img := range list {
					out[i] = imageView(img)
				}
				enc := json.NewEncoder(g.out)
				enc.SetIndent("", "    ")
				return enc.Encode(out)
			case quiet:
				for _, img := range list {
					fmt.Fprintln(g.out, id(img))
				}
				return nil
			}
			w := tabwriter.NewWriter(g.out, 10, 1, 3, ' ', 0)
			fmt.Fprintln(w, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE")
			for _, img := range list {
				created := "N/A"
				if img.Config.Created != nil {
					created = units.HumanDuration(time.Since(*img.Config.Created)) + " ago"
				}
				names := img.Names
				if len(names) == 0 {
					names = []string{""}
				}
				for _, n := range names {
					repo, tag := familiar(n)
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", repo, tag, id(img), created, units.HumanSizeWithPrecision(float64(img.Size), 3))
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only IDs")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// familiar is a name as users write it: without docker.io/library.
func familiar(name string) (repo, tag string) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "<none>", "<none>"
	}
	tag = "<none>"
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	return reference.FamiliarName(named), tag
}

func familiarName(name string) string {
	repo, tag := familiar(name)
	return strings.TrimSuffix(repo+":"+tag, ":<none>")
}
