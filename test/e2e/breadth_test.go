package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const rich = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, file.txt: from a map}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: sesame}
---
apiVersion: v1
kind: Pod
metadata:
  name: rich
  labels: {tier: gold}
spec:
  terminationGracePeriodSeconds: 3
  initContainers:
  - {name: first, image: "test/probe:1", imagePullPolicy: Never, args: [write, /work/first, done], volumeMounts: [{name: work, mountPath: /work}]}
  - name: side
    image: test/probe:1
    imagePullPolicy: Never
    restartPolicy: Always
    args: [serve]
    startupProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
  - {name: second, image: "test/probe:1", imagePullPolicy: Never, args: [get, "http://127.0.0.1:8080/"]}
  containers:
  - name: main
    image: test/probe:1
    imagePullPolicy: Never
    args: [count]
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: BOTH, value: "$(COLOR)-$(WORD)"}
    resources: {limits: {memory: 64Mi}}
    lifecycle:
      postStart: {exec: {command: [/program, write, /work/started, "yes"]}}
      preStop: {exec: {command: [/program, write, /host/stopped, "yes"]}}
    livenessProbe: {exec: {command: [/program, cat, /work/started]}, periodSeconds: 1}
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: map, mountPath: /map}
    - {name: all, mountPath: /all}
    - {name: host, mountPath: /host}
    - {name: map, mountPath: /one/file, subPath: file.txt}
  - {name: other, image: "test/probe:1", imagePullPolicy: Never, args: [sleep, 1h], volumeMounts: [{name: work, mountPath: /work, readOnly: true}]}
  volumes:
  - {name: work, emptyDir: {}}
  - {name: map, configMap: {name: settings}}
  - {name: host, hostPath: {path: %s, type: Directory}}
  - name: all
    projected:
      sources:
      - secret: {name: hidden}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
`

// A pod that uses most of what a pod can.
func TestAPodWithEverything(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	dir := t.TempDir()
	h.apply(fmt.Sprintf(rich, dir))
	h.kubectl("wait", "--for=condition=Ready", "pod/rich", "--timeout=60s")
	in := func(container string, args ...string) string {
		h.Helper()
		return h.kubectl(append([]string{"exec", "rich", "-c", container, "--", "/program"}, args...)...)
	}
	for _, c := range []struct{ it, got, want string }{
		{"variables", in("main", "env", "COLOR", "WORD", "LIMIT", "BOTH"), "COLOR=blue\nWORD=sesame\nLIMIT=64\nBOTH=blue-sesame\n"},
		{"an init container's file", in("main", "cat", "/work/first"), "done"},
		{"a file shared between containers", in("other", "cat", "/work/first"), "done"},
		{"the postStart hook", in("main", "cat", "/work/started"), "yes"},
		{"a map as files", in("main", "cat", "/map/file.txt"), "from a map"},
		{"one file of it", in("main", "cat", "/one/file"), "from a map"},
		{"a projected secret", in("main", "cat", "/all/word"), "sesame"},
		{"projected labels", in("main", "cat", "/all/labels"), `tier="gold"`},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.it, c.got, c.want)
		}
	}
	if token := in("main", "cat", "/all/token"); strings.Count(token, ".") != 2 {
		t.Errorf("token: %q", token)
	}
	h.fails("read-only", tools.kubectl, "exec", "rich", "-c", "other", "--", "/program", "write", "/work/x", "y")

	h.kubectl("patch", "configmap", "settings", "-p", `{"data":{"file.txt":"changed"}}`)
	h.until("the changed map", func() error {
		if got := in("main", "cat", "/map/file.txt"); got != "changed" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if out := h.kubectl("get", "pod", "rich"); !strings.Contains(out, "3/3") {
		t.Errorf("pod:\n%s", out)
	}
	h.kubectl("delete", "pod", "rich", "--wait")
	if data, err := os.ReadFile(filepath.Join(dir, "stopped")); err != nil || string(data) != "yes" {
		t.Errorf("the preStop hook: %q, %v", data, err)
	}
}

func TestProbesActOnWhatTheySee(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	pod := func(name, probe string) string {
		return strings.Replace(fmt.Sprintf(probePod, name, "count"), "    env:\n", "    "+probe+"\n    env:\n", 1)
	}
	h.apply(pod("deaf", "readinessProbe: {tcpSocket: {port: 9}, periodSeconds: 1}"))
	h.apply(pod("sick", "livenessProbe: {exec: {command: [/program, exit, \"1\", ill]}, periodSeconds: 1, failureThreshold: 1}"))
	h.says("Readiness probe failed", "describe", "pod", "deaf")
	h.says("0/1", "get", "pod", "deaf")
	h.says("Liveness probe failed: ill", "describe", "pod", "sick")
	h.says("will be restarted", "describe", "pod", "sick")
	h.until("a restart", func() error {
		out := h.kubectl("get", "pod", "sick", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
		if out == "0" || out == "" {
			return fmt.Errorf("restarts: %q", out)
		}
		return nil
	})
}

func TestMemoryLimitsAndWhyAPodWaits(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(strings.Replace(fmt.Sprintf(probePod, "greedy", `"eat", "200"`), "\nspec:\n", "\nspec:\n  restartPolicy: Never\n", 1))
	h.says("OOMKilled", "get", "pod", "greedy")

	h.apply(strings.Replace(fmt.Sprintf(probePod, "huge", "count"), "limits: {cpu: 200m", "requests: {cpu: 500}, limits: {cpu: 500", 1))
	h.says("Insufficient cpu", "describe", "pod", "huge")
	if out := h.sampan("why", "pod", "huge"); !strings.Contains(out, "Insufficient cpu (NodeResourcesFit)") {
		t.Errorf("why:\n%s", out)
	}
	h.apply(strings.ReplaceAll(web, "test/probe:1", "test/absent:1"))
	h.until("why", func() error {
		out := h.sampan("why", "deployment", "web")
		if !strings.Contains(out, "ErrImageNeverPull") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	h.fails("no kind has that name", tools.sampan, h.args("why", "thing", "x")...)
}
