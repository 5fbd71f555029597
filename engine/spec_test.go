package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/internal/fault"
)

func TestResolveUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nsailor:x:1000:100::/home/sailor:\n"
	const group = "root:x:0:\nusers:x:100:\ncrew:x:2000:sailor,cook\ndeck:x:2001:sailor\n"
	for _, c := range []struct {
		spec  string
		merge bool
		want  string
		class fault.Class
	}{
		{spec: "", want: "{0 0 [] /root}"},
		{spec: "0", want: "{0 0 [] /root}"},
		{spec: "sailor", want: "{1000 100 [2000 2001] /home/sailor}"},
		{spec: "1000", want: "{1000 100 [2000 2001] /home/sailor}"},
		{spec: "sailor:crew", want: "{1000 2000 [] /home/sailor}"},
		{spec: "sailor:crew", merge: true, want: "{1000 2000 [2000 2001] /home/sailor}"},
		{spec: "sailor:77", want: "{1000 77 [] /home/sailor}"},
		{spec: "5:6", want: "{5 6 [] }"},
		{spec: "5", want: "{5 0 [] }"},
		{spec: ":crew", want: "{0 2000 [] /root}"},
		{spec: "pirate", class: fault.Invalid},
		{spec: "sailor:pirates", class: fault.Invalid},
		{spec: "4294967296", class: fault.Invalid},
	} {
		got, err := resolveUser(c.spec, c.merge, strings.NewReader(passwd), strings.NewReader(group))
		if fault.ClassOf(err) != c.class || err == nil && fmt.Sprint(got) != c.want {
			t.Errorf("%q: got %v, %v; want %s", c.spec, got, err, c.want)
		}
	}
	if got, err := resolveUser("7", false, nil, nil); err != nil || got.UID != 7 {
		t.Errorf("without files: got %v, %v", got, err)
	}
}

func FuzzResolveUser(f *testing.F) {
	f.Add("a:b", "a:x:1:2::/:\n", "b:x:3:a\n")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		_, _ = resolveUser(spec, true, strings.NewReader(passwd), strings.NewReader(group))
	})
}

func input(c ContainerConfig) specInput {
	return specInput{container: &Container{ID: "c", Config: c}, sandbox: &Sandbox{}, image: ocispec.ImageConfig{
		Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}, Env: []string{"A=1", "B=2"}}}
}

func TestCommandOfImageAndContainer(t *testing.T) {
	for _, c := range []struct {
		it   string
		c    ContainerConfig
		want string
	}{
		{"the image's", ContainerConfig{}, "/entry cmd"},
		{"another command", ContainerConfig{Command: []string{"x"}}, "/entry x"},
		{"another entrypoint makes the image's command void", ContainerConfig{Entrypoint: []string{"/e"}}, "/e"},
		{"both", ContainerConfig{Entrypoint: []string{"/e"}, Command: []string{"x"}}, "/e x"},
	} {
		spec, err := compile(input(c.c))
		if err != nil || strings.Join(spec.Process.Args, " ") != c.want {
			t.Errorf("%s: got %v, %v; want %s", c.it, spec, err, c.want)
		}
	}
	in := input(ContainerConfig{})
	in.image = ocispec.ImageConfig{}
	if _, err := compile(in); fault.ClassOf(err) != fault.Invalid {
		t.Errorf("no command anywhere: got %v", err)
	}
}

func TestCapabilitiesAreAddedAndDropped(t *testing.T) {
	for _, c := range []struct {
		c     ContainerConfig
		has   string
		hasNo string
		n     int
	}{
		{ContainerConfig{}, "CAP_CHOWN", "CAP_SYS_ADMIN", 14},
		{ContainerConfig{CapAdd: []string{"sys_admin"}}, "CAP_SYS_ADMIN", "CAP_BPF", 15},
		{ContainerConfig{CapDrop: []string{"CAP_CHOWN"}}, "CAP_KILL", "CAP_CHOWN", 13},
		{ContainerConfig{CapDrop: []string{"ALL"}}, "", "CAP_CHOWN", 0},
		{ContainerConfig{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN"}}, "CAP_CHOWN", "CAP_KILL", 1},
		{ContainerConfig{CapAdd: []string{"ALL"}, CapDrop: []string{"CHOWN"}}, "CAP_BPF", "CAP_CHOWN", 40},
		{ContainerConfig{Privileged: true, CapDrop: []string{"ALL"}}, "CAP_BPF", "", 41},
	} {
		got, err := capabilities(&c.c)
		if err != nil || len(got.Bounding) != c.n || c.has != "" && !slices.Contains(got.Bounding, c.has) || slices.Contains(got.Bounding, c.hasNo) {
			t.Errorf("%+v: got %v, %v; want %d with %s and without %s", c.c, got, err, c.n, c.has, c.hasNo)
		}
	}
}

func TestMountsLieInOrder(t *testing.T) {
	in := input(ContainerConfig{Mounts: []Mount{
		{Type: "bind", Source: "/host/deep", Target: "/data/a/b"}, {Type: "bind", Source: "/host", Target: "/data", ReadOnly: true, RecursiveReadOnly: true},
		{Type: "bind", Source: "/my/hosts", Target: "/etc/hosts"}, {Type: "bind", Source: "/my/shm", Target: "/dev/shm"}}})
	in.files = []Mount{{Type: "bind", Source: "/init/hosts", Target: "/etc/hosts"}}
	spec, err := compile(in)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, m := range spec.Mounts {
		if _, twice := at[m.Destination]; twice {
			t.Errorf("%s is mounted twice", m.Destination)
		}
		at[m.Destination] = i
	}
	if at["/data"] > at["/data/a/b"] || at["/dev"] > at["/dev/shm"] || at["/sys"] > at["/sys/fs/cgroup"] {
		t.Errorf("a parent comes after what lies in it: %v", at)
	}
	if m := spec.Mounts[at["/etc/hosts"]]; m.Source != "/my/hosts" {
		t.Errorf("/etc/hosts is %s, want the caller's", m.Source)
	}
	if m := spec.Mounts[at["/dev/shm"]]; m.Source != "/my/shm" || m.Type != "bind" {
		t.Errorf("/dev/shm is %v, want the caller's", m)
	}
	if m := spec.Mounts[at["/data"]]; !slices.Contains(m.Options, "rro") {
		t.Errorf("/data has %v, want rro", m.Options)
	}
}

func TestSignalsAreParsed(t *testing.T) {
	for s, want := range map[string]int{"TERM": 15, "SIGKILL": 9, "hup": 1, "15": 15, "RTMIN+3": 37, "SIGRTMAX-1": 63, "0": 0, "SIGFOO": 0, "65": 0, "TERM+1": 0} {
		got, err := ParseSignal(s)
		if int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("%s: got %d, %v; want %d", s, got, err, want)
		}
	}
}
