// Command sampan turns a machine into a container cloud: its own container
// engine and its own Kubernetes in one program.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build (see Makefile).
var version = "dev"

func main() {
	// A command lives for moments: its garbage is collected only when there is
	// much of it. "up" sets this back.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(256 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	g := newGlobals()
	code, say := 0, false
	if err := newRootCommand(g).ExecuteContext(ctx); err != nil {
		if code, say = codeOf(err); say {
			fmt.Fprintln(g.err, "sampan:", err)
		}
	}
	os.Exit(code)
}

func newRootCommand(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:           "sampan",
		Short:         "A container cloud in one program",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	g.addTo(root)
	root.AddCommand(platformCommands(g)...)
	root.AddCommand(engineCommands(g)...)
	return root
}
