package main

import (
	"errors"
	"os"
)

// finitModule: the machine is an amd64 one.
func finitModule(*os.File) error { return errors.ErrUnsupported }
