package store

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// release gives back the memory through which the database's file was read.
// bbolt maps the file with all its pages present (MAP_POPULATE), and the start
// has read every object, once: they are decoded in the cache now, and their
// bytes would count as ours for good. What is needed again comes back from the
// page cache (madvise(2), MADV_DONTNEED on a shared mapping of a file).
func release(file string) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return // no /proc: it is an economy, no need
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != file {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
		}
	}
}
