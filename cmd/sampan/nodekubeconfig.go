//go:build !split

package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"sampan/bootstrap"
	"sampan/internal/durable"
)

func newNodeKubeconfigCommand(g *globals) *cobra.Command {
	var server, out string
	var ips []net.IP
	cmd := &cobra.Command{
		Use:   "node-kubeconfig NAME",
		Short: "Make the file with which another machine joins as a node",
		Long: `Node-kubeconfig signs keys for a node, and writes them with all else that the
other machine has to know into one file, a kubeconfig. Bring it there over a
channel that you trust, and give it to: sampan up --join FILE

Whoever has the file can be that node. The keys are good for a year; a new file
of the same name replaces it. The machines have to share a link: pods of other
nodes are reached through their nodes' addresses.

Exit codes: 0 the file is made, 1 an error.`,
		Example: "  sampan node-kubeconfig worker-1 --out worker-1.kubeconfig\n  ssh worker-1 sampan up --detach --join worker-1.kubeconfig",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := bootstrap.NewNodeFile(g.State, args[0], server, ips)
			if err != nil {
				return err
			}
			data, err := file.Encode()
			if err != nil {
				return err
			}
			if out == "" {
				_, err = g.out.Write(data)
				return err
			}
			if err := durable.WriteFile(out, data, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(g.out, "%s lets a machine join %s as node %s\n", out, file.Server, file.Node)
			return nil
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "URL of the API as the other machine reaches it (default: this node's address)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	cmd.Flags().IPSliceVar(&ips, "address", nil, "addresses of the node for its serving certificate, for clients other than the API server")
	return cmd
}
