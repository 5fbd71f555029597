package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: test/probe:1
        imagePullPolicy: Never
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
`

// deploy brings up three pods behind a service, and returns its address.
func (h *host) deploy() (clusterIP string) {
	h.Helper()
	h.apply(web)
	h.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	return h.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
}

// servers asks n times and counts who answers.
func (h *host) servers(url string, n int) map[string]int {
	h.Helper()
	by := map[string]int{}
	for range n {
		out, err := h.get(url)
		if err != nil {
			h.Fatalf("%s: %v", url, err)
		}
		by[strings.Fields(out)[0]]++
	}
	return by
}

func TestADeploymentBehindAService(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	ip := h.deploy()
	for _, url := range []string{"http://" + ip, "http://192.168.255.1:30080"} {
		h.until(url, func() error { _, err := h.get(url); return err })
		if by := h.servers(url, 60); len(by) != 3 {
			t.Errorf("%s is answered by %v, want three pods", url, by)
		}
	}
	pod := strings.Fields(h.kubectl("get", "pods", "-l", "app=web", "-o", "name"))[0]
	for _, name := range []string{"web", "web.default", "web.default.svc.cluster.local"} {
		if out := h.kubectl("exec", pod, "--", "/program", "get", "http://"+name); !strings.HasPrefix(out, "web-") {
			t.Errorf("by name %s: %q", name, out)
		}
	}
	// A pod reaches itself through its service: of 20 tries with 3 pods, one does.
	self := strings.TrimPrefix(pod, "pod/")
	met := false
	for range 20 {
		met = met || strings.HasPrefix(h.kubectl("exec", pod, "--", "/program", "get", "http://"+ip), self)
	}
	if !met {
		t.Error("a pod never reached itself through its service")
	}

	// A killed program leaves its services working.
	before := h.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}")
	h.kill9()
	for _, url := range []string{"http://" + ip, "http://192.168.255.1:30080"} {
		if by := h.servers(url, 60); len(by) != 3 {
			t.Errorf("with the program dead %s is answered by %v, want three pods", url, by)
		}
	}
	h.up()
	h.says("3/3", "get", "deployment", "web")
	if after := h.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}"); after != before {
		t.Errorf("containers after: %s\nbefore: %s", after, before)
	}
	if out := h.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}"); out != "0 0 0" {
		t.Errorf("restarts %q", out)
	}
}

// A rolling update under load loses no request: at least 200 a second, each on
// a new connection.
func TestARollingUpdateLosesNoRequest(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	url := "http://" + h.deploy()
	h.until(url, func() error { _, err := h.get(url); return err })

	var asked, lost, updated atomic.Int64
	var firstLoss atomic.Value
	stop := make(chan struct{})
	var clients sync.WaitGroup
	ticks := make(chan struct{})
	address := strings.TrimPrefix(url, "http://") + ":80"
	for range 32 {
		clients.Go(func() {
			h.inside(func() { // all of a client's requests, on one thread of the host
				for range ticks {
					out, err := ask(address)
					asked.Add(1)
					switch {
					case err != nil:
						lost.Add(1)
						firstLoss.CompareAndSwap(nil, err.Error())
					case strings.Contains(out, "test/probe:2"):
						updated.Add(1)
					}
				}
			})
		})
	}
	started := time.Now()
	clients.Go(func() {
		defer close(ticks)
		every := time.NewTicker(time.Second / 300)
		defer every.Stop()
		for {
			select {
			case <-stop:
				return
			case <-every.C:
				ticks <- struct{}{}
			}
		}
	})
	h.kubectl("set", "image", "deployment/web", "web=test/probe:2")
	h.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
	h.kubectl("rollout", "undo", "deployment/web")
	h.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
	took := time.Since(started)
	close(stop)
	clients.Wait()
	rate := float64(asked.Load()) / took.Seconds()
	t.Logf("%d requests in %v (%.0f/s), %d lost, %d by the new image", asked.Load(), took.Round(time.Millisecond), rate, lost.Load(), updated.Load())
	if lost.Load() > 0 {
		t.Errorf("lost %d of %d requests, the first: %v", lost.Load(), asked.Load(), firstLoss.Load())
	}
	if rate < 200 || updated.Load() == 0 {
		t.Errorf("%.0f requests/s, %d by the new image: no test of an update under load", rate, updated.Load())
	}
	if out := h.kubectl("rollout", "history", "deployment/web"); !strings.Contains(out, "3") {
		t.Errorf("history:\n%s", out)
	}
	h.says("test/probe:1", "get", "deployment", "web", "-o", "wide")
}

// ask makes one request on a new connection, all of it in this goroutine.
func ask(address string) (string, error) {
	c, err := net.DialTimeout("tcp4", address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
		err = fmt.Errorf("answer %q", answer)
	}
	return string(answer), err
}

func TestWhatPeopleTypeAtADeployment(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.deploy()
	h.kubectl("scale", "deployment/web", "--replicas=5")
	h.says("5/5", "get", "deployment", "web")
	h.kubectl("scale", "deployment/web", "--replicas=1")
	h.says("1/1", "get", "deployment", "web")
	h.kubectl("label", "deployment", "web", "team=blue")
	h.kubectl("annotate", "deployment", "web", "note=hello")
	h.kubectl("patch", "deployment", "web", "-p", `{"spec":{"minReadySeconds":1}}`)
	h.says("blue hello 1", "get", "deployment", "web", "-o", "jsonpath={.metadata.labels.team} {.metadata.annotations.note} {.spec.minReadySeconds}")
	if out := h.kubectl("explain", "deployment.spec.strategy.rollingUpdate.maxSurge"); !strings.Contains(out, "maximum number of pods") {
		t.Errorf("explain:\n%s", out)
	}
	changed := strings.Replace(web, "replicas: 3", "replicas: 2", 1)
	out, err := h.try(strings.NewReader(changed), tools.kubectl, "diff", "-f", "-")
	if err == nil || !strings.Contains(out, "+  replicas: 2") {
		t.Errorf("diff: %v\n%s", err, out)
	}
	h.must(strings.NewReader(changed), tools.kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-")
	h.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "deployment/web", "--timeout=60s")
	if out := h.kubectl("get", "pods", "-l", "app=web", "-o", "wide"); strings.Count(out, "Running") < 2 {
		t.Errorf("pods:\n%s", out)
	}
	h.kubectl("delete", "deployment", "web", "--wait")
	h.until("its pods are collected", func() error {
		if out := h.kubectl("get", "pods", "-l", "app=web", "-o", "name"); out != "" && !strings.Contains(out, "No resources") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	h.kubectl("create", "namespace", "gone")
	h.kubectl("create", "configmap", "c", "-n", "gone", "--from-literal=a=b")
	h.kubectl("delete", "namespace", "gone", "--wait", "--timeout=60s")
}
