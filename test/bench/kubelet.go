package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// kubelet is upstream's way of running pods: its control plane, containerd
// with Debian's CNI plugins, and a kubelet.
type kubelet struct {
	upstream   *upstream
	containerd *containerd
	kubelet    *daemon
	proxy      *daemon // kube-proxy, or nil
}

// openKubelet starts it all. What it returns is closed also after an error.
func (b *bench) openKubelet(ctx context.Context, archive string) (k *kubelet, err error) {
	k = &kubelet{}
	if k.upstream, err = b.openUpstream(ctx); err != nil {
		return k, err
	}
	dir := k.upstream.dir
	k.containerd, err = b.startContainerd(ctx, fmt.Sprintf(`
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/%s"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = %q
`, guestImage, filepath.Join(dir, "net.d")))
	if err != nil {
		return k, err
	}
	for name, text := range map[string]string{
		"kubelet.yaml": fmt.Sprintf(kubeletConfig, groups, k.containerd.socket),
		"net.d/10-bench.conflist": `{"cniVersion": "0.4.0", "name": "bench", "plugins": [{"type": "bridge", "bridge": "bench0", "isGateway": true,
			"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.245.0.0/16"}]]}}]}`,
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return k, err
		}
	}
	if _, err := call(exec.CommandContext(ctx, "/usr/bin/ctr", "-a", k.containerd.socket, "-n", "k8s.io", "images", "import", archive)); err != nil {
		return k, err
	}
	if err := makeGroup(groups + "-kubelet"); err != nil {
		return k, err
	}
	k.kubelet, err = b.start("kubelet", b.bins.bin("kubelet"), nil, "--kubeconfig="+k.upstream.path("kubelet"), "--config="+filepath.Join(dir, "kubelet.yaml"),
		"--root-dir="+filepath.Join(dir, "kubelet-root"), "--hostname-override=bench", "--cert-dir="+k.upstream.path("certificates"), "--node-ip="+benchAddress)
	if err != nil {
		return k, err
	}
	return k, k.kubelet.ready(ctx, 30*time.Second, func(ctx context.Context) error {
		c, err := clientOf(k.upstream.kubeconfig(), asJSON, rest.NoWarnings{})
		if err == nil {
			_, err = c.CoreV1().Nodes().Get(ctx, "bench", metav1.GetOptions{})
		}
		return err
	})
}

// kubeletConfig leaves out what a run of minutes does not need, and lets the
// kubelet start on control groups of version 1.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /%s-kubelet
containerRuntimeEndpoint: unix://%s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
port: 21250
healthzPort: 0
failSwapOn: false
enforceNodeAllocatable: []
resolvConf: ""
evictionHard: {imagefs.available: "0%%", memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
kubeAPIQPS: 5000
kubeAPIBurst: 5000
maxPods: 200
registryPullQPS: 0
`

// startProxy starts kube-proxy for the kubelet's node.
func (k *kubelet) startProxy() (err error) {
	u := k.upstream
	k.proxy, err = u.bench.start("kube-proxy", u.bench.bins.bin("kube-proxy"), nil, "--kubeconfig="+u.path("proxy"), "--hostname-override=bench", "--proxy-mode=iptables",
		"--healthz-bind-address=127.0.0.1:21256", "--metrics-bind-address=127.0.0.1:21249", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	return err
}

func (k *kubelet) close() {
	k.proxy.stop()
	k.kubelet.stop()
	k.containerd.close()
	k.upstream.close()
}

// makeGroup makes a control group in every hierarchy of version 1, as whoever
// starts a kubelet with a root of its own has to; see cgroups-v1/cpusets.rst
// for what a new one lacks.
func makeGroup(name string) error {
	all, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	for _, file := range all {
		parent := filepath.Dir(file)
		if err := os.MkdirAll(filepath.Join(parent, name), 0o755); err != nil {
			return err
		}
		for _, setting := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(parent, setting))
			if err != nil {
				continue // another hierarchy
			}
			if err := os.WriteFile(filepath.Join(parent, name, setting), value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
