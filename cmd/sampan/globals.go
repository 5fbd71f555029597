package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sampan/engine"
	"sampan/internal/fault"
)

// globals is what every subcommand may need.
type globals struct {
	State string // --state, SAMPAN_STATE
	Run   string // --run, SAMPAN_RUN
	in    *os.File
	out   io.Writer
	err   io.Writer
}

func newGlobals() *globals {
	g := &globals{State: "/var/lib/sampan", Run: "/run/sampan", in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if v := os.Getenv("SAMPAN_STATE"); v != "" {
		g.State = v
	}
	if v := os.Getenv("SAMPAN_RUN"); v != "" {
		g.Run = v
	}
	return g
}

// addTo puts the flags on the root command.
func (g *globals) addTo(root *cobra.Command) {
	root.PersistentFlags().StringVar(&g.State, "state", g.State, "directory of what survives a reboot (SAMPAN_STATE)")
	root.PersistentFlags().StringVar(&g.Run, "run", g.Run, "directory of sockets and mounts (SAMPAN_RUN)")
}

// leading takes the program's own flags off the front of the arguments of a
// command that parses its flags itself, and heeds them.
func (g *globals) leading(args []string) []string {
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		to := map[string]*string{"--state": &g.State, "--run": &g.Run}[name]
		switch {
		case to == nil:
			return args
		case joined:
			*to, args = value, args[1:]
		case len(args) > 1:
			*to, args = args[1], args[2:]
		default:
			return args
		}
	}
	return args
}

// engine opens the engine in this process: commands need no daemon.
func (g *globals) engine(ctx context.Context) (*engine.Engine, error) {
	return engine.Open(ctx, engine.Config{State: g.State, Run: g.Run, Self: []string{executable(), "--state", g.State, "--run", g.Run},
		Log: slog.New(slog.NewTextHandler(g.err, &slog.HandlerOptions{Level: slog.LevelWarn}))})
}

// exitCode ends the program with a code and says nothing more than err, which
// may be nil.
type exitCode struct {
	code int
	err  error
}

func (e exitCode) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return fmt.Sprintf("exit code %d", e.code)
}

func (e exitCode) Unwrap() error { return e.err }

// codeOf is the program's exit code for what a command returned, and whether
// the error is to be printed.
func codeOf(err error) (code int, say bool) {
	var x exitCode
	switch {
	case err == nil:
		return 0, false
	case errors.As(err, &x):
		return x.code, x.err != nil
	}
	return 1, true
}

// engineCommands are the commands that need the engine only.
func engineCommands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(g), newPsCommand(g), newLogsCommand(g), newExecCommand(g), newStopCommand(g), newRmCommand(g),
		newImagesCommand(g), newRmiCommand(g), newLoadCommand(g), newPullCommand(g), newBuildCommand(g),
		newInspectCommand(g), newExplainCommand(g), newSettleCommand(g),
	}
}

// each calls fn with every argument, goes on after errors, and joins them.
func each(args []string, fn func(string) error) error {
	var errs []error
	for _, a := range args {
		errs = append(errs, fn(a))
	}
	return errors.Join(errs...)
}

func usage(format string, a ...any) error {
	return exitCode{125, &fault.Error{Class: fault.Invalid, Op: "read flags", Err: fmt.Errorf(format, a...)}}
}

// selfVariable names the program that the user started, where that is not the
// one that runs (see split.go).
const selfVariable = "SAMPAN_SELF"

// executable is this program, for starting it again.
func executable() string {
	if self := os.Getenv(selfVariable); self != "" {
		return self
	}
	if self, err := os.Executable(); err == nil {
		return self
	}
	return "/proc/self/exe"
}
