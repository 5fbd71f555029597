package bootstrap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"sampan/cluster/audit"
	"sampan/cluster/auth/setup"
	"sampan/cluster/encrypt"
	"sampan/cluster/store"
	"sampan/engine/image"
	"sampan/internal/fault"
)

// Config is the whole program's configuration. The zero value of each field
// but Version means its default.
type Config struct {
	State      string // what survives a reboot; default /var/lib/sampan
	Run        string // sockets, pins, the running program's record; default /run/sampan
	Kubeconfig string // default /etc/sampan/kubeconfig

	// Join is the file that another machine's program wrote for this node (see
	// NodeFile): this one becomes a node of its cluster. What the file says of
	// the cluster counts, not what is set here. It is needed once.
	Join string

	NodeName    string // default: the host name in lower case
	Listen      string // address of the API; default 0.0.0.0
	Port        int    // of the API; default 6443
	KubeletPort int    // of the node's own API; default 10250

	Pods          netip.Prefix // addresses of all pods; default 10.244.0.0/16. The first node takes its first /24
	Services      netip.Prefix // addresses of services; default 10.96.0.0/16
	NodeAddress   netip.Addr   // used only where the machine has no address but lo's; default 192.168.255.1
	ClusterDomain string       // default cluster.local
	ResolvConf    string       // the machine's resolver settings; default /etc/resolv.conf

	RegistryMirrors []string // REGISTRY=URL: asked for the images of a registry before it

	// APIOnly starts what upstream's kube-apiserver is, and nothing else: no
	// node, no engine, no pod network, no DNS, and of the controllers only those
	// that upstream has in that program. It need not be root.
	APIOnly bool

	EtcdEndpoints  []string       // an etcd cluster to use instead of the embedded one
	EtcdTLS        store.TLSFiles // how to reach it; zero: plain text
	EtcdPrefix     string         // what all keys begin with, there or in the embedded one; default /registry
	EtcdCompaction time.Duration  // how much history is kept at least; default 5 min, negative: all

	Encryption encrypt.Config // of what is stored; without a File nothing is encrypted
	Audit      audit.Config   // of requests; begin with audit.Defaults. Without a PolicyFile nothing is recorded

	// StrictVersions serves the versions of the API that upstream serves, and not
	// those beside that old manifests carry.
	StrictVersions bool

	// Admission plugins by upstream's names, beside and without those that are
	// on by default; and an AdmissionConfiguration with what they are told.
	EnableAdmission, DisableAdmission []string
	AdmissionFile                     string

	// Who users are and what they may, and the tokens of service accounts.
	Authentication  setup.Authentication
	Authorization   setup.Authorization
	ServiceAccounts ServiceAccounts

	Limits Limits // of requests

	CheckShared bool // find writes to shared objects; costs time, for tests

	Flags map[string]string // that the program was started with, for /flagz; nil: there is no such path

	Self    string // path of the program, for starting it again; default: what runs
	Version string // of the program
	Log     *slog.Logger
	Ready   func(Ready) // called once, when the API answers and the node is registered
}

// Ready says where a program that is up can be reached.
type Ready struct {
	Server     string // URL
	Kubeconfig string // path
	Node       string
	Took       time.Duration // since Run was called
}

// withDefaults fills c and says what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.State, "/var/lib/sampan")
	set(&c.Run, "/run/sampan")
	set(&c.Kubeconfig, "/etc/sampan/kubeconfig")
	set(&c.Listen, "0.0.0.0")
	set(&c.ClusterDomain, "cluster.local")
	set(&c.ResolvConf, "/etc/resolv.conf")
	set(&c.Version, "dev")
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, &fault.Error{Op: "read host name", On: "of this machine", Err: err, Fix: "name the node with --node-name"}
		}
		c.NodeName = strings.ToLower(name)
	}
	if c.Self == "" {
		c.Self = "/proc/self/exe"
		if self, err := os.Executable(); err == nil {
			c.Self = self
		}
	}
	if c.Port == 0 {
		c.Port = 6443
	}
	if c.KubeletPort == 0 {
		c.KubeletPort = 10250
	}
	if !c.Pods.IsValid() {
		c.Pods = netip.MustParsePrefix("10.244.0.0/16")
	}
	if !c.Services.IsValid() {
		c.Services = netip.MustParsePrefix("10.96.0.0/16")
	}
	if !c.NodeAddress.IsValid() {
		c.NodeAddress = netip.AddrFrom4([4]byte{192, 168, 255, 1})
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, c.check()
}

func (c Config) check() error {
	wrong := func(on, value string, err error, fix string) error {
		return &fault.Error{Class: fault.Invalid, Op: "configure " + on, On: value, Err: err, Fix: fix}
	}
	for _, dir := range []string{c.State, c.Run} {
		if !filepath.IsAbs(dir) {
			return wrong("directory", dir, errors.New("not an absolute path"), "")
		}
	}
	if why := validation.IsDNS1123Subdomain(c.NodeName); len(why) > 0 {
		return wrong("node name", c.NodeName, errors.New(why[0]), "choose one with --node-name")
	}
	for _, p := range []struct {
		on    string
		value netip.Prefix
		most  int
	}{{"pod range", c.Pods, 24}, {"service range", c.Services, 28}} {
		if !p.value.Addr().Is4() || p.value.Bits() > p.most {
			return wrong(p.on, p.value.String(), fmt.Errorf("want an IPv4 range of /%d or larger", p.most), "")
		}
	}
	if c.Pods.Overlaps(c.Services) {
		return wrong("ranges", c.Pods.String(), fmt.Errorf("it overlaps the service range %s", c.Services), "choose others with --pod-range and --service-range")
	}
	if p := c.ServiceAccounts.CleanUpPeriod; p < 0 {
		return wrong("the time after which unused tokens go", p.String(), errors.New("it is not positive"), "choose another with --legacy-service-account-token-clean-up-period")
	}
	_, err := c.mirrors()
	return err
}

// nodePods is this node's share of the pod range.
func (c Config) nodePods() netip.Prefix { return netip.PrefixFrom(c.Pods.Masked().Addr(), 24) }

// serviceAddress is the n-th address of the service range.
func (c Config) serviceAddress(n int) netip.Addr {
	ip := c.Services.Masked().Addr()
	for range n {
		ip = ip.Next()
	}
	return ip
}

// Addresses of the program's own services, as kubeadm chooses them.
const (
	apiServiceNumber = 1
	dnsServiceNumber = 10
)

func (c Config) mirrors() ([]image.Mirror, error) {
	var all []image.Mirror
	for _, text := range c.RegistryMirrors {
		m, err := image.ParseMirror(text)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
