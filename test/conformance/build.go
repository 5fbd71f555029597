package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// cache keeps what is built between runs.
type cache struct {
	dir, source string // where it is; this module's folder
	log         io.Writer
}

func arch() string { return runtime.GOARCH }

func (c *cache) say(format string, args ...any) { fmt.Fprintf(c.log, format+"\n", args...) }
func (c *cache) bin(name string) string         { return filepath.Join(c.dir, "bin", name) }

// build makes what is not there yet. Runs side by side wait for each other here.
func (c *cache) build(sampan bool) error {
	file := filepath.Join(c.dir, "build.lock")
	unlock, err := lock(file, syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		c.say("waiting for another run that builds")
		unlock, err = lock(file, 0)
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.suite(); err != nil {
		return err
	}
	if sampan {
		if err := c.sampan(); err != nil {
			return err
		}
	}
	_, err = c.images()
	return err
}

// lock takes a file for this process, and ends with it.
func lock(path string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// once calls make unless output is there and was made by the same compiler from
// the same files of this folder.
func (c *cache) once(name, output string, make func() error, files ...string) error {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), flags())
	for _, in := range files {
		data, err := os.ReadFile(filepath.Join(c.source, in))
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n%s", in, len(data), data)
	}
	want := hex.EncodeToString(sum.Sum(nil))
	stamp := filepath.Join(c.dir, name+".stamp")
	if is, err := os.ReadFile(stamp); err == nil && string(is) == want {
		if _, err := os.Stat(output); err == nil {
			return nil
		}
	}
	c.say("making %s", name)
	if err := make(); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// kubernetesVersion is the suite's, and what the programs built here call
// themselves: the suite skips specs by the version of kubectl and server.
const kubernetesVersion = "v1.37.1"

func flags() []string {
	const v = "k8s.io/component-base/version."
	return []string{"-trimpath", "-ldflags", "-s -w -X " + v + "gitVersion=" + kubernetesVersion + " -X " + v + "gitMajor=1 -X " + v + "gitMinor=37"}
}

func (c *cache) goBuild(out, pkg string) error {
	return c.run(append(append([]string{"go", "build"}, flags()...), "-o", out, pkg)...)
}

// suite builds upstream's specs, the command that runs them in parallel, and
// the kubectl that they call.
func (c *cache) suite() error {
	return c.once("suite", c.bin("e2e.test"), func() error {
		c.say("building upstream's suite: about 15 minutes on two cores the first time")
		if err := c.goBuild(c.bin("ginkgo"), "github.com/onsi/ginkgo/v2/ginkgo"); err != nil {
			return err
		}
		if err := c.goBuild(c.bin("kubectl"), kubernetes+"/cmd/kubectl"); err != nil {
			return err
		}
		// Vetting others' code would take as long as compiling it.
		return c.run(append(append([]string{"go", "test", "-c", "-vet=off", "-tags=suite"}, flags()...), "-o", c.bin("e2e.test"), "./suite")...)
	}, "go.mod", "go.sum", "suite/suite_test.go")
}

// sampan builds the program under test, each time: Go knows what changed.
func (c *cache) sampan() error {
	root := filepath.Join(c.source, "..", "..")
	return c.runAt(root, "go", "build", "-o", c.bin("sampan"), "./cmd/sampan")
}

func (c *cache) moduleDir(module string) (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = c.source
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func (c *cache) run(args ...string) error { return c.runAt(c.source, args...) }

func (c *cache) runAt(dir string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
