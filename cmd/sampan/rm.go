package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sampan/internal/fault"
)

func newRmCommand(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] CONTAINER...",
		Short:   "Remove containers",
		Example: "  sampan rm -f web",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			return each(args, func(ref string) error {
				err := e.Remove(cmd.Context(), ref, force)
				if force && fault.ClassOf(err) == fault.NotFound {
					fmt.Fprintf(g.err, "sampan: %v\n", err)
					return nil
				}
				if err == nil {
					_, err = fmt.Fprintln(g.out, ref)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that run")
	return cmd
}
