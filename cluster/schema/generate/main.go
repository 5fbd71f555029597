// Command generate makes schema.zip: the OpenAPI definitions of k8s.io/api,
// one entry per Go package and use. It is run by `go generate` in
// cluster/schema, needs the go command and the module cache, and no network.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// packages are the API groups that the program serves or will serve.
var packages = []string{
	"k8s.io/api/admissionregistration/v1", "k8s.io/api/apps/v1", "k8s.io/api/authentication/v1",
	"k8s.io/api/authorization/v1", "k8s.io/api/autoscaling/v1", "k8s.io/api/autoscaling/v2",
	"k8s.io/api/batch/v1", "k8s.io/api/certificates/v1", "k8s.io/api/coordination/v1",
	"k8s.io/api/core/v1", "k8s.io/api/discovery/v1", "k8s.io/api/events/v1",
	"k8s.io/api/flowcontrol/v1", "k8s.io/api/networking/v1", "k8s.io/api/node/v1",
	"k8s.io/api/policy/v1", "k8s.io/api/rbac/v1", "k8s.io/api/resource/v1",
	"k8s.io/api/scheduling/v1", "k8s.io/api/scheduling/v1alpha3", "k8s.io/api/storage/v1",
	"k8s.io/api/storagemigration/v1",
	"k8s.io/apimachinery/pkg/api/resource", "k8s.io/apimachinery/pkg/apis/meta/v1",
	"k8s.io/apimachinery/pkg/runtime", "k8s.io/apimachinery/pkg/util/intstr",
	"k8s.io/apimachinery/pkg/version", "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1",
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1",

	// Those of old versions (cluster/kind/oldversion).
	"k8s.io/api/admissionregistration/v1beta1", "k8s.io/api/apps/v1beta1", "k8s.io/api/apps/v1beta2",
	"k8s.io/api/authentication/v1beta1", "k8s.io/api/authorization/v1beta1", "k8s.io/api/batch/v1beta1",
	"k8s.io/api/certificates/v1beta1", "k8s.io/api/coordination/v1beta1", "k8s.io/api/discovery/v1beta1",
	"k8s.io/api/events/v1beta1", "k8s.io/api/extensions/v1beta1", "k8s.io/api/flowcontrol/v1beta1",
	"k8s.io/api/flowcontrol/v1beta2", "k8s.io/api/flowcontrol/v1beta3", "k8s.io/api/networking/v1beta1",
	"k8s.io/api/node/v1beta1", "k8s.io/api/policy/v1beta1", "k8s.io/api/rbac/v1alpha1", "k8s.io/api/rbac/v1beta1",
	"k8s.io/api/scheduling/v1beta1", "k8s.io/api/storage/v1beta1",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1", "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1",
}

func main() {
	out := "schema.zip"
	if len(os.Args) > 1 {
		out = os.Args[1]
	}
	if err := run(out); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run works in a package that exists only meanwhile, beside this one, since
// what openapi-gen writes has to be compiled against this module's versions.
func run(out string) error {
	root, err := output("go", "list", "-f", "{{.Dir}}", "sampan/cluster/schema/generate")
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "definitions")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	header := filepath.Join(dir, "header.txt")
	if err := os.WriteFile(header, nil, 0o644); err != nil {
		return err
	}
	args := []string{"tool", "openapi-gen",
		"--output-dir", dir, "--output-pkg", "definitions", "--output-file", "definitions_gen.go",
		"--go-header-file", header, "--report-filename", filepath.Join(dir, "violations.txt"),
		"--output-model-name-file", "zz_generated.model_name.go"}
	for _, p := range packages {
		args = append(args, "--readonly-pkg", p)
	}
	if _, err := output("go", append(args, packages...)...); err != nil {
		return err
	}
	from, err := output("go", "list", "-m", "k8s.io/api", "k8s.io/apimachinery", "k8s.io/kube-openapi")
	if err != nil {
		return err
	}
	_, err = output("go", "run", "-tags", "definitions", "sampan/cluster/schema/generate/pack", out, from)
	return err
}

func output(name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	data, err := c.Output()
	for len(data) > 0 && data[len(data)-1] == '\n' {
		data = data[:len(data)-1]
	}
	return string(data), err
}
