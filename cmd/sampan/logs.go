package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sampan/engine"
)

func newLogsCommand(g *globals) *cobra.Command {
	var o engine.LogOptions
	var tail, since, until string
	cmd := &cobra.Command{
		Use:     "logs [flags] CONTAINER",
		Short:   "Show what a container put out",
		Example: "  sampan logs -f --tail 10 web\n  sampan logs --since 10m web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Tail = -1
			if tail != "all" {
				n, err := strconv.Atoi(tail)
				if err != nil {
					return usage("--tail %s: want a number or all", tail)
				}
				o.Tail = n
			}
			var err error
			if o.Since, err = moment("--since", since); err != nil {
				return err
			}
			if o.Until, err = moment("--until", until); err != nil {
				return err
			}
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			return e.Logs(cmd.Context(), args[0], o, g.out, g.err)
		},
	}
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on until the container ends")
	cmd.Flags().BoolVarP(&o.Timestamps, "timestamps", "t", false, "show when each line was written")
	cmd.Flags().StringVarP(&tail, "tail", "n", "all", "number of lines from the end")
	cmd.Flags().StringVar(&since, "since", "", "only what is newer: a time (RFC 3339, Unix) or a duration (10m)")
	cmd.Flags().StringVar(&until, "until", "", "only what is older")
	return cmd
}

// moment reads a time or how long ago it was.
func moment(flag, v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(v); err == nil {
		return time.Now().Add(-d), nil
	}
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		return time.Unix(0, int64(n*float64(time.Second))), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("%s %s: want a time such as 2026-01-02T15:04:05Z or a duration such as 10m", flag, v)
}
