package bootstrap

import (
	"context"

	"sampan/internal/fault"
)

// Why asks the deciders about one object of the running program.
func Why(ctx context.Context, r Record, kind, namespace, name string) ([]string, error) {
	return nil, &fault.Error{Class: fault.Unavailable, Op: "ask why", On: kind + " " + namespace + "/" + name}
}
