package store_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
	"sampan/internal/fault"
)

// The environment of TestNothingAcknowledgedIsLostByKills: how long it goes on
// (by default some rounds), and what it throws its dice with.
const (
	crashFor  = "STORE_CRASH_FOR"  // a duration
	crashSeed = "STORE_CRASH_SEED" // a number
)

const (
	crashRounds  = 5 // when nobody says for how long
	crashKeys    = 5 // objects: few, so that the writers fight over them
	crashWriters = 8
)

// step is one line of the child's: what was there when it began, a call that
// begins, how it ended, or what its watch has seen.
type step struct {
	What     string        // "state", "call", "done", "watch"
	ID       int           `json:",omitempty"` // of a call
	Op       string        `json:",omitempty"` // "create", "update", "delete", "get"; of an event what happened
	Name     string        `json:",omitempty"`
	Expect   int64         `json:",omitempty"` // the revision that the object has to have
	Value    string        `json:",omitempty"` // to write; of all but calls: that is there
	OK       bool          `json:",omitempty"`
	Revision int64         `json:",omitempty"` // of the object after it; 0: it is not there
	At       time.Duration // since the child began
}

// TestNothingAcknowledgedIsLostByKills has a child create, update, delete and
// read a few objects from many goroutines, with the revisions that they saw,
// and kills it at random, again and again. The history of each round has to be
// that of objects that exist once (linearizable, with what was there before
// the round and after it); revisions only grow; and the watches, each resumed
// where the last one was, show every change once and in order.
func TestNothingAcknowledgedIsLostByKills(t *testing.T) {
	t.Parallel()

	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(crashSeed); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("%s=%d", crashSeed, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var until time.Time
	if text := os.Getenv(crashFor); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		until = time.Now().Add(d)
	}
	dir := filepath.Join(t.TempDir(), "store")
	h := &histories{}
	for round := 0; ; round++ {
		if until.IsZero() && round == crashRounds || !until.IsZero() && time.Now().After(until) {
			break
		}
		h.add(t, runAndKill(t, dir, h.seen, random))
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	h.add(t, lookAgain(t, dir, h.seen))
	t.Logf("%d rounds, %d calls of which %d without an answer, %d events", h.rounds, h.calls, h.open, h.events)
}

// histories checks one round after the other: what was open when a child was
// killed is known only when the next one has looked.
type histories struct {
	last []step // the round to be checked next
	seen int64  // revision of the last event that a watch has shown
	most int64  // highest revision that was acknowledged

	rounds, calls, open, events int
}

func (h *histories) add(t *testing.T, steps []step) {
	t.Helper()
	began := slices.ContainsFunc(steps, func(s step) bool { return s.What == "ready" })
	h.rounds++
	watched := those("watch", steps)
	for _, s := range watched {
		if s.Revision <= h.seen {
			t.Errorf("a watch after revision %d shows %+v", h.seen, s)
		}
		h.seen = s.Revision
		h.events++
	}
	if !began { // it was killed before it could look: its watch has not begun either
		return
	}
	if h.last != nil {
		h.check(t, slices.Concat(those("watch", h.last), watched), those("state", steps))
	}
	h.last = steps
}

// those are the steps of one sort.
func those(what string, steps []step) (all []step) {
	for _, s := range steps {
		if s.What == what {
			all = append(all, s)
		}
	}
	return all
}

// check looks at the last round. watched are its events and those after it;
// after is what was there when the next round began.
func (h *histories) check(t *testing.T, watched, after []step) {
	t.Helper()
	shown := map[int64]step{}
	written := map[string]int64{} // by value: the revision that it was written with
	for _, w := range watched {
		shown[w.Revision] = w
		if w.Op != "deleted" {
			written[w.Value] = w.Revision
		}
	}
	ends := map[int]step{}
	var end time.Duration
	for _, s := range h.last {
		if s.What == "done" {
			ends[s.ID] = s
		}
		end = max(end, s.At)
	}
	var history []porcupine.Operation
	add := func(client int, from time.Duration, in step, to time.Duration, out step) {
		history = append(history, porcupine.Operation{ClientId: client, Call: int64(from), Input: in, Return: int64(to), Output: out})
	}
	for i, s := range those("state", h.last) {
		s.Op = "begin"
		add(i, -2, s, -1, s)
	}
	var acknowledged []step
	for _, s := range h.last {
		if s.What != "call" {
			continue
		}
		h.calls++
		if out, ok := ends[s.ID]; ok {
			add(s.ID, s.At, s, out.At, out)
			if out.OK && s.Op != "get" {
				acknowledged = append(acknowledged, step{At: s.At, Revision: out.Revision, Op: s.Op, Value: s.Value, Name: s.Name})
			}
			continue
		}
		h.open++
		add(s.ID, s.At, s, end+1, step{What: "open", Revision: written[s.Value]})
	}
	for i, s := range after {
		s.What, s.Op = "done", "get"
		add(i, end+2, s, end+3, s)
	}
	for _, one := range register.Partition(history) {
		if result := porcupine.CheckOperationsTimeout(register.ToModel(), one, time.Minute); result != porcupine.Ok {
			t.Errorf("the history of an object is %s:\n%s", result, tell(one))
		}
	}
	for _, a := range acknowledged {
		w, ok := shown[a.Revision]
		want := map[string]string{"create": "added", "update": "modified", "delete": "deleted"}[a.Op]
		if !ok || w.Op != want || w.Name != a.Name || a.Op != "delete" && w.Value != a.Value {
			t.Errorf("%+v was acknowledged, and the watches show %+v for it", a, w)
		}
		h.most = max(h.most, a.Revision)
	}
	h.grow(t, acknowledged, ends)
}

// tell prints a history for whoever looks for the mistake.
func tell(history []porcupine.Operation) string {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var text strings.Builder
	for _, o := range history {
		in, out := o.Input.(step), o.Output.(step)
		fmt.Fprintf(&text, "%10d to %10d %s of %s at %d to %q: %s %t, %d %q\n", o.Call, o.Return, in.Op, in.Name, in.Expect, in.Value,
			out.What, out.OK, out.Revision, out.Value)
	}
	return text.String()
}

// grow checks that a write has a higher revision than all that had ended when
// it began.
func (h *histories) grow(t *testing.T, acknowledged []step, ends map[int]step) {
	t.Helper()
	var done []step
	for _, e := range ends {
		if e.OK && e.Revision != 0 {
			done = append(done, e)
		}
	}
	slices.SortFunc(done, func(a, b step) int { return cmp.Compare(a.At, b.At) })
	slices.SortFunc(acknowledged, func(a, b step) int { return cmp.Compare(a.At, b.At) })
	i, most := 0, int64(0)
	for _, a := range acknowledged {
		for ; i < len(done) && done[i].At < a.At; i++ {
			most = max(most, done[i].Revision)
		}
		if a.Revision <= most {
			t.Errorf("%+v began when revision %d was known", a, most)
		}
	}
}

// object is what a register holds. No revision: it is not there.
type object struct {
	value    string
	revision int64
}

// register is one object with writes that ask for a revision. A call that has
// no answer, because the child was killed, may have happened or not; whether a
// value was written, the watch tells.
var register = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, o := range history {
			name := o.Input.(step).Name
			by[name] = append(by[name], o)
		}
		var all [][]porcupine.Operation
		for _, h := range by {
			all = append(all, h)
		}
		return all
	},
	Init: func() []any { return []any{object{}} },
	Step: func(state, input, output any) []any {
		now, in, out := state.(object), input.(step), output.(step)
		fits := in.Op == "create" && now.revision == 0 || in.Op != "create" && now.revision != 0 && now.revision == in.Expect
		next := object{in.Value, out.Revision}
		if in.Op == "delete" {
			next = object{}
		}
		switch {
		case in.Op == "begin":
			return []any{object{in.Value, in.Revision}}
		case in.Op == "get" && out.What == "open":
			return []any{now}
		case in.Op == "get" && (object{out.Value, out.Revision}) == now:
			return []any{now}
		case in.Op == "get" || out.What == "done" && out.OK != fits:
			return nil
		case out.What == "done" && !fits:
			return []any{now}
		case out.What == "done":
			if out.Revision <= now.revision {
				return nil
			}
			return []any{next}
		case in.Op == "delete" && fits:
			return []any{now, next}
		case in.Op != "delete" && out.Revision != 0: // it was written: here, or the order is another
			if !fits || out.Revision <= now.revision {
				return nil
			}
			return []any{next}
		}
		return []any{now}
	},
	Equal: func(a, b any) bool { return a == b },
}

