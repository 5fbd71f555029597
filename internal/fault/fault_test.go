package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"sampan/internal/fault"
)

func TestAnErrorNamesTheThingAndTheFix(t *testing.T) {
	err := &fault.Error{
		Class: fault.NotFound, Op: "pull image", On: "nginx:1.99",
		Err: errors.New("manifest unknown"), Fix: "list tags with: sampan image tags nginx",
	}
	want := "pull image nginx:1.99: manifest unknown (list tags with: sampan image tags nginx)"
	if err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
}

func TestTheClassSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("start pod web-0: %w", &fault.Error{Class: fault.Unavailable, Op: "dial registry"})
	if got := fault.ClassOf(err); got != fault.Unavailable {
		t.Errorf("ClassOf = %v, want unavailable", got)
	}
}

func TestTheClassSurvivesJoining(t *testing.T) {
	missing := &fault.Error{Class: fault.NotFound, Op: "find container"}
	for _, err := range []error{
		errors.Join(errors.New("disk full"), missing),
		fmt.Errorf("reset: %w", errors.Join(missing, &fault.Error{Class: fault.Conflict, Op: "remove"})),
		errors.Join(&fault.Error{Op: "remove directory"}, errors.Join(missing)),
	} {
		if got := fault.ClassOf(err); got != fault.NotFound {
			t.Errorf("ClassOf(%v) = %v, want not found", err, got)
		}
	}
}
