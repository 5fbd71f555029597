package flow

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newFlow(t testing.TB, seats int, o objects) *Flow {
	t.Helper()
	f, err := New(Config{Seats: seats})
	if err != nil {
		t.Fatal(err)
	}
	f.configure(o)
	return f
}

// one is a configuration with a level of its own for users; all other levels
// have no shares but catch-all's 5.
func one(shares int32, limit flowv1.LimitResponse) objects {
	return objects{
		levels: []*flowv1.PriorityLevelConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "mine", UID: "level-1"},
			Spec: flowv1.PriorityLevelConfigurationSpec{Type: flowv1.PriorityLevelEnablementLimited,
				Limited: &flowv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &shares, LimitResponse: limit, BorrowingLimitPercent: new(int32)}}}},
		schemas: []*flowv1.FlowSchema{{ObjectMeta: metav1.ObjectMeta{Name: "users", UID: "schema-1"}, Spec: flowv1.FlowSchemaSpec{
			MatchingPrecedence: 100, PriorityLevelConfiguration: flowv1.PriorityLevelConfigurationReference{Name: "mine"},
			DistinguisherMethod: &flowv1.FlowDistinguisherMethod{Type: flowv1.FlowDistinguisherMethodByUserType},
			Rules: []flowv1.PolicyRulesWithSubjects{{Subjects: []flowv1.Subject{{Kind: flowv1.SubjectKindGroup, Group: &flowv1.GroupSubject{Name: "users"}}},
				NonResourceRules: []flowv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}},
				ResourceRules:    []flowv1.ResourcePolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true}}}}}}},
	}
}

func queues(count, hand, longest int32) flowv1.LimitResponse {
	return flowv1.LimitResponse{Type: flowv1.LimitResponseTypeQueue, Queuing: &flowv1.QueuingConfiguration{Queues: count, HandSize: hand, QueueLengthLimit: longest}}
}

func (f *Flow) level(name string) *level {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.levels[name]
}

func user(name string) Request {
	return Request{User: by(name, "users"), Verb: "get", Path: "/version"}
}

func TestAFullLevelRejects(t *testing.T) {
	f := newFlow(t, 20, one(15, flowv1.LimitResponse{Type: flowv1.LimitResponseTypeReject}))
	var turns []*Turn
	for range 15 {
		turn, ok := f.Begin(t.Context(), user("a"), time.Minute)
		if !ok {
			t.Fatalf("rejected after %d", len(turns))
		}
		turns = append(turns, turn)
	}
	turn, ok := f.Begin(t.Context(), user("a"), time.Minute)
	if ok || turn.RetryAfter() != 1 || turn.SchemaUID()[0] != "schema-1" || turn.LevelUID()[0] != "level-1" {
		t.Errorf("%v %+v", ok, turn)
	}
	turns[0].End()
	turns[0].End() // does nothing
	if turn, ok = f.Begin(t.Context(), user("a"), time.Minute); !ok {
		t.Error("rejected with a free seat")
	}
	if _, ok := f.Begin(t.Context(), user("a"), time.Minute); ok {
		t.Error("a seat was given back twice")
	}
	var b strings.Builder
	f.WriteMetrics(&b)
	for _, want := range []string{
		`apiserver_flowcontrol_rejected_requests_total{flow_schema="users",priority_level="mine",reason="concurrency-limit"} 2`,
		`apiserver_flowcontrol_dispatched_requests_total{flow_schema="users",priority_level="mine"} 16`,
		`apiserver_flowcontrol_current_executing_requests{flow_schema="users",priority_level="mine"} 15`,
		`apiserver_flowcontrol_nominal_limit_seats{priority_level="mine"} 15`,
		`apiserver_flowcontrol_request_wait_duration_seconds_bucket{execute="true",flow_schema="users",priority_level="mine",le="0"} 16`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}

func TestAQueueIsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, 2, one(5, queues(1, 1, 3)))
		first, ok := f.Begin(t.Context(), user("a"), time.Minute)
		if !ok {
			t.Fatal("rejected")
		}
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for n := range 3 {
			all.Go(func() {
				turn, ok := f.Begin(t.Context(), user("a"), time.Minute)
				if !ok {
					t.Error("rejected")
					return
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				turn.End()
			})
			synctest.Wait()
		}
		if _, ok := f.Begin(t.Context(), user("a"), time.Minute); ok {
			t.Error("the queue is longer than it may be")
		}
		first.End()
		all.Wait()
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("served in the order %v", order)
		}
		if l := f.level("mine"); l.taken != 0 || l.waiting != 0 || l.asked != 0 || l.active != 0 || l.executing.first != nil {
			t.Errorf("something is left: %+v", l)
		}
	})
}

