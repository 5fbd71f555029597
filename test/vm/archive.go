package vm

import (
	"bytes"
	"fmt"
)

// archive is a cpio archive in the format an initrd has ("newc": kernel
// documentation, early-userspace/buffer-format).
type archive struct {
	b bytes.Buffer
	n int
}

func (a *archive) add(name string, mode int, data []byte) {
	a.n++
	fmt.Fprintf(&a.b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", a.n, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.b.WriteString(name)
	a.b.WriteByte(0)
	a.pad()
	a.b.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

func (a *archive) end() []byte {
	a.add("TRAILER!!!", 0, nil)
	return a.b.Bytes()
}
