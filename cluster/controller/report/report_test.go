package report_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/report"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
)

func TestOnlyWhatOthersChangeWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := clienttest.New(t, kind.NewTable(apps.Kinds()), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
		s := report.Status[*appsv1.Deployment, appsv1.DeploymentStatus]{
			Client: f,
			Of:     func(d *appsv1.Deployment) appsv1.DeploymentStatus { return d.Status },
			Same:   func(old, now *appsv1.Deployment) bool { return old.Annotations["size"] == now.Annotations["size"] },
		}
		woken := make(chan types.NamespacedName, 10)
		var watching sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		watching.Go(func() {
			if err := s.Watch(func(key types.NamespacedName) { woken <- key })(ctx, func() {}); err != nil {
				t.Error(err)
			}
		})
		defer func() { stop(); watching.Wait() }()
		get := func() *appsv1.Deployment {
			d, err := client.Get[*appsv1.Deployment](t.Context(), f, "default", "web")
			if err != nil {
				t.Fatal(err)
			}
			return d.DeepCopy()
		}
		put := func(how func(d *appsv1.Deployment)) func() {
			return func() { d := get(); how(d); f.Put(d) }
		}
		for _, c := range []struct {
			it   string
			do   func()
			want int
		}{
			{it: "is there", do: func() {}, want: 1},
			{it: "asks for something else", do: put(func(d *appsv1.Deployment) { d.Generation++ }), want: 1},
			{it: "has a status of somebody else's", do: put(func(d *appsv1.Deployment) { d.Status.Replicas = 2 }), want: 1},
			{it: "has the status that was written", do: func() {
				d := get()
				d.Status.Replicas = 3
				if err := s.Write(t.Context(), d); err != nil {
					t.Error(err)
				}
			}, want: 0},
			{it: "has a label more", do: put(func(d *appsv1.Deployment) { d.Labels = map[string]string{"a": "b"} }), want: 0},
			{it: "is not the same as before", do: put(func(d *appsv1.Deployment) { d.Annotations = map[string]string{"size": "3"} }), want: 1},
			{it: "has another status than the one written", do: put(func(d *appsv1.Deployment) { d.Status.Replicas = 4 }), want: 1},
			{it: "has the written one again", do: put(func(d *appsv1.Deployment) { d.Status.Replicas = 3 }), want: 0},
			{it: "begins to go", do: put(func(d *appsv1.Deployment) { d.DeletionTimestamp, d.Finalizers = new(metav1.Now()), []string{"a/b"} }), want: 1},
			{it: "is another of that name", do: put(func(d *appsv1.Deployment) { d.UID = "another" }), want: 1},
			{it: "is gone", do: func() { f.Drop(client.KindOf[*appsv1.Deployment](f), "default", "web") }, want: 0},
		} {
			c.do()
			synctest.Wait()
			got := len(woken)
			for range got {
				<-woken
			}
			if got != c.want {
				t.Errorf("one that %s wakes %d times, want %d", c.it, got, c.want)
			}
		}
	})
}

func TestAStatusOfWhatIsGoneIsNoError(t *testing.T) {
	f := clienttest.New(t, kind.NewTable(apps.Kinds()))
	s := report.Status[*appsv1.Deployment, appsv1.DeploymentStatus]{Client: f, Of: func(d *appsv1.Deployment) appsv1.DeploymentStatus { return d.Status }}
	if err := s.Write(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"}}); err != nil {
		t.Error(err)
	}
}
