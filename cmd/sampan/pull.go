package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"sampan/engine"
	"sampan/engine/image"
)

func newPullCommand(g *globals) *cobra.Command {
	var quiet bool
	var platform, creds string
	cmd := &cobra.Command{
		Use:     "pull [flags] IMAGE",
		Short:   "Fetch an image from a registry",
		Example: "  sampan pull nginx:1.29\n  sampan pull localhost:5000/hello",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			o := image.PullOptions{}
			if !quiet {
				o.Progress = progress(g.err)
			}
			if platform != "" {
				p := strings.Split(platform, "/")
				if len(p) < 2 || len(p) > 3 {
					return usage("--platform %s: want OS/ARCH[/VARIANT]", platform)
				}
				o.Platform = &ocispec.Platform{OS: p[0], Architecture: p[1]}
				if len(p) == 3 {
					o.Platform.Variant = p[2]
				}
			}
			if creds != "" {
				var ok bool
				if o.Auth.Username, o.Auth.Password, ok = strings.Cut(creds, ":"); !ok {
					return usage("--creds: want USER:PASSWORD")
				}
			}
			img, err := e.Images.Pull(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			if len(img.Digests) > 0 && !quiet {
				_, d, _ := strings.Cut(img.Digests[0], "@")
				fmt.Fprintln(g.out, "Digest: "+d)
			}
			_, err = fmt.Fprintln(g.out, args[0])
			return err
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show progress")
	cmd.Flags().StringVar(&platform, "platform", "", "platform of an image that has several")
	cmd.Flags().StringVar(&creds, "creds", "", "credentials: USER:PASSWORD")
	return cmd
}

// pull fetches what run and build miss.
func (g *globals) pull(ctx context.Context, e *engine.Engine, ref string, w io.Writer) error {
	_, err := e.Images.Pull(ctx, ref, image.PullOptions{Progress: progress(w)})
	return err
}
