package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// noneForbidden looks at what the program wrote: each of its parts runs under
// its own user, and has to be allowed what it does.
func (h *host) noneForbidden() {
	h.Helper()
	data, err := os.ReadFile(filepath.Join(h.run, "sampan.log"))
	if err != nil {
		h.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`.*(forbidden|cannot (get|list|watch|create|update|patch|delete) ).*`).FindAllString(string(data), -1) {
		h.Errorf("a part of the program was forbidden what it does: %s", line)
	}
}

func TestEachPartOfTheProgramMayWhatItDoes(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.deploy()
	h.kubectl("create", "namespace", "gone")
	h.kubectl("-n", "gone", "create", "configmap", "c", "--from-literal=a=b")
	h.kubectl("-n", "gone", "create", "secret", "generic", "s", "--from-literal=a=b")
	h.apply(`{apiVersion: v1, kind: Pod, metadata: {name: reads, namespace: gone}, spec: {containers: [{name: c, image: "example/hello:1",
		envFrom: [{secretRef: {name: s}}], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, configMap: {name: c}}]}}`)
	h.kubectl("-n", "gone", "wait", "--for=condition=Ready", "pod/reads", "--timeout=30s")
	h.kubectl("delete", "namespace", "gone", "--timeout=60s")
	h.kubectl("scale", "deployment/web", "--replicas=1")
	h.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	h.kubectl("delete", "deployment/web", "--timeout=60s")
	h.until("the roles are written", func() error {
		_, err := h.try(nil, tools.kubectl, "get", "clusterrole", "system:controller:ttl-controller")
		return err
	})
	h.kill9()
	h.up() // and what reads the stored roles, too
	h.says("Active", "get", "namespaces")
	h.noneForbidden()
}