func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, 2, one(5, queues(4, 2, 10)))
		first, _ := f.Begin(t.Context(), user("a"), time.Minute)
		began := time.Now()
		if _, ok := f.Begin(t.Context(), user("b"), 15*time.Second); ok || time.Since(began) != 15*time.Second {
			t.Errorf("%v after %v", ok, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, ok := f.Begin(ctx, user("b"), 15*time.Second); ok {
			t.Error("it was served after its client had left")
		}
		l := f.level("mine")
		if l.timedOut != 1 || l.cancelled != 1 || l.waiting != 0 || l.active != 1 {
			t.Errorf("%+v", l)
		}
		first.End()
		if l.active != 0 {
			t.Errorf("%d queues are active", l.active)
		}
	})
}

// TestTheManyDoNotPushTheFewAside: one flow with ten clients and one
// that has two, on one seat: each gets half of it while both want it.
func TestTheManyDoNotPushTheFewAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, 2, one(5, queues(64, 1, 50)))
		if seats := f.level("mine").seats; seats != 1 {
			t.Fatalf("%d seats", seats)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var mu sync.Mutex
		served := map[string]int{}
		var all sync.WaitGroup
		work := func(name string, clients int) {
			for range clients {
				all.Go(func() {
					for ctx.Err() == nil {
						turn, ok := f.Begin(ctx, user(name), time.Minute)
						if !ok {
							return
						}
						time.Sleep(10 * time.Millisecond)
						turn.End()
						mu.Lock()
						served[name]++
						mu.Unlock()
					}
				})
			}
		}
		work("elephant", 10)
		work("mouse", 2)
		all.Wait()
		if m, e := served["mouse"], served["elephant"]; m < 400 || e < 400 || m+e < 990 {
			t.Errorf("served %v", served)
		}
	})
}

// TestWideRequestsTakeTheirSeats: lists of many objects cost more, and the
// narrow do not overtake them for ever.
func TestWideRequestsTakeTheirSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, 100, one(45, queues(64, 6, 50))) // 90 seats
		list := user("a")
		list.Verb, list.Resource, list.Objects = "list", "pods", func() int { return 950 }
		turn, ok := f.Begin(t.Context(), list, time.Minute)
		if !ok || turn.seats != 10 {
			t.Errorf("%v: %d seats", ok, turn.seats)
		}
		turn.End()
		small := newFlow(t, 20, one(15, queues(4, 2, 50))) // 15 seats
		narrow, _ := small.Begin(t.Context(), user("b"), time.Minute)
		if turn, _ := small.Begin(t.Context(), list, time.Minute); turn.seats != 3 {
			t.Errorf("a level of 15 seats gives 15 %% to one: %d", turn.seats)
		}
		narrow.End()
	})
}

// TestIdleLevelsLend: a level that wants more than its share gets, after a
// while, what others do not use, and they get it back when they want it.
func TestIdleLevelsLend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := one(50, queues(64, 6, 50))
		for name, lends := range map[string]int32{"mine": 80, "lender": 80} {
			shares := int32(50)
			o.levels = append(o.levels, &flowv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec: flowv1.PriorityLevelConfigurationSpec{Type: flowv1.PriorityLevelEnablementLimited,
					Limited: &flowv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &shares, LendablePercent: &lends, LimitResponse: queues(64, 6, 50)}}})
		}
		o.levels = o.levels[1:]
		f := newFlow(t, 105, o)
		mine := f.level("mine")
		if mine.seats > 60 {
			t.Fatalf("%d seats already", mine.seats)
		}
		var all sync.WaitGroup
		stop := make(chan struct{})
		for n := range 100 {
			all.Go(func() {
				turn, ok := f.Begin(t.Context(), user(fmt.Sprint(n)), time.Minute)
				if !ok {
					t.Error("rejected")
					return
				}
				<-stop
				turn.End()
			})
		}
		// Nobody comes or goes: those who wait have seats lent to their level.
		time.Sleep(3 * period)
		synctest.Wait()
		mine.mu.Lock()
		seats := mine.seats
		mine.mu.Unlock()
		if seats < 80 {
			t.Errorf("%d seats after %v", seats, 3*period)
		}
		close(stop)
		all.Wait()
	})
}

func TestALevelThatIsDeletedServesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, 2, one(5, queues(4, 2, 10)))
		first, _ := f.Begin(t.Context(), user("a"), time.Minute)
		served := make(chan bool)
		go func() {
			turn, ok := f.Begin(t.Context(), user("a"), time.Minute)
			served <- ok
			turn.End()
			served <- ok
		}()
		synctest.Wait()
		f.configure(objects{})
		if l := f.level("mine"); l == nil || !l.gone {
			t.Fatalf("%+v", l)
		}
		if r := user("a"); f.classify(&r).Name != "catch-all" {
			t.Error("it still gets requests")
		}
		first.End()
		if !<-served {
			t.Error("who waited was rejected")
		}
		<-served
		if l := f.level("mine"); l != nil {
			t.Error("it is still there")
		}
	})
}

func TestFewerQueuesLoseNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, 2, one(5, queues(64, 6, 10)))
		first, _ := f.Begin(t.Context(), user("x"), time.Minute)
		var all sync.WaitGroup
		for n := range 30 {
			all.Go(func() {
				turn, ok := f.Begin(t.Context(), user(fmt.Sprint(n)), time.Minute)
				if !ok {
					t.Error("rejected")
					return
				}
				time.Sleep(time.Millisecond)
				turn.End()
			})
		}
		synctest.Wait()
		f.configure(one(5, queues(2, 1, 10)))
		first.End()
		all.Wait()
		if l := f.level("mine"); len(l.queues) != 2 || l.active != 0 || l.taken != 0 || l.asked != 0 {
			t.Errorf("%d queues, %d active, %d taken, %d asked", len(l.queues), l.active, l.taken, l.asked)
		}
	})
}

func TestDumps(t *testing.T) {
	f := newFlow(t, 20, one(15, queues(4, 2, 10)))
	turn, _ := f.Begin(t.Context(), Request{User: by("jane", "users"), Verb: "list", Path: "/apis/apps/v1/deployments", Group: "apps", Version: "v1", Resource: "deployments"}, time.Minute)
	defer turn.End()
	var levels, queues, requests strings.Builder
	f.DumpLevels(&levels)
	f.DumpQueues(&queues)
	f.DumpRequests(&requests, true)
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if got := words(levels.String()); !strings.Contains(got, "mine, 0, false, false, 0, 1, 1, 0, 0, 0") {
		t.Errorf("%s", got)
	}
	if got := words(queues.String()); strings.Count(got, "mine, ") != 4 || !strings.Contains(got, "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR,") {
		t.Errorf("%s", got)
	}
	if got := words(requests.String()); !strings.Contains(got, "jane, list, /apis/apps/v1/deployments, , , apps/v1, deployments,") {
		t.Errorf("%s", got)
	}
}

// BenchmarkBegin is what a request costs that nobody is in the way of.
func BenchmarkBegin(b *testing.B) {
	f := newFlow(b, 600, everybody())
	for _, c := range []struct {
		name string
		r    Request
	}{
		{"exempt", Request{User: by("admin", "system:masters", "system:authenticated"), Verb: "get", Resource: "pods", Namespace: "a", Name: "b"}},
		{"user", Request{User: by("jane", "system:authenticated"), Verb: "get", Resource: "pods", Namespace: "a", Name: "b"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				turn, _ := f.Begin(b.Context(), c.r, time.Minute)
				turn.End()
			}
		})
	}
}
