package engine

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// writeFiles makes the init layer: the files that belong to a container and
// not to its image. They are written in place, as they may be bound already.
func (e *Engine) writeFiles(dir string, s *sandboxRecord) error {
	host := s.Config.Network == NetworkHost
	hostname := s.Config.Hostname
	if hostname == "" {
		hostname, _ = os.Hostname()
	}
	hosts := ""
	if host {
		b, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("read", "/etc/hosts", err)
		}
		hosts = string(b)
		for _, a := range s.Config.Hosts {
			hosts += a.IP + "\t" + strings.Join(a.Names, " ") + "\n"
		}
	} else {
		hosts = hostsFile(hostname, s.IPs, s.Config.Hosts)
	}
	resolv := ""
	if d := s.Config.DNS; len(d.Servers)+len(d.Searches)+len(d.Options) > 0 {
		resolv = resolvConf(d)
	} else {
		b, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("read", "/etc/resolv.conf", err)
		}
		resolv = string(b)
		if s.Config.Network == NetworkDefault {
			resolv = withoutLoopback(resolv)
		}
	}
	for name, content := range map[string]string{"hosts": hosts, "hostname": hostname + "\n", "resolv.conf": resolv} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return failed("write", "/etc/"+name, err)
		}
	}
	return nil
}

// hostsFile is /etc/hosts as Docker writes it.
func hostsFile(hostname string, ips []netip.Addr, more []HostAlias) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, a := range more {
		b.WriteString(a.IP + "\t" + strings.Join(a.Names, " ") + "\n")
	}
	for _, ip := range ips {
		b.WriteString(ip.String() + "\t" + hostname + "\n")
	}
	return b.String()
}

// resolvConf is resolv.conf(5) as the CRI asks for it.
func resolvConf(d DNS) string {
	var b strings.Builder
	if len(d.Searches) > 0 {
		b.WriteString("search " + strings.Join(d.Searches, " ") + "\n")
	}
	for _, s := range d.Servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(d.Options) > 0 {
		b.WriteString("options " + strings.Join(d.Options, " ") + "\n")
	}
	return b.String()
}

// withoutLoopback leaves out name servers that only the host can reach.
func withoutLoopback(conf string) string {
	var b strings.Builder
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "nameserver" {
			if ip, err := netip.ParseAddr(f[1]); err == nil && ip.IsLoopback() {
				continue
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// initLayer is where the files of a container go. Targets that the container's
// own mounts cover are covered by compile.
func (e *Engine) initLayer(s *sandboxRecord, c *Container) []Mount {
	dir := e.place("sandboxes", s.ID)
	ro := c.Config.ReadOnlyRootFS
	out := make([]Mount, 0, 3)
	for _, name := range initFiles {
		out = append(out, Mount{Type: "bind", Source: filepath.Join(dir, name), Target: "/etc/" + name, ReadOnly: ro})
	}
	return out
}

// initFiles are the files in /etc that the engine writes.
var initFiles = []string{"hosts", "hostname", "resolv.conf"}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
