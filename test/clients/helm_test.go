package clients

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patience bounds what helm waits for.
const patience = 4 * time.Minute

// helm is a user of helm's library on a host.
type helm struct {
	*host
	chart chart.Charter
}

func newHelm(t *testing.T) *helm {
	t.Helper()
	c, err := loader.Load("testdata/chart")
	if err != nil {
		t.Fatal(err)
	}
	return &helm{newHost(t), c}
}

// config is what one call of the helm command begins with.
func (h *helm) config() *action.Configuration {
	h.Helper()
	namespace := "default"
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &h.kubeconfig, &namespace
	c := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := c.Init(flags, namespace, "secret"); err != nil {
		h.Fatal(err)
	}
	return c
}

func (h *helm) install(name string, values map[string]any, serverSide bool) error {
	i := action.NewInstall(h.config())
	i.ReleaseName, i.Namespace, i.Timeout, i.WaitStrategy, i.WaitForJobs = name, "default", patience, kube.StatusWatcherStrategy, true
	i.ServerSideApply = serverSide
	_, err := i.RunWithContext(h.Context(), h.chart, values)
	return err
}

func (h *helm) upgrade(name string, values map[string]any, atomic bool) error {
	u := action.NewUpgrade(h.config())
	u.Namespace, u.Timeout, u.WaitStrategy, u.WaitForJobs, u.RollbackOnFailure = "default", patience, kube.StatusWatcherStrategy, true, atomic
	_, err := u.RunWithContext(h.Context(), name, h.chart, values)
	return err
}

