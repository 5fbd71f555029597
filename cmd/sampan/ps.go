package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"sampan/engine"
)

func newPsCommand(g *globals) *cobra.Command {
	var all, quiet, noTrunc bool
	var output string
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List containers",
		Example: "  sampan ps -a",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			list, err := e.List(cmd.Context())
			if err != nil {
				return err
			}
			shown := list[:0]
			for _, c := range list {
				if all || c.Status.State == engine.Running {
					shown = append(shown, c)
				}
			}
			if output == "json" {
				enc := json.NewEncoder(g.out)
				enc.SetIndent("", "    ")
				out := make([]any, len(shown))
				for i, c := range shown {
					out[i] = containerView(e, c)
				}
				return enc.Encode(out)
			}
			id := func(s string) string {
				if noTrunc {
					return s
				}
				return s[:12]
			}
			if quiet {
				for _, c := range shown {
					fmt.Fprintln(g.out, id(c.ID))
				}
				return nil
			}
			w := tabwriter.NewWriter(g.out, 10, 1, 3, ' ', 0)
			fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES")
			now := time.Now()
			for _, c := range shown {
				entrypoint, argv := c.Config.Entrypoint, c.Config.Command
				if img, err := e.Images.Get(cmd.Context(), c.Image); err == nil && len(entrypoint) == 0 {
					entrypoint = img.Config.Config.Entrypoint
					if len(argv) == 0 {
						argv = img.Config.Config.Cmd
					}
				}
				command := strings.Join(slices.Concat(entrypoint, argv), " ")
				if len(command) > 20 && !noTrunc {
					command = command[:19] + "…"
				}
				fmt.Fprintf(w, "%s\t%s\t%q\t%s ago\t%s\t\t%s\n", id(c.ID), c.Config.Image, command,
					units.HumanDuration(now.Sub(c.Created)), statusText(c.Status, now), c.Config.Name)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that are not running")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only IDs")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// statusText is docker ps's.
func statusText(s engine.Status, now time.Time) string {
	switch s.State {
	case engine.Running:
		return "Up " + units.HumanDuration(now.Sub(s.Started))
	case engine.Created:
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.Finished)))
}
