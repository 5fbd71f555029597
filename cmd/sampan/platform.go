//go:build !split

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"sampan/bootstrap"
)

// platformCommands are the commands about the whole program and the cluster.
func platformCommands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newUpCommand(g), newDownCommand(g), newStatusCommand(g), newResetCommand(g),
		newNodeKubeconfigCommand(g), newKubectlCommand(g), newWhyCommand(g), newSnapshotCommand(g),
	}
}

// platformFlags puts the flags of a Config on a command.
func platformFlags(cmd *cobra.Command, cfg *bootstrap.Config) {
	f := cmd.Flags()
	f.StringVar(&cfg.Kubeconfig, "kubeconfig", "/etc/sampan/kubeconfig", "where the administrator's kubeconfig is written")
	f.StringVar(&cfg.NodeName, "node-name", "", "name of this node (default: the host name)")
	f.StringVar(&cfg.Listen, "listen", "0.0.0.0", "address on which the API and the node listen")
	f.IntVar(&cfg.Port, "port", 6443, "port of the API")
	f.IntVar(&cfg.KubeletPort, "kubelet-port", 10250, "port of the node's own API")
	f.StringVar(&cfg.ClusterDomain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
	f.StringVar(&cfg.ResolvConf, "resolv-conf", "/etc/resolv.conf", "the machine's resolver settings, for names outside the cluster")
	f.StringArrayVar(&cfg.RegistryMirrors, "registry-mirror", nil, "REGISTRY=URL: a registry to ask before REGISTRY for the images of pods; may be repeated")
	f.BoolVar(&cfg.APIOnly, "api-only", false, "serve the API alone: no node, and no controllers but those of an API server (for tests of clients)")
	f.StringSliceVar(&cfg.EtcdEndpoints, "etcd-servers", nil, "an etcd cluster to use instead of the embedded one")
	f.StringVar(&cfg.EtcdTLS.CA, "etcd-cafile", "", "the authority that certifies that etcd")
	f.StringVar(&cfg.EtcdTLS.Cert, "etcd-certfile", "", "the certificate to show to that etcd")
	f.StringVar(&cfg.EtcdTLS.Key, "etcd-keyfile", "", "the key of that certificate")
	f.StringVar(&cfg.EtcdPrefix, "etcd-prefix", "/registry", "what all keys in etcd begin with")
	f.Var((*compactionValue)(&cfg.EtcdCompaction), "etcd-compaction-interval", "how much history the store keeps at least; 0: all, and it grows")
	f.StringSliceVar(&cfg.EnableAdmission, "enable-admission-plugins", nil, "admission plugins to turn on beside those that are on by default, by upstream's names")
	f.StringSliceVar(&cfg.DisableAdmission, "disable-admission-plugins", nil, "admission plugins to turn off")
	f.StringVar(&cfg.AdmissionFile, "admission-control-config-file", "", "an AdmissionConfiguration: what admission plugins are told")
	f.StringVar(&cfg.Encryption.File, "encryption-provider-config", "", "an EncryptionConfiguration: which resources are encrypted in etcd, and with which keys")
	f.BoolVar(&cfg.Encryption.Reload, "encryption-provider-config-automatic-reload", false, "read the file of --encryption-provider-config again when it changes")
	limitFlags(f, &cfg.Limits)
	auditFlags(cmd, &cfg.Audit)
	f.Var((*prefixValue)(&cfg.Pods), "pod-range", "addresses of all pods (default 10.244.0.0/16)")
	f.Var((*prefixValue)(&cfg.Services), "service-range", "addresses of services (default 10.96.0.0/16)")
	f.BoolVar(&cfg.StrictVersions, "strict-versions", false, "serve no API versions that upstream serves no more (extensions/v1beta1 and its like)")
	f.BoolVar(&cfg.CheckShared, "check-shared", false, "find writes to shared objects (slow; for tests)")
	_ = f.MarkHidden("check-shared")
}

// prefixValue is a flag that takes an address range.
type prefixValue netip.Prefix

func (p *prefixValue) String() string {
	if v := netip.Prefix(*p); v.IsValid() {
		return v.String()
	}
	return ""
}

func (p *prefixValue) Set(s string) error {
	v, err := netip.ParsePrefix(s)
	*p = prefixValue(v)
	return err
}

func (*prefixValue) Type() string { return "range" }

// compactionValue is a flag that takes a duration, where 0 means never.
type compactionValue time.Duration

func (c *compactionValue) String() string {
	switch d := time.Duration(*c); {
	case d == 0:
		return "5m0s"
	case d < 0:
		return "0s"
	default:
		return d.String()
	}
}

func (c *compactionValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("it cannot be negative")
	}
	if d == 0 {
		d = -1
	}
	*c = compactionValue(d)
	return err
}

func (*compactionValue) Type() string { return "duration" }

// steps prints what is under way, for whatever may take over a second.
type steps struct {
	out   io.Writer
	start time.Time
}

func newSteps(out io.Writer) *steps { return &steps{out, time.Now()} }

func (p *steps) say(format string, args ...any) {
	fmt.Fprintf(p.out, "%6.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
