//go:build !split

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sampan/bootstrap"
	"sampan/engine"
	"sampan/internal/fault"
)

func newDownCommand(g *globals) *cobra.Command {
	var stopPods bool
	cmd := &cobra.Command{
		Use:   "down [flags]",
		Short: "Stop the platform; containers go on unless --stop-pods is given",
		Long: `Down stops the program that "sampan up" started. Containers go on running, and
the next up takes them over without a restart. With --stop-pods they are
stopped too.

Exit codes: 0 it is stopped (or was not running), 1 an error.`,
		Example: "  sampan down\n  sampan down --stop-pods",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := newSteps(g.err)
			r, err := bootstrap.Running(g.State, g.Run)
			switch {
			case fault.ClassOf(err) == fault.NotFound:
				fmt.Fprintln(g.out, "sampan is not running")
			case err != nil:
				return err
			default:
				p.say("stopping process %d", r.PID)
				ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
				defer cancel()
				if err := bootstrap.Stop(ctx, r); err != nil {
					return err
				}
				fmt.Fprintln(g.out, "sampan is down")
			}
			if !stopPods {
				return nil
			}
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			list, err := e.Sandboxes(cmd.Context())
			if err != nil {
				return err
			}
			p.say("stopping %d pods", len(list))
			var all errgroup.Group
			for _, s := range list {
				all.Go(func() error { return stopGently(cmd.Context(), e, s) })
			}
			if err := all.Wait(); err != nil {
				return err
			}
			fmt.Fprintf(g.out, "%d pods are stopped\n", len(list))
			return nil
		},
	}
	cmd.Flags().BoolVar(&stopPods, "stop-pods", false, "stop all containers as well")
	return cmd
}

// stopGently asks the containers of a pod to end, and kills those that do not
// within their time.
func stopGently(ctx context.Context, e *engine.Engine, s engine.Sandbox) error {
	list, err := e.ContainersOf(ctx, s.ID)
	if err != nil {
		return err
	}
	var all errgroup.Group
	for _, c := range list {
		all.Go(func() error { return e.Stop(ctx, c.ID, -1) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return e.StopSandbox(ctx, s.ID)
}
