package admission

import (
	"errors"
	"fmt"
	"slices"

	"sampan/internal/fault"
)

// Named is admission under the name that upstream has for it. Several plugins
// may share a name, and go on and off together.
type Named struct {
	Name   string              // empty: always on, for it is a part of the kinds that it is about
	On     bool                // unless it is disabled
	Plugin func() (any, error) // nil: upstream has it, this program has not
}

// Select makes the plugins of a table that are on, in the table's order: those
// that are by default, without the disabled, with the enabled.
// (Upstream: AdmissionOptions.Validate and enabledPluginNames.)
func Select(table []Named, enable, disable []string) ([]Member, error) {
	known := func(flag string, names []string) error {
		for _, name := range names {
			if name == "" || !slices.ContainsFunc(table, func(n Named) bool { return n.Name == name }) {
				return &fault.Error{Class: fault.Invalid, Op: "configure admission", On: "--" + flag,
					Err: fmt.Errorf("%s plugin %q is unknown", flag, name), Fix: "the plugins are: " + listed(table)}
			}
		}
		return nil
	}
	if err := known("enable-admission-plugins", enable); err != nil {
		return nil, err
	}
	if err := known("disable-admission-plugins", disable); err != nil {
		return nil, err
	}
	for _, name := range enable {
		if slices.Contains(disable, name) {
			return nil, &fault.Error{Class: fault.Invalid, Op: "configure admission", On: name,
				Err: fmt.Errorf("[%s] in enable-admission-plugins and disable-admission-plugins overlapped", name)}
		}
	}
	var all []Member
	for _, n := range table {
		on := n.Name == "" || n.On && !slices.Contains(disable, n.Name) || slices.Contains(enable, n.Name)
		if !on {
			continue
		}
		if n.Plugin == nil {
			return nil, &fault.Error{Class: fault.Invalid, Op: "enable admission plugin", On: n.Name, Err: errors.New("this program does not have it"),
				Fix: "leave it out of --enable-admission-plugins"}
		}
		p, err := n.Plugin()
		if err != nil {
			return nil, err
		}
		all = append(all, Member{n.Name, p})
	}
	return all, nil
}

// listed are the names in a table, for people.
func listed(table []Named) (text string) {
	for i, n := range table {
		if n.Name == "" || slices.ContainsFunc(table[:i], func(before Named) bool { return before.Name == n.Name }) {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += n.Name
	}
	return text
}
