package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
)

const jobs = `
apiVersion: batch/v1
kind: Job
metadata: {name: good}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "test/probe:1", imagePullPolicy: Never, args: [env, JOB_COMPLETION_INDEX]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "test/probe:1", imagePullPolicy: Never, args: [exit, "3"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: yearly}
spec:
  schedule: "0 0 1 1 *"
  timeZone: Asia/Shanghai
  jobTemplate:
    spec:
      ttlSecondsAfterFinished: 0
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: c, image: "test/probe:1", imagePullPolicy: Never, args: ["true"]}]
`

func TestJobsEnd(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(jobs)
	h.kubectl("wait", "job/good", "--for=condition=complete", "--timeout=60s")
	h.kubectl("wait", "job/bad", "--for=condition=failed", "--timeout=60s")
	out := h.kubectl("get", "jobs")
	for _, row := range [][]string{{"good", "Complete", "3/3"}, {"bad", "Failed", "0/1"}} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(row, " ")) {
			t.Errorf("no %v in\n%s", row, out)
		}
	}
	if got := h.kubectl("get", "job", "good", "-o", "jsonpath={.status.completedIndexes} {.status.succeeded}"); got != "0-2 3" {
		t.Errorf("completed %q", got)
	}
	if got := h.kubectl("logs", "-l", "batch.kubernetes.io/job-completion-index=1"); !strings.Contains(got, "JOB_COMPLETION_INDEX=1") {
		t.Errorf("the pod does not know its index:\n%s", got)
	}
	h.says("Job has reached the specified backoff limit", "describe", "job", "bad")

	// A job that expires at once takes its pods along.
	h.kubectl("create", "job", "now", "--from=cronjob/yearly")
	h.kubectl("wait", "job/now", "--for=delete", "--timeout=60s")
	h.says("No resources found", "get", "pods", "-l", "job-name=now")
	h.kubectl("delete", "job", "good", "bad")
	h.says("No resources found", "get", "pods")
}

const guarded = `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "test/probe:1", imagePullPolicy: Never, args: [serve]}]
`

func TestADrainStopsAtTheBudget(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(guarded)
	h.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	h.says("1", "get", "pdb", "web", "-o", "jsonpath={.status.disruptionsAllowed}")
	node := h.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	// One may go; its replacement finds no node, so the other has to stay.
	h.fails("Cannot evict pod as it would violate the pod's disruption budget", tools.kubectl, "drain", node, "--ignore-daemonsets", "--force", "--timeout=6s")
	h.kubectl("delete", "pdb", "web")
	h.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=60s")
	h.kubectl("uncordon", node)
	h.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
}

func TestCertificatesAreApprovedAndSigned(t *testing.T) {
	h := newHost(t)
	h.up()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ann", Organization: []string{"people"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	asked := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	h.apply(fmt.Sprintf(`{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: ann}, spec: {request: %s, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}`, asked))
	h.says("Pending", "get", "csr", "ann")
	h.kubectl("certificate", "approve", "ann")
	h.says("Approved,Issued", "get", "csr", "ann")
	data, err := base64.StdEncoding.DecodeString(h.kubectl("get", "csr", "ann", "-o", "jsonpath={.status.certificate}"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if made, err := x509.ParseCertificate(block.Bytes); err != nil || made.Subject.CommonName != "ann" || !key.PublicKey.Equal(made.PublicKey) {
		t.Errorf("signed %+v, %v", made, err)
	}
	h.says("kubernetes.io:kube-apiserver-serving:", "get", "clustertrustbundles")
}
