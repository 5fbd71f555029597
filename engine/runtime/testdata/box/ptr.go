package main

import "unsafe"

func ptr(p *[4]uint16) uintptr { return uintptr(unsafe.Pointer(p)) }
