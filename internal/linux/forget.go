package linux

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ForgetCode unmaps the pages of this program's own file that it has only read:
// code and constants. What is used again comes back from the page cache, a
// fault of under a microsecond for each 64 kB; what was used to start and never
// again is free to be reclaimed. Pages that were written to are left alone.
// (madvise(2), MADV_DONTNEED on a private mapping of a file.)
func ForgetCode() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// 00400000-02f36000 r-xp 00000000 fe:00 10602209    /usr/bin/program
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || strings.Join(fields[5:], " ") != self || fields[1] != "r-xp" && fields[1] != "r--p" {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			return err
		}
		end, err := strconv.ParseUint(to, 16, 64)
		if err != nil {
			return err
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED); errno != 0 {
			return callError("madvise", fields[0], errno)
		}
	}
	return lines.Err()
}
