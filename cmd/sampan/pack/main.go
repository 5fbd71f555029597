// Command pack compresses the whole program for the split build: pack IN OUT
// writes OUT, and OUT.sum with the digest of IN.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack IN OUT")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(in, out string) error {
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, enc.EncodeAll(data, nil), 0o644); err != nil {
		return err
	}
	return os.WriteFile(out+".sum", fmt.Appendf(nil, "%x", sha256.Sum256(data)), 0o644)
}
