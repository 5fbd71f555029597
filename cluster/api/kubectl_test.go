package api_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "nginx:1"}
`

// TestKubectl drives the real kubectl. Steps build on each other; "!" marks
// one that must fail.
func TestKubectl(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		args, stdin string
		says        []string
	}{
		{args: "create namespace default", says: []string{"namespace/default created"}},
		{args: "version", says: []string{"Server Version: v1.37.2+sampan"}},
		{args: "api-resources", says: []string{"configmaps", "cm", "deployments", "selfsubjectaccessreviews"}},
		{args: "apply -f -", stdin: deployment, says: []string{"deployment.apps/web created"}},
		{args: "apply -f -", stdin: deployment, says: []string{"deployment.apps/web unchanged"}},
		{args: "apply -f -", stdin: strings.ReplaceAll(deployment, "replicas: 3", "replicas: 4"), says: []string{"deployment.apps/web configured"}},
		{args: "get deployment web -o jsonpath={.spec.replicas}", says: []string{"4"}},
		{args: "get deploy", says: []string{"NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "web", "0/4"}},
		{args: "get deploy -o wide", says: []string{"CONTAINERS", "IMAGES", "SELECTOR", "nginx:1"}},
		{args: "get deploy web -o yaml", says: []string{"kind: Deployment", "progressDeadlineSeconds: 600"}},
		{args: "get deploy,ns,svc -A", says: []string{"deployment.apps/web", "namespace/default"}},
		{args: "scale deploy web --replicas=2", says: []string{"scaled"}},
		{args: "get deploy web -o jsonpath={.spec.replicas}", says: []string{"2"}},
		{args: "label deploy web tier=front", says: []string{"labeled"}},
		{args: "annotate deploy web note=x", says: []string{"annotated"}},
		{args: `patch deploy web --type=json -p [{"op":"replace","path":"/spec/replicas","value":5}]`, says: []string{"patched"}},
		{args: `patch deploy web --type=merge -p {"spec":{"replicas":6}}`, says: []string{"patched"}},
		{args: `patch deploy web -p {"spec":{"template":{"spec":{"containers":[{"name":"main","image":"nginx:2"}]}}}}`, says: []string{"patched"}},
		{args: "get deploy -l tier=front -o name", says: []string{"deployment.apps/web"}},
		{args: "get deploy -l tier=back", says: []string{"No resources found"}},
		{args: "set image deploy/web main=nginx:3", says: []string{"image updated"}},
		{args: "apply --server-side --field-manager=other -f -", stdin: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"by":"other"}}}`, says: []string{"serverside-applied"}},
		{args: "!apply --server-side --field-manager=third -f -", stdin: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"by":"third"}}}`, says: []string{"conflict"}},
		{args: "explain deploy.spec.replicas", says: []string{"FIELD: replicas <integer>", "DESCRIPTION"}},
		{args: "explain pod.spec.containers", says: []string{"FIELDS:", "image", "<string>"}},
		{args: "!diff -f -", stdin: deployment, says: []string{"-  replicas: 6", "+  replicas: 3"}},
		{args: "!apply -f -", stdin: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"bad"},"spec":{"replcas":3}}`, says: []string{`unknown field "spec.replcas"`}},
		{args: "create configmap c --from-literal=a=b", says: []string{"configmap/c created"}},
		{args: "create configmap c2 --from-literal=a=b --dry-run=server", says: []string{"created (server dry run)"}},
		{args: "!get configmap c2", says: []string{`Error from server (NotFound): configmaps "c2" not found`}},
		{args: "!create configmap c --from-literal=a=b", says: []string{`configmaps "c" already exists`}},
		{args: "wait deploy/web --for=jsonpath={.spec.replicas}=6 --timeout=5s", says: []string{"condition met"}},
		{args: "wait cm/c --for=create --timeout=5s", says: []string{"condition met"}},
		{args: "auth can-i create pods", says: []string{"yes"}},
		{args: "!auth can-i create pods --as=bob", says: []string{"no"}},
		{args: "auth can-i --list", says: []string{"*.*"}},
		{args: "auth whoami", says: []string{"admin", "system:masters", "system:authenticated"}},
		{args: "create serviceaccount sa", says: []string{"created"}},
		{args: "create token sa", says: []string{"eyJ"}},
		{args: "describe deploy web", says: []string{"Name:", "web", "Replicas:", "nginx:3"}},
		{args: "rollout history deploy web", says: []string{"deployment.apps/web"}},
		{args: "get --raw /readyz?verbose", says: []string{"[+]ping ok", "readyz check passed"}},
		{args: "get --raw /metrics", says: []string{"apiserver_request_total"}},
		{args: "replace -f -", stdin: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"c"}}`, says: []string{"replaced"}},
		{args: "delete configmap c", says: []string{`configmap "c" deleted`}},
		{args: "delete deploy web", says: []string{`deployment.apps "web" deleted`}},
		{args: "!get nothing", says: []string{`the server doesn't have a resource type "nothing"`}},
	} {
		args, fails := strings.CutPrefix(step.args, "!")
		t.Run(step.args, func(t *testing.T) {
			out, err := w.kubectl(step.stdin, strings.Fields(args)...)
			if (err != nil) != fails {
				t.Errorf("err = %v: %s", err, out)
			}
			for _, text := range step.says {
				if !strings.Contains(out, text) {
					t.Errorf("says\n%s\nwithout %q", out, text)
				}
			}
		})
	}
}

func TestKubectlWatches(t *testing.T) {
	w := newWorld(t)
	w.configMap("first", "1")
	cmd := exec.CommandContext(t.Context(), "kubectl", "get", "configmaps", "-n", "shop", "-w")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.kubeconfig(), "HOME="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	lines := bufio.NewScanner(out)
	for _, want := range []string{"NAME DATA AGE", "first 1 "} {
		if !lines.Scan() || !strings.HasPrefix(strings.Join(strings.Fields(lines.Text()), " ")+" ", want) {
			t.Fatalf("got %q, want %q", lines.Text(), want)
		}
	}
	w.configMap("second", "1")
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "second ") {
		t.Errorf("got %q, want the second", lines.Text())
	}
}

// TestKubectlValidates has kubectl ask the document of version 2, as it does for
// what cannot be patched: it validates lists and reviews itself.
func TestKubectlValidates(t *testing.T) {
	w := newWorld(t)
	if _, err := w.kubectl("", "create", "namespace", "default"); err != nil {
		t.Fatal(err)
	}
	const (
		list   = `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"a":"b"}}]}`
		review = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"x"}}`
	)
	for _, step := range []struct{ args, stdin, says string }{
		{"apply --validate=strict -f -", list, "secret/s created"},
		{"replace -f -", list, "secret/s replaced"},
		{"!replace -f -", strings.Replace(list, "stringData", "strings", 1), `ValidationError(Secret): unknown field "strings" in io.k8s.api.core.v1.Secret`},
		{"create -f -", review, "tokenreview.authentication.k8s.io/<unknown> created"},
		{"!create -f -", strings.Replace(review, "token\"", "nope\"", 1), `ValidationError(TokenReview.spec): unknown field "nope"`},
		{"explain tokenreview.spec.token", "", "FIELD: token <string>"},
		{"explain cs.conditions.type", "", "FIELD: type <string>"},
	} {
		args, fails := strings.CutPrefix(step.args, "!")
		if out, err := w.kubectl(step.stdin, strings.Fields(args)...); (err != nil) != fails || !strings.Contains(out, step.says) {
			t.Errorf("%s %s: %v: says\n%s\nwithout %q", step.args, step.stdin, err, out, step.says)
		}
	}
}
