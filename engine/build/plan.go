package build

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"sampan/internal/fault"
)

// stage is one FROM and what follows it, variables still in place.
type stage struct {
	index int
	name  string // lower case, or empty
	base  string // image, "scratch", or the name or number of an earlier stage
	from  int    // index of that earlier stage, or -1
	line  int
	steps []step
}

// step is one instruction.
type step struct {
	line int
	text string // as written
	cmd  instructions.Command
}

// planned is a Dockerfile, compiled.
type planned struct {
	stages []stage
	global map[string]string // ARGs before the first FROM
	escape rune
}

// plan compiles a Dockerfile. It refuses at once whatever a later step would
// fail on, so that no build runs for minutes into an unknown instruction.
func plan(file []byte, name, target string, args map[string]string) (p planned, err error) {
	none := planned{}
	bad := func(line int, err error, fix string) error {
		return &fault.Error{Class: fault.Invalid, Op: "read Dockerfile", On: name + ":" + strconv.Itoa(line), Err: err, Fix: fix}
	}
	res, err := parser.Parse(bytes.NewReader(file))
	if err != nil {
		return none, bad(errorLine(err), err, "")
	}
	for _, n := range res.AST.Children {
		word := strings.ToUpper(n.Value)
		if !known(word) {
			return none, bad(n.StartLine, errors.New("instruction "+word+" is not supported"), "sampan build knows FROM COPY RUN ENV WORKDIR USER EXPOSE LABEL ENTRYPOINT CMD ARG")
		}
		if len(n.Heredocs) > 0 {
			return none, bad(n.StartLine, errors.New(word+" with a here-document is not supported"), "write the lines with && or copy a file")
		}
	}
	parsed, metaArgs, err := instructions.Parse(res.AST, nil)
	if err != nil {
		return none, bad(errorLine(err), err, "")
	}
	lex := shell.NewLex(res.EscapeToken)
	global := map[string]string{}
	for _, m := range metaArgs {
		for _, a := range m.Args {
			if err := declare(lex, a, global, args); err != nil {
				return none, bad(lineOf(m.Location()), err, "")
			}
		}
	}
	var out []stage
	for i, from := range parsed {
		s := stage{index: i, name: from.Name, from: -1, line: lineOf(from.Location)}
		if from.Platform != "" {
			return none, bad(s.line, errors.New("FROM --platform is not supported"), "leave it out: images are built for this machine")
		}
		got, err := lex.ProcessWordWithMatches(from.BaseName, envs(global))
		if err != nil {
			return none, bad(s.line, err, "")
		}
		if s.base = got.Result; s.base == "" {
			return none, bad(s.line, errors.New("FROM "+from.BaseName+" names no image"), "give the variable a value with --build-arg, or a default")
		}
		s.from = find(out, s.base, i)
		for _, c := range from.Commands {
			st := step{line: lineOf(c.Location()), cmd: c, text: fmt.Sprint(c)}
			if err := supported(c); err != nil {
				return none, bad(st.line, err, "")
			}
			s.steps = append(s.steps, st)
		}
		out = append(out, s)
	}
	if target == "" {
		return planned{out, global, res.EscapeToken}, nil
	}
	t := find(out, target, len(out))
	if t < 0 {
		return none, &fault.Error{Class: fault.Invalid, Op: "read Dockerfile", On: name, Err: errors.New("target stage " + target + " could not be found")}
	}
	return planned{out[:t+1], global, res.EscapeToken}, nil
}

func known(word string) bool {
	switch word {
	case "FROM", "COPY", "RUN", "ENV", "WORKDIR", "USER", "EXPOSE", "LABEL", "ENTRYPOINT", "CMD", "ARG":
		return true
	}
	return false
}

// supported refuses flags that nothing acts on.
func supported(c instructions.Command) error {
	switch c := c.(type) {
	case *instructions.RunCommand:
		if len(c.FlagsUsed) > 0 {
			return errors.New("RUN --" + c.FlagsUsed[0] + " is not supported")
		}
	case *instructions.CopyCommand:
		if c.Link || c.Parents || len(c.ExcludePatterns) > 0 {
			return errors.New("COPY knows the flags --from, --chown and --chmod only")
		}
	}
	return nil
}

// find gives the stage before limit that name or number ref means, or -1.
func find(stages []stage, ref string, limit int) int {
	for _, s := range stages {
		if s.index < limit && (s.name != "" && strings.EqualFold(s.name, ref) || strconv.Itoa(s.index) == ref) {
			return s.index
		}
	}
	return -1
}

// declare gives an ARG its value: from the command line, or its default.
func declare(lex *shell.Lex, a instructions.KeyValuePairOptional, scope, given map[string]string) error {
	if v, ok := given[a.Key]; ok {
		scope[a.Key] = v
		return nil
	}
	if a.Value == nil {
		return nil
	}
	got, err := lex.ProcessWordWithMatches(*a.Value, envs(scope))
	if err != nil {
		return err
	}
	scope[a.Key] = got.Result
	return nil
}

// needed tells which stages the last one is made of.
func needed(stages []stage) map[int]bool {
	need := map[int]bool{len(stages) - 1: true}
	for i := len(stages) - 1; i >= 0; i-- {
		if !need[i] {
			continue
		}
		if stages[i].from >= 0 {
			need[stages[i].from] = true
		}
		for _, st := range stages[i].steps {
			if c, ok := st.cmd.(*instructions.CopyCommand); ok && c.From != "" {
				if j := find(stages, c.From, i); j >= 0 {
					need[j] = true
				}
			}
		}
	}
	return need
}

func lineOf(r []parser.Range) int {
	if len(r) == 0 {
		return 0
	}
	return r[0].Start.Line
}

func errorLine(err error) int {
	var loc *parser.LocationError
	if errors.As(err, &loc) && len(loc.Locations) > 0 {
		return lineOf(loc.Locations[0])
	}
	return 1
}

// envs is a scope as the library wants it.
type envs map[string]string

func (e envs) Get(k string) (string, bool) { v, ok := e[k]; return v, ok }
func (e envs) Keys() []string {
	keys := make([]string, 0, len(e))
	for k := range e {
		keys = append(keys, k)
	}
	return keys
}
