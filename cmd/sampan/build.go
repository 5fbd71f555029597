package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sampan/engine/build"
	"sampan/engine/image"
)

func newBuildCommand(g *globals) *cobra.Command {
	var r build.Request
	var args []string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "build [flags] CONTEXT",
		Short:   "Build an image from a Dockerfile",
		Example: "  sampan build -t hello .\n  sampan build -t hello -f docker/Dockerfile .",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, argv []string) error {
			var err error
			r.Context, r.Output = argv[0], g.err
			if r.Args, err = pairs("--build-arg", args); err != nil {
				return err
			}
			if v := os.Getenv("SOURCE_DATE_EPOCH"); v != "" {
				n, err := strconv.ParseInt(v, 10, 64)
				if err != nil {
					return usage("SOURCE_DATE_EPOCH %s: want seconds since 1970", v)
				}
				r.Created = time.Unix(n, 0)
			}
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			b, err := e.Builder()
			if err != nil {
				return err
			}
			r.Pull = func(ctx context.Context, ref string) (image.Image, error) {
				return e.Images.Pull(ctx, ref, image.PullOptions{Progress: progress(g.err)})
			}
			img, err := b.Build(cmd.Context(), r)
			if err != nil {
				return err
			}
			if quiet {
				_, err = g.out.Write([]byte(img.ID.String() + "\n"))
			}
			return err
		},
	}
	s := cmd.Flags()
	s.StringArrayVarP(&r.Tags, "tag", "t", nil, "name of the result")
	s.StringVarP(&r.Dockerfile, "file", "f", "", "Dockerfile (default: CONTEXT/Dockerfile)")
	s.StringArrayVar(&args, "build-arg", nil, "value of an ARG: NAME=VALUE")
	s.StringVar(&r.Target, "target", "", "stage to build")
	s.BoolVar(&r.NoCache, "no-cache", false, "do not use the cache")
	s.BoolVarP(&quiet, "quiet", "q", false, "print the image's ID")
	return cmd
}
