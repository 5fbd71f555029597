package flow_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/flow"
	"sampan/cluster/kind"
	"sampan/cluster/kind/flowcontrol"
	"sampan/cluster/request"
)

// run starts a Flow on a world in memory, in a bubble.
func run(t *testing.T, objs ...kind.Object) (*flow.Flow, *clienttest.Fake) {
	t.Helper()
	fake := clienttest.New(t, kind.NewTable(flowcontrol.Kinds()), objs...)
	f, err := flow.New(flow.Config{Objects: fake})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return f, fake
}

func get[T client.Typed](t *testing.T, c client.Client, name string) T {
	t.Helper()
	obj, err := client.Get[T](t.Context(), c, "", name)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func dangling(s *flowv1.FlowSchema) string {
	for _, c := range s.Status.Conditions {
		if c.Type == flowv1.FlowSchemaConditionDangling {
			return string(c.Status) + " " + c.Reason + ": " + c.Message
		}
	}
	return ""
}

func userSchema(level string) *flowv1.FlowSchema {
	return &flowv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: flowv1.FlowSchemaSpec{MatchingPrecedence: 50,
		PriorityLevelConfiguration: flowv1.PriorityLevelConfigurationReference{Name: level},
		Rules: []flowv1.PolicyRulesWithSubjects{{Subjects: []flowv1.Subject{{Kind: flowv1.SubjectKindUser, User: &flowv1.UserSubject{Name: "jane"}}},
			NonResourceRules: []flowv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}}}}}
}

func TestEveryClusterHasItsObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, fake := run(t)
		schemas, err := client.List[*flowv1.FlowSchema](t.Context(), fake, client.Query{})
		if err != nil || len(schemas) != len(flowcontrol.Schemas()) {
			t.Errorf("%d schemas, %v", len(schemas), err)
		}
		for _, s := range schemas {
			if got := dangling(s); got != `False Found: This FlowSchema references the PriorityLevelConfiguration object named "`+s.Spec.PriorityLevelConfiguration.Name+`" and it exists` {
				t.Errorf("%s: %s", s.Name, got)
			}
		}
		levels, err := client.List[*flowv1.PriorityLevelConfiguration](t.Context(), fake, client.Query{})
		if err != nil || len(levels) != len(flowcontrol.Levels()) {
			t.Errorf("%d levels, %v", len(levels), err)
		}
		turn, ok := f.Begin(t.Context(), flow.Request{User: request.User{Name: "jane", Groups: []string{"system:authenticated"}}, Verb: "get", Path: "/version"}, time.Minute)
		if !ok || turn.SchemaUID()[0] != string(get[*flowv1.FlowSchema](t, fake, "global-default").UID) {
			t.Errorf("%v %v", ok, turn.SchemaUID())
		}
		turn.End()
		fake.Forget()
		time.Sleep(time.Hour)
		if did := fake.Actions(); len(did) > 0 {
			t.Errorf("it goes on: %v", did)
		}
	})
}

func TestADeletedObjectComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fake := run(t)
		fake.Drop(client.KindOf[*flowv1.PriorityLevelConfiguration](fake), "", "workload-low")
		fake.Drop(client.KindOf[*flowv1.FlowSchema](fake), "", "exempt")
		synctest.Wait()
		get[*flowv1.PriorityLevelConfiguration](t, fake, "workload-low")
		if got := dangling(get[*flowv1.FlowSchema](t, fake, "service-accounts")); got[:5] != "False" {
			t.Errorf("%s", got)
		}
		get[*flowv1.FlowSchema](t, fake, "exempt")
	})
}

func TestWhoseObjectsTheyAre(t *testing.T) {
	for _, c := range []struct {
		it     string
		change func(*flowv1.PriorityLevelConfiguration)
		kept   bool
		note   string
	}{
		{it: "a change is undone", change: func(l *flowv1.PriorityLevelConfiguration) {}, note: "true"},
		{it: "but not if the annotation says so", change: func(l *flowv1.PriorityLevelConfiguration) {
			l.Annotations[flowv1.AutoUpdateAnnotationKey] = "false"
		}, kept: true, note: "false"},
		{it: "a user's object, without annotation, is theirs", change: func(l *flowv1.PriorityLevelConfiguration) {
			l.Annotations, l.Generation = nil, 2
		}, kept: true, note: "false"},
	} {
		t.Run(c.it, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, fake := run(t)
				l := get[*flowv1.PriorityLevelConfiguration](t, fake, "workload-low").DeepCopy()
				shares := int32(7)
				l.Spec.Limited.NominalConcurrencyShares = &shares
				c.change(l)
				fake.Put(l)
				synctest.Wait()
				got := get[*flowv1.PriorityLevelConfiguration](t, fake, "workload-low")
				if kept := *got.Spec.Limited.NominalConcurrencyShares == 7; kept != c.kept || got.Annotations[flowv1.AutoUpdateAnnotationKey] != c.note {
					t.Errorf("kept: %v, annotation %v", kept, got.Annotations)
				}
			})
		})
	}
}

// TestTheExemptLevelMayLend: how much of it, users say.
func TestTheExemptLevelMayLend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fake := run(t)
		l := get[*flowv1.PriorityLevelConfiguration](t, fake, "exempt").DeepCopy()
		shares := int32(20)
		l.Spec.Exempt.NominalConcurrencyShares = &shares
		fake.Put(l)
		synctest.Wait()
		if got := get[*flowv1.PriorityLevelConfiguration](t, fake, "exempt"); *got.Spec.Exempt.NominalConcurrencyShares != 20 {
			t.Error("it was changed back")
		}
	})
}

func TestObjectsOfOldVersionsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, mine := userSchema("workload-low"), userSchema("workload-low")
		old.Name, old.Annotations = "old", map[string]string{flowv1.AutoUpdateAnnotationKey: "true"}
		_, fake := run(t, old, mine)
		if _, err := client.Get[*flowv1.FlowSchema](t.Context(), fake, "", "old"); err == nil {
			t.Error("it is still there")
		}
		get[*flowv1.FlowSchema](t, fake, "mine")
	})
}

func TestAReferenceToNothingIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fake := run(t, userSchema("none"))
		if got := dangling(get[*flowv1.FlowSchema](t, fake, "mine")); got != `True NotFound: This FlowSchema references the PriorityLevelConfiguration object named "none" but there is no such object` {
			t.Errorf("%s", got)
		}
		level := get[*flowv1.PriorityLevelConfiguration](t, fake, "workload-low").DeepCopy()
		fake.Put(&flowv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: level.Spec})
		synctest.Wait()
		if got := dangling(get[*flowv1.FlowSchema](t, fake, "mine")); got != `False Found: This FlowSchema references the PriorityLevelConfiguration object named "none" and it exists` {
			t.Errorf("%s", got)
		}
	})
}
