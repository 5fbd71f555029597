package node

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/node/pod/podtest"
)

func TestTheNodeRegistersAndRenewsItsLease(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		n, err := client.Get[*corev1.Node](context.Background(), w.api, "", "n1")
		if err != nil {
			t.Fatal(err)
		}
		if n.Labels[corev1.LabelHostname] != "n1" || n.Status.Capacity.Cpu().IsZero() || n.Status.NodeInfo.ContainerRuntimeVersion != "test://1" {
			t.Errorf("node is %+v", n)
		}
		ready := ""
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				ready = c.Reason
			}
		}
		if ready != "KubeletReady" {
			t.Errorf("conditions are %+v", n.Status.Conditions)
		}
		before := len(w.api.Actions())
		w.after(10*time.Minute + time.Second)
		leases, nodes := 0, 0
		for _, a := range w.api.Actions()[before:] {
			if s := a.String(); strings.HasPrefix(s, "update") && strings.Contains(s, "leases") {
				leases++
			} else if strings.HasPrefix(s, "update") && strings.Contains(s, "nodes") {
				nodes++
			}
		}
		if leases != 10 || nodes != 2 {
			t.Errorf("in 10 minutes: %d lease renewals, %d status writes, want 10 and 2: %v", leases, nodes, w.api.Actions()[before:])
		}
	})
}

func TestARestartOfTheAgentRestartsNothing(t *testing.T) {
	r := &podtest.Runtime{}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 60,
				ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		}))
		w.create(aPod("gone"))
		w.after(70 * time.Second)
		before := w.pod("web")
		if condition(before, corev1.PodReady).Status != corev1.ConditionTrue {
			t.Fatalf("not ready before the restart: %+v", before.Status)
		}
		id, calls := r.ID("app"), len(changing(r.Calls()))
		w.stop()
		w.api.Drop(client.KindOf[*corev1.Pod](w.api), "default", "gone")
		for _, left := range []string{"/pods/long-gone", "/logs/pods/default_x_long-gone"} {
			if err := os.MkdirAll(w.dir+left+"/sub", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		w.after(5 * time.Second)
		after := w.pod("web")
		if after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID || after.ResourceVersion != before.ResourceVersion {
			t.Errorf("status changed over the restart:\n%+v\n%+v", before.Status, after.Status)
		}
		for _, c := range changing(r.Calls())[calls:] {
			if strings.HasPrefix(c, "StartContainer") || strings.HasPrefix(c, "RunPodSandbox") {
				t.Errorf("after the restart of the agent: %s", c)
			}
		}
		if boxes, containers := r.Left(); boxes != 1 || containers != 1 {
			t.Errorf("%d sandboxes and %d containers are left, want those of web only (was %s)", boxes, containers, id)
		}
		for _, dir := range []string{"/pods", "/logs/pods"} {
			if left, err := os.ReadDir(w.dir + dir); err != nil || len(left) != 1 {
				t.Errorf("%s has %v, want web's only; %v", dir, left, err)
			}
		}
	})
}

func TestADeletedNodeObjectComesBack(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.api.Drop(client.KindOf[*corev1.Node](w.api), "", "n1")
		synctest.Wait()
		if _, err := client.Get[*corev1.Node](context.Background(), w.api, "", "n1"); err != nil {
			t.Error(err)
		}
	})
}

func TestASlowAPILosesNothing(t *testing.T) {
	var mu sync.Mutex
	down := false
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.api.Before = func(a clienttest.Action) error {
			mu.Lock()
			defer mu.Unlock()
			if down && strings.Contains(a.String(), "status") {
				return errors.New("connection refused")
			}
			return nil
		}
		mu.Lock()
		down = true
		mu.Unlock()
		w.create(aPod("web"))
		w.after(10 * time.Second)
		if got := w.runtime.Running(); !slices.Equal(got, []string{"app"}) {
			t.Fatalf("running while the API is down: %v", got)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		w.after(40 * time.Second)
		if p := w.pod("web"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("status after the API came back: %+v", p.Status)
		}
	})
}