// history is the state of each revision, the oldest first.
func (h *helm) history(name string) (all []string) {
	h.Helper()
	revisions, err := action.NewHistory(h.config()).Run(name)
	if err != nil {
		h.Fatal(err)
	}
	for _, r := range revisions {
		a, err := release.NewAccessor(r)
		if err != nil {
			h.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %s", a.Version(), a.Status()))
	}
	return all
}

// is checks what of a release is there, when all that is to go has gone.
func (h *helm) is(name, image string, replicas int32, berths int, history ...string) {
	h.Helper()
	if got := h.history(name); strings.Join(got, ", ") != strings.Join(history, ", ") {
		h.Errorf("history %q, want %q", got, history)
	}
	h.until("the release is as it should be", func() error {
		d := get(h.host, &appsv1.Deployment{}, name)
		if got := d.Spec.Template.Spec.Containers[0].Image; got != image || *d.Spec.Replicas != replicas || d.Status.AvailableReplicas != replicas ||
			d.Status.UpdatedReplicas != replicas {
			return fmt.Errorf("the deployment runs %s, %d replicas; want %s, %d, all available: %+v", got, *d.Spec.Replicas, image, replicas, d.Status)
		}
		if got := get(h.host, &corev1.ConfigMap{}, name).Data["BERTHS"]; got != fmt.Sprint(berths) {
			return fmt.Errorf("the config says %s berths, want %d", got, berths)
		}
		if got := h.berths(); len(got) != berths {
			return fmt.Errorf("%d berths, want %d", len(got), berths)
		}
		return nil
	})
}

func (h *helm) berths() []unstructured.Unstructured {
	h.Helper()
	var list unstructured.UnstructuredList
	list.SetAPIVersion("harbour.test/v1")
	list.SetKind("BerthList")
	if err := h.List(h.Context(), &list, client.InNamespace("default")); err != nil {
		h.Fatal(err)
	}
	return list.Items
}

// ran checks that a hook's job has succeeded.
func (h *helm) ran(job string) *batchv1.Job {
	h.Helper()
	j := get(h.host, &batchv1.Job{}, job)
	if j.Status.Succeeded != 1 {
		h.Errorf("the job %s has not succeeded: %+v", job, j.Status)
	}
	return j
}

func TestAReleaseLivesFromInstallToUninstall(t *testing.T) {
	h := newHelm(t)

	if err := h.install("sea", nil, true); err != nil {
		t.Fatal("install: ", err)
	}
	h.is("sea", "test/probe:1", 2, 3, "1 deployed")
	prepared, deployed := h.ran("sea-prepare").Status.CompletionTime, get(h.host, &appsv1.Deployment{}, "sea")
	if prepared.After(deployed.CreationTimestamp.Time) {
		t.Errorf("the hook before the install ended at %s, the deployment was made at %s", prepared, deployed.CreationTimestamp)
	}
	if covered, found, err := unstructured.NestedBool(h.berths()[0].Object, "spec", "covered"); covered || !found || err != nil {
		t.Errorf("the default of the definition was not filled in: %v, %v", found, err)
	}
	if managers := deployed.ManagedFields; len(managers) == 0 || managers[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("the deployment was not applied by the server: %+v", managers)
	}
	test := action.NewReleaseTesting(h.config())
	test.Namespace, test.Timeout = "default", patience
	_, end, err := test.Run("sea")
	if err != nil {
		t.Error("helm test: ", err)
	}
	if end != nil {
		if err := end(); err != nil {
			t.Error("end of helm test: ", err)
		}
	}

	if err := h.upgrade("sea", map[string]any{"image": "test/probe:2", "replicas": 3, "berths": 1}, false); err != nil {
		t.Fatal("upgrade: ", err)
	}
	h.is("sea", "test/probe:2", 3, 1, "1 superseded", "2 deployed")
	h.ran("sea-migrate")

	err = h.upgrade("sea", map[string]any{"image": "test/probe:1", "berths": 4, "migration": []string{"exit", "1", "no way"}}, true)
	if err == nil || !strings.Contains(err.Error(), "sea-migrate") && !strings.Contains(err.Error(), "post-upgrade") {
		t.Errorf("an upgrade whose hook fails: %v", err)
	}
	h.is("sea", "test/probe:2", 3, 1, "1 superseded", "2 superseded", "3 failed", "4 deployed")

	back := action.NewRollback(h.config())
	back.Version, back.Timeout, back.WaitStrategy, back.WaitForJobs = 1, patience, kube.StatusWatcherStrategy, true
	if err := back.Run("sea"); err != nil {
		t.Fatal("rollback: ", err)
	}
	h.is("sea", "test/probe:1", 2, 3, "1 superseded", "2 superseded", "3 failed", "4 superseded", "5 deployed")

	away := action.NewUninstall(h.config())
	away.Timeout, away.WaitStrategy, away.DeletionPropagation = patience, kube.StatusWatcherStrategy, "foreground"
	if _, err := away.Run("sea"); err != nil {
		t.Fatal("uninstall: ", err)
	}
	for _, gone := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &corev1.ConfigMap{}} {
		// helm may stop waiting before it has heard of all of them once.
		h.until("what was installed goes", func() error {
			err := h.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "sea"}, gone)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("get %T: %v", gone, err)
		})
	}
	h.until("the berths go", func() error {
		if left := h.berths(); len(left) > 0 {
			return fmt.Errorf("there are %d", len(left))
		}
		return nil
	})
	get(h.host, &apiextensionsv1.CustomResourceDefinition{}, "berths.harbour.test") // helm never deletes definitions
	if _, err := action.NewHistory(h.config()).Run("sea"); err == nil {
		t.Error("after uninstall the history is there still")
	}
}

func TestAFailureOfAnInstall(t *testing.T) {
	h := newHelm(t)
	i := action.NewInstall(h.config())
	i.ReleaseName, i.Namespace, i.Timeout, i.WaitStrategy, i.RollbackOnFailure = "bad", "default", patience, kube.StatusWatcherStrategy, true

	_, err := i.RunWithContext(t.Context(), h.chart, map[string]any{"replicas": 0})
	if err == nil || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("values that the chart's schema refuses: %v", err)
	}
	if err := h.install("Bad", nil, true); err == nil {
		t.Error("a release name that is none was taken")
	}

	// Client-side apply, as helm 3 did it: three-way patches instead of apply.
	if err := h.install("old", map[string]any{"berths": 1}, false); err != nil {
		t.Fatal("install without server-side apply: ", err)
	}
	if err := h.upgrade("old", map[string]any{"berths": 2, "replicas": 1}, false); err != nil {
		t.Fatal("upgrade without server-side apply: ", err)
	}
	h.is("old", "test/probe:1", 1, 2, "1 superseded", "2 deployed")
}
