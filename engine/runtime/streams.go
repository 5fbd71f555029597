package runtime

import "io"

// Size of a terminal in characters.
type Size struct{ Width, Height uint16 }

// Streams connects a caller to a process. A nil field is not connected. Resize
// may be nil; it is read until it is closed or the session ends.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}
