package runtime

import (
	"context"
	"strings"
	"testing"
)

func TestAContainerIsApartFromTheMachine(t *testing.T) {
	p := newPod(t, newRuntime(t))
	cfg := container(t, p, "c", "hostname", "pid", "ls", "/", "links", "cat", "/proc/self/status", "ls", "/dev", "ls", "/sys/fs/cgroup", "exit", "7")
	out, exit := output(t, p, cfg)
	t.Log(out)
	if exit.Code != 7 || exit.Signal != 0 || exit.OOMKilled {
		t.Errorf("exit = %+v, want code 7", exit)
	}
	for _, want := range []string{"aboard\n1\nbin dev etc proc sys tmp \nlo \n", "Seccomp:\t2", "NoNewPrivs:\t0", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb"} {
		if !strings.Contains(out, want) {
			t.Errorf("the container says\n%s\nwithout %q", out, want)
		}
	}
	if err := p.Remove(context.Background(), "c"); err != nil {
		t.Error(err)
	}
}
