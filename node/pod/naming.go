package pod

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Resolver is what a resolv.conf(5) says.
type Resolver struct {
	Servers, Searches, Options []string
}

// ParseResolver reads a resolv.conf(5).
func ParseResolver(data []byte) Resolver {
	var r Resolver
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.Servers = append(r.Servers, f[1])
		case "search":
			r.Searches = nil // the last one counts
			for _, s := range f[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				r.Searches = append(r.Searches, s)
			}
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

const (
	maxServers  = 3
	maxSearches = 32
)

// dnsConfig follows the pod's dnsPolicy and adds its dnsConfig.
func dnsConfig(pod *corev1.Pod, h *Host) (*runtimeapi.DNSConfig, error) {
	policy := pod.Spec.DNSPolicy
	cluster := false
	host := h.Resolver
	d := &runtimeapi.DNSConfig{}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSClusterFirstWithHostNet:
		cluster = true
	case corev1.DNSClusterFirst, "":
		cluster = !pod.Spec.HostNetwork
	case corev1.DNSDefault:
	default:
		return nil, fmt.Errorf("invalid DNSPolicy: %v", policy)
	}
	switch {
	case policy == corev1.DNSNone:
	case cluster && len(h.ClusterDNS) > 0:
		domain := h.ClusterDomain
		d.Servers = slices.Clone(h.ClusterDNS)
		d.Searches = append([]string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}, host.Searches...)
		d.Options = []string{"ndots:5"}
	default:
		d.Servers, d.Searches, d.Options = slices.Clone(host.Servers), slices.Clone(host.Searches), slices.Clone(host.Options)
	}
	if c := pod.Spec.DNSConfig; c != nil {
		d.Servers = append(d.Servers, c.Nameservers...)
		d.Searches = append(d.Searches, c.Searches...)
		d.Options = mergeOptions(d.Options, c.Options)
	}
	d.Servers, d.Searches = unique(d.Servers), unique(d.Searches)
	d.Servers = d.Servers[:min(len(d.Servers), maxServers)]
	d.Searches = d.Searches[:min(len(d.Searches), maxSearches)]
	return d, nil
}

// mergeOptions lets the pod's options replace those of the same name.
func mergeOptions(have []string, own []corev1.PodDNSConfigOption) []string {
	var all []string
	for _, o := range have {
		name, _, _ := strings.Cut(o, ":")
		if !slices.ContainsFunc(own, func(p corev1.PodDNSConfigOption) bool { return p.Name == name }) {
			all = append(all, o)
		}
	}
	for _, o := range own {
		if o.Value != nil {
			all = append(all, o.Name+":"+*o.Value)
		} else {
			all = append(all, o.Name)
		}
	}
	return all
}

func unique(list []string) []string {
	var all []string
	for _, s := range list {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// Hostname is what a pod calls itself, and its domain, empty without a
// subdomain.
func Hostname(pod *corev1.Pod, clusterDomain string) (host, domain string, err error) {
	if o := pod.Spec.HostnameOverride; o != nil {
		return *o, "", nil
	}
	const limit = 63
	host = pod.Spec.Hostname
	if host == "" {
		host = pod.Name
		if len(host) > limit {
			host = strings.TrimRight(host[:limit], "-.")
		}
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	if yes(pod.Spec.SetHostnameAsFQDN) && domain != "" {
		full := host + "." + domain
		if len(full) > 64 { // HOST_NAME_MAX, gethostname(2)
			return "", "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", full, len(full))
		}
		return full, domain, nil
	}
	return host, domain, nil
}

// HostsFile is the /etc/hosts of a pod's containers.
func HostsFile(pod *corev1.Pod, ips []string, h *Host) []byte {
	var b bytes.Buffer
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(h.HostsFile)
		writeAliases(&b, pod.Spec.HostAliases)
		return b.Bytes()
	}
	b.WriteString("# Kubernetes-managed hosts file.\n")
	b.WriteString("127.0.0.1\tlocalhost\n")
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
	b.WriteString("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	host, domain, err := Hostname(pod, h.ClusterDomain)
	if err != nil {
		host = pod.Name
	}
	for _, ip := range ips {
		short, _, _ := strings.Cut(host, ".")
		if domain != "" {
			fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, short, domain, short)
		} else {
			fmt.Fprintf(&b, "%s\t%s\n", ip, host)
		}
	}
	writeAliases(&b, pod.Spec.HostAliases)
	return b.Bytes()
}

func writeAliases(b *bytes.Buffer, aliases []corev1.HostAlias) {
	if len(aliases) == 0 {
		return
	}
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, a := range aliases {
		fmt.Fprintf(b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
}
