// Command gen builds the monitor for every architecture and compresses it into
// the files that package monitor embeds. It is run by go generate there.
package main

import (
	"fmt"
	"os"

	"sampan/engine/monitor/build"
)

func main() {
	for _, arch := range build.Architectures() {
		packed, err := build.Monitor("./cmd", arch)
		if err == nil {
			err = os.WriteFile("monitor_"+arch+".gz", packed, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
		fmt.Printf("monitor_%s.gz: %d bytes\n", arch, len(packed))
	}
}
