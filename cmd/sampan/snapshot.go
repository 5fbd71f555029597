//go:build !split

package main

import (
	"fmt"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"sampan/bootstrap"
	"sampan/cluster/store"
)

func newSnapshotCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the cluster's objects to a file, and go back to them",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newSnapshotSaveCommand(g), newSnapshotRestoreCommand(g))
	return cmd
}

func newSnapshotSaveCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE",
		Short: "Write all objects of the cluster to a file",
		Long: `Save writes the store as it is at this moment, while the platform runs or not.
The file is one of etcd's snapshots: etcdutl reads it. It has every secret of
the cluster in it; only its owner can read it.

Exit codes: 0 the file is whole, 1 there is none.`,
		Example: "  sampan snapshot save /backup/monday.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := bootstrap.SaveSnapshot(cmd.Context(), g.State, g.Run, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(g.out, "saved %s: %s, revision %d\n", args[0], units.HumanSize(float64(info.Bytes)), info.Revision)
			return nil
		},
	}
}

func newSnapshotRestoreCommand(g *globals) *cobra.Command {
	var c store.RestoreConfig
	cmd := &cobra.Command{
		Use:   "restore FILE [flags]",
		Short: "Make the store of the objects in a snapshot",
		Long: `Restore makes the store anew of a snapshot, of sampan's or of etcd's, while the
platform is down. A store that is there is kept under another name with --force.
Resource versions go on from a higher number, and clients that watch begin anew,
so that none takes what is now for what it saw before.

Exit codes: 0 restored, 1 nothing was changed.`,
		Example: "  sampan down\n  sampan snapshot restore --force /backup/monday.db\n  sampan up --detach",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.File = args[0]
			aside, err := bootstrap.RestoreSnapshot(g.State, g.Run, c)
			if err != nil {
				return err
			}
			fmt.Fprintf(g.out, "restored %s\n", args[0])
			if aside != "" {
				fmt.Fprintf(g.out, "what was there is in %s\n", aside)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&c.Force, "force", false, "move a store that is there aside")
	cmd.Flags().BoolVar(&c.SkipHashCheck, "skip-hash-check", false, "take a database that was copied out of a data directory")
	cmd.Flags().Int64Var(&c.Bump, "bump-revision", 1_000_000_000, "by how much resource versions go on: more than there were writes since the snapshot")
	return cmd
}
