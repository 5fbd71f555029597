package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/internal/fault"
	"sampan/node/pod"
	"sampan/node/pod/podtest"
)

type onePod struct {
	pod   *corev1.Pod
	ended chan struct{}
}

func (o *onePod) Pods() []*corev1.Pod { return []*corev1.Pod{o.pod} }

func (o *onePod) Pod(namespace, name string, uid types.UID) (*corev1.Pod, error) {
	if namespace != o.pod.Namespace || name != o.pod.Name || uid != "" && uid != o.pod.UID {
		return nil, &fault.Error{Class: fault.NotFound, Op: "find pod", On: name}
	}
	return o.pod, nil
}

func (o *onePod) Ended(context.Context, types.UID, string) <-chan struct{} { return o.ended }

func (o *onePod) Explain(context.Context, types.UID) []string {
	return []string{"phase Running", "all is well"}
}

const when = "2026-11-21T12:00:0%d.000000000Z"

// serve is the API of a node with one pod whose container app runs for the
// second time; its logs are two files.
func serve(t *testing.T) (*httptest.Server, *onePod, string) {
	t.Helper()
	dir, runtime := t.TempDir(), &podtest.Runtime{}
	ctx := context.Background()
	labels := map[string]string{"io.kubernetes.pod.uid": "u"}
	box, err := runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p"}, Labels: labels}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: box.PodSandboxId, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "app", Attempt: 1}, Image: &runtimeapi.ImageSpec{}, Labels: labels}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
		{Name: "app", RestartCount: 1, ContainerID: "test://" + made.ContainerId, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "test://old"}}},
		{Name: "new", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}},
		{Name: "bad", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
	}}}
	logs := filepath.Join(pod.LogDirectory(dir, "ns", "p", "u"), "app")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		if err := os.WriteFile(filepath.Join(logs, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	line := func(s int, stream, tag, text string) string {
		return fmt.Sprintf(when+" %s %s %s\n", s, stream, tag, text)
	}
	write("0.log", line(0, "stdout", "F", "first life"))
	write("1.log", line(1, "stdout", "F", "one")+line(2, "stderr", "F", "two")+line(3, "stdout", "P", "thr")+line(3, "stdout", "F", "ee"))
	o := &onePod{pod: p, ended: make(chan struct{})}
	s := httptest.NewServer(New(Config{Pods: o, Runtime: runtime, LogDir: dir, NodeName: "n1"}))
	t.Cleanup(s.Close)
	return s, o, filepath.Join(logs, "1.log")
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestLogsAreReadAsAsked(t *testing.T) {
	s, _, _ := serve(t)
	for query, want := range map[string]string{
		"":                                  "one\ntwo\nthree\n",
		"?tailLines=1":                      "three\n",
		"?tailLines=0":                      "",
		"?previous=true":                    "first life\n",
		"?timestamps=true&tailLines=2":      fmt.Sprintf(when+" two\n"+when+" three\n", 2, 3),
		"?limitBytes=5":                     "one\nt",
		"?sinceTime=2026-11-21T12:00:02Z":   "two\nthree\n",
		"?stream=Stderr":                    "two\n",
		"?sinceTime=2026-11-21T12:00:02.5Z": "three\n",
	} {
		if code, got := get(t, s.URL+"/containerLogs/ns/p/app"+query); code != 200 || got != want {
			t.Errorf("%s: %d %q, want %q", query, code, got, want)
		}
	}
}

func TestLogsThatCannotBeHadSayWhy(t *testing.T) {
	s, _, _ := serve(t)
	for path, want := range map[string]string{
		"/containerLogs/ns/p/new":               `400 container "new" in pod "p" is waiting to start: ContainerCreating`,
		"/containerLogs/ns/p/bad":               `400 container "bad" in pod "p" is waiting to start: trying and failing to pull image`,
		"/containerLogs/ns/p/new?previous=true": `400 previous terminated container "new" in pod "p" not found`,
		"/containerLogs/ns/p/app?tailLines=-1":  `400 unable to decode query: tailLines="-1"`,
		"/containerLogs/ns/none/app":            `404 find pod none: not found`,
		"/exec/ns/p/new?command=x&output=1":     `404 find running container new: container not found ("new")`,
	} {
		code, body := get(t, s.URL+path)
		if got := fmt.Sprintf("%d %s", code, strings.TrimSpace(body)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestLogsAreFollowedUntilTheContainerEnds(t *testing.T) {
	s, o, path := serve(t)
	r, err := http.Get(s.URL + "/containerLogs/ns/p/app?follow=true&tailLines=1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	first := make([]byte, 6)
	if _, err := io.ReadFull(r.Body, first); err != nil || string(first) != "three\n" {
		t.Fatalf("%q %v", first, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, when+" stdout F four\n", 4)
	f.Close()
	next := make([]byte, 5)
	if _, err := io.ReadFull(r.Body, next); err != nil || string(next) != "four\n" {
		t.Fatalf("%q %v", next, err)
	}
	close(o.ended)
	if rest, err := io.ReadAll(r.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q %v", rest, err)
	}
}

func TestExecAndAttachStreamOverSPDY(t *testing.T) {
	s, o, _ := serve(t)
	id := strings.TrimPrefix(o.pod.Status.ContainerStatuses[0].ContainerID, "test://")
	for path, want := range map[string]string{
		"/exec/ns/p/app?command=cat&command=-u&input=1&output=1": id + " [\"cat\" \"-u\"]\nhello",
		"/attach/ns/p/u/app?input=1&output=1":                    id + " []\nhello",
	} {
		u, err := url.Parse(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		e, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: s.URL}, "POST", u)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out}); err != nil || out.String() != want {
			t.Errorf("%s: %q %v, want %q", path, out.String(), err, want)
		}
		cancel()
	}
}

func TestPortsAreForwardedOverSPDY(t *testing.T) {
	s, _, _ := serve(t)
	u, err := url.Parse(s.URL + "/portForward/ns/p")
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u).Dial("portforward.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := http.Header{"Streamtype": {"error"}, "Port": {"80"}, "Requestid": {"1"}}
	failed, err := conn.CreateStream(h)
	if err != nil {
		t.Fatal(err)
	}
	h = http.Header{"Streamtype": {"data"}, "Port": {"80"}, "Requestid": {"1"}}
	data, err := conn.CreateStream(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(data); err != nil || string(back) != "ping" {
		t.Errorf("%q %v", back, err)
	}
	if text, err := io.ReadAll(failed); len(text) > 0 || err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("error stream: %q %v", text, err)
	}
}

func TestPodsFiguresAndHealth(t *testing.T) {
	s, _, _ := serve(t)
	for path, want := range map[string]string{
		"/healthz": "ok", "/why/ns/p": "phase Running\nall is well\n", "/pods": `"kind":"PodList"`, "/stats/summary": `"nodeName":"n1"`, "/metrics": "kubelet_running_containers 1\n",
	} {
		if code, body := get(t, s.URL+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
}
