package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newExplainCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "explain", Short: "Show what was done to make something, step by step"}
	cmd.AddCommand(&cobra.Command{
		Use:     "container NAME",
		Short:   "Print the system calls that started a container, in order",
		Example: "  sampan explain container web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			text, err := e.Explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(g.out, text)
			return err
		},
	})
	return cmd
}
