package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newStopCommand(g *globals) *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:     "stop [flags] CONTAINER...",
		Short:   "Ask containers to end, and kill those that do not",
		Example: "  sampan stop -t 3 web",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			e, err := g.engine(ctx)
			if err != nil {
				return err
			}
			defer e.Close()
			return each(args, func(ref string) error {
				id, err := e.Resolve(ref)
				if err != nil {
					return err
				}
				if err := e.Stop(ctx, id, time.Duration(timeout)*time.Second); err != nil {
					return err
				}
				if err := e.Settle(context.WithoutCancel(ctx), id); err != nil {
					return err
				}
				_, err = fmt.Fprintln(g.out, ref)
				return err
			})
		},
	}
	cmd.Flags().IntVarP(&timeout, "time", "t", -1, "seconds to wait before killing (default: the container's, or 10)")
	return cmd
}

// newSettleCommand is what a monitor runs when a detached container has ended.
func newSettleCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:    "settle ID",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			return e.Settle(cmd.Context(), args[0])
		},
	}
}
