package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sampan/engine/image"
	"sampan/internal/fault"
)

func newLoadCommand(g *globals) *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "load [flags]",
		Short:   "Load images from an archive made by docker save or in OCI layout",
		Example: "  sampan load -i hello.tar\n  docker save hello | sampan load",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var r io.Reader = g.in
			if input != "" && input != "-" {
				f, err := os.Open(input)
				if err != nil {
					return &fault.Error{Class: fault.Invalid, Op: "load images from", On: input, Err: errors.Unwrap(err)}
				}
				defer f.Close()
				r = f
			} else if term.IsTerminal(int(g.in.Fd())) {
				return usage("nothing to read: give an archive with -i, or on standard input")
			}
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			var show func(image.Progress)
			if !quiet {
				show = progress(g.err)
			}
			list, err := e.Images.Load(cmd.Context(), r, show)
			for _, img := range list {
				if len(img.Names) == 0 {
					fmt.Fprintln(g.out, "Loaded image ID: "+img.ID.String())
				}
				for _, n := range img.Names {
					fmt.Fprintln(g.out, "Loaded image: "+familiarName(n))
				}
			}
			if err != nil && input != "" && input != "-" {
				return fmt.Errorf("load images from %s: %w", input, err)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "archive to read (default: standard input)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show progress")
	return cmd
}

// progress prints a line each time a layer gets into another phase.
func progress(w io.Writer) func(image.Progress) {
	last := map[string]image.Phase{}
	return func(p image.Progress) {
		key := p.Layer.String()
		if last[key] == p.Phase {
			return
		}
		last[key] = p.Phase
		what := p.Image
		if p.Layer != "" && len(p.Layer.Encoded()) >= 12 {
			what = p.Layer.Encoded()[:12]
		}
		fmt.Fprintf(w, "%s: %s\n", what, p.Phase)
	}
}
