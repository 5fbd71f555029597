//go:build !split

package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sampan/bootstrap"
)

func newStatusCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "What runs, since when, and what it costs",
		Long: `Status says what runs, since when, and the memory and CPU time of all
processes of the program, monitors included.

Exit codes: 0 it is running, 3 it is not, 1 an error.`,
		Example: "  sampan status\n  sampan status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := bootstrap.StatusOf(cmd.Context(), g.State, g.Run)
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(g.out)
				enc.SetIndent("", "  ")
				err = enc.Encode(s)
			} else {
				err = printStatus(g, s)
			}
			if err == nil && !s.Running {
				return exitCode{code: 3}
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for all figures")
	return cmd
}

func printStatus(g *globals, s bootstrap.Status) error {
	if s.Running {
		fmt.Fprintf(g.out, "sampan %s is running: process %d, since %s (%s)\n", s.Version, s.PID,
			s.Started.Local().Format(time.DateTime), time.Since(s.Started).Round(time.Second))
		fmt.Fprintf(g.out, "node %s, API %s", s.Node, s.Server)
		if s.Kubeconfig != "" { // a node that joined has none
			fmt.Fprintf(g.out, ", kubeconfig %s", s.Kubeconfig)
		}
		fmt.Fprint(g.out, "\n\n")
	} else {
		fmt.Fprintln(g.out, "sampan is not running (start it with: sampan up)")
	}
	w := tabwriter.NewWriter(g.out, 0, 4, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tPROCESSES\tRSS MB\tPRIVATE MB\tCPU s\t")
	for _, row := range []struct {
		name string
		u    bootstrap.Usage
	}{{"program", s.Program}, {"monitors", s.Monitors}, {"all", s.All}} {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.2f\t\n", row.name, row.u.Processes, mb(row.u.RSS), mb(row.u.Private), row.u.CPU.Seconds())
	}
	return w.Flush()
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }
