package main

import (
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sampan/engine"
	"sampan/engine/runtime"
)

func newExecCommand(g *globals) *cobra.Command {
	var x engine.Exec
	var interactive bool
	var env []string
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a running container",
		Example: "  sampan exec -it web sh\n\n" +
			"Exit codes: the command's; 126 it cannot be run, 127 it is not there, 1 sampan itself failed",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var err error
			if x.Env, err = environment(env, nil); err != nil {
				return err
			}
			x.Args = args[1:]
			if x.TTY && interactive && !term.IsTerminal(int(g.in.Fd())) {
				return exitCode{1, errors.New("the input device is not a TTY")}
			}
			e, err := g.engine(ctx)
			if err != nil {
				return err
			}
			defer e.Close()
			s := runtime.Streams{Stdout: g.out, Stderr: g.err}
			if interactive {
				s.Stdin = g.in
			}
			if x.TTY {
				s.Stderr = nil
				restore, sizes, err := g.terminal(ctx)
				if err != nil {
					return err
				}
				defer restore()
				s.Resize = sizes
			}
			exit, err := e.Exec(ctx, args[0], x, s)
			if err != nil {
				if code, ok := runtime.ExitCodeOf(err); ok {
					return exitCode{code, err}
				}
				return err
			}
			if exit.Code != 0 {
				return exitCode{code: exit.Code}
			}
			return nil
		},
	}
	s := cmd.Flags()
	s.SetInterspersed(false)
	s.BoolVarP(&interactive, "interactive", "i", false, "pass on standard input")
	s.BoolVarP(&x.TTY, "tty", "t", false, "allocate a terminal")
	s.StringArrayVarP(&env, "env", "e", nil, "set an environment variable")
	s.StringVarP(&x.User, "user", "u", "", "user name or ID, optionally :group")
	s.StringVarP(&x.WorkingDir, "workdir", "w", "", "working directory")
	s.BoolVar(&x.Privileged, "privileged", false, "give all capabilities")
	return cmd
}