// crashDir in the environment makes the test binary a program that works on
// the store in that directory and says what it does, until it is killed.
const (
	crashDir   = "STORE_TEST_CRASH"
	crashSince = "STORE_TEST_CRASH_SINCE" // the revision after which it watches
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Println("error", work(dir)) // it only ends if something is wrong
		os.Exit(1)
	}
	if dir := os.Getenv(fullDir); dir != "" {
		writeUntilFull(dir)
		return
	}
	os.Exit(m.Run())
}

// runAndKill has a child work until some lines have come, or, now and then,
// until some time is over, wherever it is then.
func runAndKill(t *testing.T, dir string, since int64, random *rand.Rand) []step {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir, crashSince+"="+strconv.FormatInt(since, 10))
	pipe, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { _ = child.Process.Kill() })
	defer kill()
	after := 50 + random.IntN(1500)
	if random.IntN(6) == 0 {
		defer time.AfterFunc(time.Duration(random.IntN(400))*time.Millisecond, kill).Stop()
	}
	var steps []step
	lines := bufio.NewScanner(pipe)
	for n := 1; lines.Scan(); n++ {
		var s step
		if text, isError := strings.CutPrefix(lines.Text(), "error "); isError {
			t.Errorf("the child says: %s", text)
		} else if err := json.Unmarshal(lines.Bytes(), &s); err == nil { // else it was cut off
			steps = append(steps, s)
		}
		if n == after {
			kill()
		}
	}
	if err := child.Wait(); err == nil || child.ProcessState.Exited() {
		t.Errorf("the child ended by itself: %v", err)
	}
	return steps
}

