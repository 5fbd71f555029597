//go:build !split

package main

import (
	"os"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	kubectl "k8s.io/kubectl/pkg/cmd"

	"sampan/bootstrap"
)

func newKubectlCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [command]",
		Short:              "The Kubernetes command line, ready for this platform",
		Long:               "Kubectl is upstream's command, with the kubeconfig of this platform unless KUBECONFIG or --kubeconfig says otherwise.",
		Example:            "  sampan kubectl get pods -A",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			args = g.leading(args)
			flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50)
			if os.Getenv("KUBECONFIG") == "" {
				path := "/etc/sampan/kubeconfig"
				if r, err := bootstrap.ReadRecord(g.Run); err == nil {
					path = r.Kubeconfig
				}
				if _, err := os.Stat(path); err == nil {
					os.Setenv("KUBECONFIG", path)
				}
			}
			k := kubectl.NewKubectlCommand(kubectl.KubectlOptions{
				Arguments:   append([]string{"kubectl"}, args...),
				ConfigFlags: flags,
				IOStreams:   genericiooptions.IOStreams{In: g.in, Out: g.out, ErrOut: g.err},
			})
			k.SetArgs(args)
			if k.ExecuteContext(cmd.Context()) != nil {
				return exitCode{code: 1} // it has said why
			}
			return nil
		},
	}
}
