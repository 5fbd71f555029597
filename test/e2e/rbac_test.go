package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

func TestUsersMayWhatTheirRolesGive(t *testing.T) {
	h := newHost(t)
	h.up()
	h.fails(`User "ann" cannot list resource "pods" in API group "" in the namespace "default"`, tools.kubectl, "--as=ann", "get", "pods")
	h.kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=pods,pods/log")
	h.kubectl("create", "rolebinding", "ann", "--role=reader", "--user=ann")
	h.kubectl("--as=ann", "get", "pods")
	for ask, want := range map[string]string{"list pods": "yes", "get pods/x --subresource=log": "yes", "delete pods": "no", "list pods -n kube-system": "no"} {
		out, _ := h.try(nil, tools.kubectl, append([]string{"--as=ann", "auth", "can-i"}, strings.Fields(ask)...)...)
		if !strings.HasPrefix(out, want) {
			t.Errorf("may ann %s: %q, want %s", ask, out, want)
		}
	}
	if out := h.kubectl("--as=ann", "auth", "can-i", "--list"); !strings.Contains(out, "pods/log") || !strings.Contains(out, "selfsubjectaccessreviews.authorization.k8s.io") {
		t.Errorf("what ann may:\n%s", out)
	}

	// A role gathered from others is gathered anew when one comes.
	h.kubectl("create", "clusterrolebinding", "bob", "--clusterrole=view", "--user=bob")
	h.until("bob sees what view gives", func() error {
		_, err := h.try(nil, tools.kubectl, "--as=bob", "get", "deployments", "-A")
		return err
	})
	h.apply(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: more, labels: {rbac.authorization.k8s.io/aggregate-to-view: "true"}},
		rules: [{apiGroups: [""], resources: [nodes], verbs: [get, list]}]}`)
	h.until("bob sees what was added to view", func() error {
		_, err := h.try(nil, tools.kubectl, "--as=bob", "get", "nodes")
		return err
	})

	// Nobody gives what he has not.
	h.kubectl("create", "clusterrolebinding", "cat", "--clusterrole=admin", "--user=cat")
	h.until("cat may make roles", func() error {
		_, err := h.try(nil, tools.kubectl, "--as=cat", "create", "role", "pods", "--verb=get", "--resource=pods")
		return err
	})
	h.fails(`is attempting to grant RBAC permissions not currently held`, tools.kubectl, "--as=cat",
		"create", "role", "nodes", "--verb=delete", "--resource=nodes")
	h.fails(`is attempting to grant RBAC permissions not currently held`, tools.kubectl, "--as=cat",
		"create", "rolebinding", "mine", "--clusterrole=cluster-admin", "--user=cat")
	h.fails(`rolebindings.rbac.authorization.k8s.io "nowhere" not found`, tools.kubectl, "--as=cat",
		"create", "rolebinding", "mine", "--clusterrole=nowhere", "--user=cat")
	h.noneForbidden()
}
