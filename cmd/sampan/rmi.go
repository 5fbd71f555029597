package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRmiCommand(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rmi [flags] IMAGE...",
		Short:   "Remove names of images, and images without names",
		Example: "  sampan rmi nginx:1.29",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			return each(args, func(ref string) error {
				done, err := e.Images.Remove(cmd.Context(), ref, force)
				for _, n := range done.Untagged {
					fmt.Fprintln(g.out, "Untagged: "+familiarName(n))
				}
				for _, d := range done.Deleted {
					fmt.Fprintln(g.out, "Deleted: "+d.String())
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove all names of an image given by its ID")
	return cmd
}
