package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sampan/internal/netlink"
)

// The addresses of two hosts that share a link, which is all they reach.
const (
	firstAddress  = "172.31.9.1"
	secondAddress = "172.31.9.2"
)

// newHosts are two machines on one link.
func newHosts(t *testing.T) (first, second *host) {
	t.Helper()
	first, second = newHost(t), newHost(t)
	var err error
	first.inside(func() {
		var h *netlink.Handle
		if h, err = netlink.Open(); err != nil {
			return
		}
		defer h.Close()
		_, err = h.AddVeth(netlink.Veth{Name: "eth0", PeerName: "eth0", PeerNS: second.ns})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		*host
		ip string
	}{{first, firstAddress}, {second, secondAddress}} {
		h, err := netlink.OpenAt(end.ns)
		if err != nil {
			t.Fatal(err)
		}
		link, err := h.Link("eth0")
		if err == nil {
			err = h.AddAddr(netlink.Addr{Link: link.Index, Prefix: netip.PrefixFrom(netip.MustParseAddr(end.ip), 24)})
		}
		if err == nil {
			// What the kernel does by itself some time later would look as if a
			// program had done it.
			end.inside(func() { err = netlink.SetSysctl("ipv6/conf/eth0/disable_ipv6", "1") })
		}
		if err == nil {
			err = h.SetUp(link.Index)
		}
		h.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return first, second
}

// join makes second a node of first's cluster.
func (h *host) join(second *host, name string) {
	h.Helper()
	file := filepath.Join(h.TempDir(), name+".kubeconfig")
	h.sampan("node-kubeconfig", name, "--out", file)
	second.sampan("up", "--detach", "--join", file)
	h.kubectl("wait", "--for=condition=Ready", "node/"+name, "--timeout=60s")
}

const onBothNodes = `
apiVersion: v1
kind: ConfigMap
metadata: {name: word}
data: {word: old}
---
apiVersion: v1
kind: Pod
metadata: {name: on-one, labels: {app: both}}
spec:
  nodeName: one
  containers:
  - {name: c, image: "test/probe:1", imagePullPolicy: Never, readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Pod
metadata: {name: on-two, labels: {app: both}}
spec:
  nodeName: two
  volumes: [{name: word, configMap: {name: word}}]
  containers:
  - {name: c, image: "test/probe:1", imagePullPolicy: Never, volumeMounts: [{name: word, mountPath: /word}],
     readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {type: NodePort, selector: {app: both}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
`

func TestASecondNode(t *testing.T) {
	one, two := newHosts(t)
	before := two.machine()
	one.up("--node-name", "one")
	one.join(two, "two")
	one.images()
	two.images()
	one.apply(onBothNodes)
	one.kubectl("wait", "--for=condition=Ready", "pod/on-one", "pod/on-two", "--timeout=60s")
	ips := strings.Fields(one.kubectl("get", "pods", "on-one", "on-two", "-o", "jsonpath={range .items[*]}{.status.podIP} {end}"))
	service := one.kubectl("get", "service", "both", "-o", "jsonpath={.spec.clusterIP}")

	t.Run("pods reach each other and their services from both", func(t *testing.T) {
		from := func(pod, url, want string) {
			t.Helper()
			if out := one.kubectl("exec", pod, "--", "/program", "get", url); !strings.HasPrefix(out, want) {
				t.Errorf("%s from %s: %q", url, pod, out)
			}
		}
		from("on-one", "http://"+ips[1]+":8080", "on-two")
		from("on-two", "http://"+ips[0]+":8080", "on-one")
		for _, pod := range []string{"on-one", "on-two"} {
			from(pod, "http://both.default.svc.cluster.local", "on-")
			from(pod, "http://"+secondAddress+":30080", "on-")
		}
		// A certificate of the cluster's CA is not one that the probe trusts:
		// that it sees one shows that the API's service leads there.
		if out, err := one.try(nil, tools.kubectl, "exec", "on-two", "--", "/program", "get", "https://kubernetes.default"); err == nil || !strings.Contains(out, "certificate") {
			t.Errorf("the API from a pod of the other node: %v %s", err, out)
		}
	})
	t.Run("services and node ports lead to both", func(t *testing.T) {
		for _, h := range []*host{one, two} {
			for _, url := range []string{"http://" + service, "http://" + firstAddress + ":30080", "http://" + secondAddress + ":30080"} {
				h.until(url, func() error {
					out, err := h.get(url)
					if err == nil && !strings.HasPrefix(out, "on-two") {
						err = fmt.Errorf("so far only %s answered", out)
					}
					return err
				})
			}
		}
	})
	t.Run("what the API asks of the node arrives there", func(t *testing.T) {
		if out := one.kubectl("logs", "on-two"); !strings.Contains(out, "serving as on-two") {
			t.Errorf("logs: %q", out)
		}
		if out := one.kubectl("get", "--raw", "/api/v1/nodes/two:10250/proxy/pods"); !strings.Contains(out, `"on-two"`) {
			t.Errorf("its pods: %.300s", out)
		}
		if out := one.kubectl("get", "--raw", "/api/v1/nodes/two/proxy/metrics"); !strings.Contains(out, "kubelet_running_pods 1") {
			t.Errorf("its metrics: %.300s", out)
		}
		one.kubectl("patch", "configmap", "word", "-p", `{"data":{"word":"new"}}`)
		one.says("new", "exec", "on-two", "--", "/program", "cat", "/word/word")
	})
	t.Run("addresses of no pod fail at once", func(t *testing.T) {
		for _, c := range []struct {
			*host
			ip string
		}{{one, "10.244.0.250"}, {one, "10.244.200.1"}, {two, "10.244.1.250"}, {two, "10.244.200.1"}} {
			if _, err := c.get("http://" + c.ip + ":8080"); !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("%s: %v", c.ip, err)
			}
		}
	})
	t.Run("a node whose program was killed goes on where it was", func(t *testing.T) {
		identity := func() string {
			return one.kubectl("get", "pod", "on-two", "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}")
		}
		was := identity()
		two.kill9()
		if out, err := one.get("http://" + ips[1] + ":8080"); err != nil || !strings.HasPrefix(out, "on-two") {
			t.Errorf("while it was away: %q, %v", out, err)
		}
		two.sampan("up", "--detach") // what it joined with is known
		one.says("serving as on-two", "logs", "on-two")
		if now := identity(); now != was {
			t.Errorf("before %s, now %s", was, now)
		}
	})
	t.Run("so does one whose cluster was away", func(t *testing.T) {
		one.kill9()
		one.up("--node-name", "one")
		one.kubectl("patch", "configmap", "word", "-p", `{"data":{"word":"newest"}}`)
		one.says("newest", "exec", "on-two", "--", "/program", "cat", "/word/word")
	})
	t.Run("after a reset nothing is left, and the name can come back", func(t *testing.T) {
		uid := one.kubectl("get", "node", "two", "-o", "jsonpath={.metadata.uid} {.spec.podCIDR}")
		two.sampan("reset", "--yes")
		for _, line := range two.machine() {
			// How the kernel arranges its routes depends on what it had once.
			if _, was := slices.BinarySearch(before, line); !was && !strings.Contains(line, "+--") {
				t.Errorf("left behind: %s", line)
			}
		}
		one.join(two, "two")
		if now := one.kubectl("get", "node", "two", "-o", "jsonpath={.metadata.uid} {.spec.podCIDR}"); now != uid {
			t.Errorf("the node is %s, it was %s", now, uid)
		}
	})
	t.Run("the route goes with the node", func(t *testing.T) {
		one.until("the route to its pods", func() error {
			if !one.routes(secondAddress) {
				return fmt.Errorf("none leads to %s", secondAddress)
			}
			return nil
		})
		two.sampan("reset", "--yes")
		one.kubectl("delete", "node", "two")
		one.until("no route to its pods", func() error {
			if one.routes(secondAddress) {
				return fmt.Errorf("one leads to %s", secondAddress)
			}
			return nil
		})
	})
}

// routes says whether a route leads to a machine.
func (h *host) routes(via string) bool {
	ip := netip.MustParseAddr(via).As4()
	gateway := fmt.Sprintf("\t%02X%02X%02X%02X\t", ip[3], ip[2], ip[1], ip[0]) // as /proc/net/route writes it
	return slices.ContainsFunc(h.machine(), func(line string) bool {
		return strings.HasPrefix(line, "route ") && strings.Contains(line, gateway)
	})
}

func TestBadInputAtJoining(t *testing.T) {
	one, two := newHosts(t)
	two.fails("make one where the cluster was started", tools.sampan, two.args("up", "--join", "/nowhere")...)
	one.fails("start it with: sampan up", tools.sampan, one.args("node-kubeconfig", "two")...)
	one.up("--node-name", "one")
	one.fails("it is this machine's name", tools.sampan, one.args("node-kubeconfig", "one")...)
	one.fails("RFC 1123", tools.sampan, one.args("node-kubeconfig", "No_Name")...)
	two.fails("not one for a node to join with", tools.sampan, two.args("up", "--join", one.kubeconfig)...)

	file := filepath.Join(t.TempDir(), "two.kubeconfig")
	one.sampan("node-kubeconfig", "two", "--out", file)
	two.fails("the file to join with is for two", tools.sampan, two.args("up", "--join", file, "--node-name", "three")...)

	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), firstAddress, secondAddress, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	two.fails("see that the address can be reached from here", tools.sampan, two.args("up", "--join", file)...)
	one.sampan("down")
	one.fails("this machine has a cluster of its own", tools.sampan, one.args("up", "--join", file)...)
}
