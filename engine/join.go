package engine

import "strings"

// join is an error together with what went wrong in cleaning up after it. It
// has the first one's class, which errors.Join would hide.
func join(err error, more ...error) error {
	var rest []error
	for _, e := range more {
		switch {
		case e == nil:
		case err == nil:
			err = e
		default:
			rest = append(rest, e)
		}
	}
	if len(rest) == 0 {
		return err
	}
	return joined{err, rest}
}

type joined struct {
	first error
	rest  []error
}

func (j joined) Error() string {
	var b strings.Builder
	b.WriteString(j.first.Error())
	for _, e := range j.rest {
		b.WriteString("; and in cleaning up: " + e.Error())
	}
	return b.String()
}

func (j joined) Unwrap() error { return j.first }