// worker is the child.
type worker struct {
	store *store.Store
	began time.Time

	mu  sync.Mutex // guards all below
	out *json.Encoder
	ids int
}

func work(dir string) error {
	s, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}})
	if err != nil {
		return err
	}
	w := &worker{store: s, began: time.Now(), out: json.NewEncoder(os.Stdout)}
	for i := range crashKeys {
		w.say(w.read(step{What: "state", Name: fmt.Sprint("n", i)}))
	}
	since, _ := strconv.ParseInt(os.Getenv(crashSince), 10, 64)
	cursor, err := s.Watch(configMaps, store.WatchOptions{Since: max(since, 1)}) // 1 is an empty store's
	if err != nil {
		return err
	}
	w.say(step{What: "ready"})
	failed := make(chan error, crashWriters+1)
	go func() { failed <- w.watch(cursor) }()
	for range crashWriters {
		go func() { failed <- w.write() }()
	}
	return <-failed
}

// say prints a step, and numbers a call.
func (w *worker) say(s step) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.What == "call" {
		w.ids++
		s.ID = w.ids
	}
	s.At = time.Since(w.began)
	_ = w.out.Encode(s)
	return s.ID
}

// read fills in what is there.
func (w *worker) read(s step) step {
	if got, ok := w.store.Get(cm(s.Name)); ok {
		s.Value = got.(*corev1.ConfigMap).Data["v"]
		s.Revision = revisionOf(got)
	}
	return s
}

func revisionOf(o kind.Object) int64 {
	revision, _ := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	return revision
}

func (w *worker) watch(c *store.Cursor) error {
	for n := 1; ; n++ {
		<-c.More()
		changes, _, err := c.Next()
		if err != nil {
			return err
		}
		for _, e := range changes {
			op := [...]string{"added", "modified", "deleted"}[e.Type]
			w.say(step{What: "watch", Op: op, Name: e.Object.GetName(), Value: e.Object.(*corev1.ConfigMap).Data["v"], Revision: e.Revision})
			if e.Revision%200 == 0 { // what was shown is asked for no more
				if err := w.store.Compact(ctx, e.Revision-20); err != nil {
					return err
				}
			}
		}
	}
}

var errConflict = errors.New("it is at another revision")

// write makes calls, each with the revision that this goroutine saw last.
func (w *worker) write() error {
	saw := map[string]int64{}
	for {
		s := step{What: "call", Name: fmt.Sprint("n", rand.IntN(crashKeys)), Value: strconv.FormatUint(rand.Uint64(), 36)}
		s.Op = [...]string{"create", "update", "update", "delete", "get"}[rand.IntN(5)]
		if s.Op == "update" || s.Op == "delete" {
			s.Expect = saw[s.Name]
		}
		if s.Op == "get" {
			s.Value = ""
		}
		id := w.say(s)
		out := step{What: "done", ID: id, Name: s.Name, OK: true}
		expected := func(current kind.Object) error {
			if revisionOf(current) != s.Expect {
				return errConflict
			}
			return nil
		}
		var obj kind.Object
		var err error
		switch s.Op {
		case "create":
			obj, err = w.store.Create(ctx, cm(s.Name), configMap(s.Name, s.Value))
		case "update":
			obj, err = w.store.Update(ctx, cm(s.Name), func(current kind.Object) (kind.Object, error) {
				if err := expected(current); err != nil {
					return nil, err
				}
				return set(s.Value)(current)
			})
		case "delete":
			obj, err = w.store.Delete(ctx, cm(s.Name), expected)
		case "get":
			out = w.read(out)
			saw[s.Name] = out.Revision
		}
		switch class := fault.ClassOf(err); {
		case errors.Is(err, errConflict), class == fault.Exists, class == fault.NotFound:
			out.OK = false
		case err != nil:
			return err
		case obj != nil:
			out.Revision = revisionOf(obj)
			saw[s.Name] = out.Revision
		}
		w.say(out)
	}
}

// lookAgain is what the next child would see, without a child.
func lookAgain(t *testing.T, dir string, since int64) []step {
	t.Helper()
	s := open(t, dir)
	w := &worker{store: s}
	steps := []step{{What: "ready"}}
	for i := range crashKeys {
		steps = append(steps, w.read(step{What: "state", Name: fmt.Sprint("n", i)}))
	}
	changes, _, err := watch(t, s, configMaps, store.WatchOptions{Since: max(since, 1)}).Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range changes {
		steps = append(steps, step{What: "watch", Op: [...]string{"added", "modified", "deleted"}[e.Type], Name: e.Object.GetName(),
			Value: e.Object.(*corev1.ConfigMap).Data["v"], Revision: e.Revision})
	}
	return steps
}
