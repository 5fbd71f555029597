// Command gen writes the tables of system calls' names and numbers from
// golang.org/x/sys. It is run by go generate in the folder above.
package main

import (
	"fmt"
	"os"

	"sampan/internal/linux/gen/table"
)

func main() {
	for _, arch := range table.Architectures() {
		src, err := table.Source(arch)
		if err == nil {
			err = os.WriteFile("syscalls_"+arch+"_gen.go", src, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}
