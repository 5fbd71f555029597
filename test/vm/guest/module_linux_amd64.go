package main

import (
	"os"
	"syscall"
	"unsafe"
)

// finitModule is finit_module(2) with no parameters.
func finitModule(f *os.File) error {
	const number = 313
	none := [1]byte{}
	if _, _, e := syscall.Syscall(number, f.Fd(), uintptr(unsafe.Pointer(&none)), 0); e != 0 {
		return e
	}
	return nil
}
