//go:build !split

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sampan/bootstrap"
)

func newWhyCommand(g *globals) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "why KIND NAME",
		Short: "What the deciders say about an object that is not as wanted",
		Long: `Why asks those who decide (scheduler, deployment, replica set, pod lifecycle)
about one object, and prints their reasons.`,
		Example: "  sampan why pod web-0\n  sampan why deployment web -n shop",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := bootstrap.Running(g.State, g.Run)
			if err != nil {
				return err
			}
			lines, err := bootstrap.Why(cmd.Context(), r, args[0], namespace, args[1])
			if err != nil {
				return err
			}
			for _, l := range lines {
				fmt.Fprintln(g.out, l)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "default", "the object's namespace")
	return cmd
}
