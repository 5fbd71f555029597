//go:build !split

package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sampan/bootstrap"
	"sampan/internal/fault"
)

func newResetCommand(g *globals) *cobra.Command {
	var yes bool
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "reset [flags]",
		Short: "Remove everything that sampan ever made on this machine",
		Long: `Reset stops the platform and removes all that it made: containers, images,
API objects, mounts, control groups, links, routes, rules, files. Settings that
it changed are set back.

Exit codes: 0 all is gone, 1 something resists (which is named).`,
		Example: "  sampan reset --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				fmt.Fprintf(g.out, "This removes all containers, images and API objects kept in %s. Go on? [y/N] ", g.State)
				answer, _ := bufio.NewReader(g.in).ReadString('\n')
				if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
					return &fault.Error{Class: fault.Invalid, Op: "reset", On: g.State, Err: errors.New("not confirmed"), Fix: "answer y, or give --yes"}
				}
			}
			p := newSteps(g.err)
			if err := bootstrap.Reset(cmd.Context(), g.State, g.Run, kubeconfig, func(s string) { p.say("%s", s) }); err != nil {
				return err
			}
			fmt.Fprintln(g.out, "sampan has left this machine")
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "the kubeconfig to remove (default: the one that up wrote)")
	return cmd
}
