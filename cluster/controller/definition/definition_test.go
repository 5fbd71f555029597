package definition_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/definition"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/core"
)

// world is a cluster with the controller running.
type world struct{ controllertest.World }

func run(t *testing.T, f func(w world), objs ...kind.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), apiextensions.Kinds()), objs...)}
		w.Validate = false
		w.Start(definition.New(definition.Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		time.Sleep(time.Second)
		f(w)
	})
}

// asked is a definition of what stands in for a custom kind: config maps of a
// group of their own.
func asked() *apiextensionsv1.CustomResourceDefinition {
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "crontabs.example.com", UID: "1", ResourceVersion: "1"}}
	d.Spec.Group = "example.com"
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: "crontabs", Singular: "crontab", Kind: "CronTab", ListKind: "CronTabList"}
	return d
}

func (w world) definition() *apiextensionsv1.CustomResourceDefinition {
	w.Helper()
	time.Sleep(time.Second)
	d, err := client.Get[*apiextensionsv1.CustomResourceDefinition](context.Background(), w, "", "crontabs.example.com")
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// serve puts the kind into the table, as package crd does.
func (w world) serve() *kind.Kind {
	k := core.ConfigMap()
	k.GVK.Group, k.GVK.Kind, k.Plural, k.Prefix = "example.com", "CronTab", "crontabs", "example.com/crontabs"
	k.Type = nil
	k.Custom = &kind.Custom{}
	k.Custom.Faces = []*kind.Kind{k}
	w.Kinds().Add(k)
	return k
}

func is(d *apiextensionsv1.CustomResourceDefinition, typ apiextensionsv1.CustomResourceDefinitionConditionType) string {
	for _, c := range d.Status.Conditions {
		if c.Type == typ {
			return string(c.Status) + "/" + c.Reason
		}
	}
	return ""
}

func TestDefinitionIsEstablishedWhenItIsServed(t *testing.T) {
	run(t, func(w world) {
		d := w.definition()
		if d.Status.AcceptedNames.Plural != "crontabs" || is(d, apiextensionsv1.Established) != "False/Installing" {
			t.Errorf("status %+v before anything serves it", d.Status)
		}
		w.serve()
		if d := w.definition(); is(d, apiextensionsv1.Established) != "True/InitialNamesAccepted" {
			t.Errorf("status %+v although it is served", d.Status)
		}
	}, asked())
}

func TestDefinitionThatWasNeverServedGoesAtOnce(t *testing.T) {
	d := asked()
	at := metav1.Now()
	d.DeletionTimestamp, d.Finalizers = &at, []string{apiextensionsv1.CustomResourceCleanupFinalizer, "other"}
	run(t, func(w world) {
		d := w.definition()
		if !slices.Equal(d.Finalizers, []string{"other"}) || is(d, apiextensionsv1.Terminating) != "False/NeverEstablished" {
			t.Errorf("finalizers %v, conditions %+v", d.Finalizers, d.Status.Conditions)
		}
	}, d)
}

func TestDefinitionDeletesItsObjectsFirst(t *testing.T) {
	run(t, func(w world) {
		k := w.serve()
		w.definition()
		for _, name := range []string{"free", "held"} {
			obj := k.New()
			obj.GetObjectKind().SetGroupVersionKind(k.GVK)
			obj.SetNamespace("default")
			obj.SetName(name)
			if name == "held" {
				obj.SetFinalizers([]string{"example.com/hold"})
			}
			if _, err := w.Create(context.Background(), k, obj); err != nil {
				t.Fatal(err)
			}
		}
		d := w.definition().DeepCopy()
		at := metav1.Now()
		d.DeletionTimestamp, d.Finalizers = &at, []string{apiextensionsv1.CustomResourceCleanupFinalizer, "other"}
		w.Put(d)
		d = w.definition()
		if is(d, apiextensionsv1.Terminating) != "True/InstanceDeletionInProgress" || len(d.Finalizers) != 2 {
			t.Errorf("finalizers %v, conditions %+v while an object is held", d.Finalizers, d.Status.Conditions)
		}
		left, err := w.List(context.Background(), k, client.Query{})
		if err != nil || len(left) != 1 || left[0].GetDeletionTimestamp() == nil {
			t.Fatalf("left %v (%v), want the one that is held, marked", left, err)
		}
		w.Drop(k, "default", "held")
		d = w.definition()
		if is(d, apiextensionsv1.Terminating) != "False/InstanceDeletionCompleted" || !slices.Equal(d.Finalizers, []string{"other"}) {
			t.Errorf("finalizers %v, conditions %+v with nothing left", d.Finalizers, d.Status.Conditions)
		}
	}, asked())
}
