package store

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/proto"
)

// tail is where the feeder reads what happens to our keys. The embedded etcd is
// read where it keeps watches: through its client each event would pass four
// goroutines more, and the write that waits for it with it.
type tail struct {
	near   mvcc.WatchStream // of the embedded etcd; nil: it is elsewhere
	id     mvcc.WatchID
	far    clientv3.WatchChan // of one elsewhere
	client *clientv3.Client
}

// answer is what etcd tells at once.
type answer struct {
	events []*mvccpb.Event
	upTo   int64 // there are no others up to here
	err    error // there will be no more
}

// tail begins after a revision. Its end is to be closed.
func (e *etcd) tail(ctx context.Context, after int64) (*tail, error) {
	from, end := string(e.root), clientv3.GetPrefixRangeEnd(string(e.root))
	t := &tail{client: e.client}
	if e.server == nil {
		t.far = e.client.Watch(ctx, from, clientv3.WithRange(end), clientv3.WithRev(after+1))
		return t, nil
	}
	t.near = e.server.Server.Watchable().NewWatchStream()
	var err error
	if t.id, err = t.near.Watch(ctx, clientv3.AutoWatchID, []byte(from), []byte(end), after+1); err != nil {
		t.near.Close()
		return nil, unavailable("watch", from, err)
	}
	return t, nil
}

// chans are what to receive from; one of them is nil.
func (t *tail) chans() (<-chan mvcc.WatchResponse, clientv3.WatchChan) {
	if t.near == nil {
		return nil, t.far
	}
	return t.near.Chan(), nil
}

// close ends the tail of an embedded etcd; another's ends with its context.
func (t *tail) close() {
	if t.near != nil {
		t.near.Close()
	}
}

// progress asks for an answer that says how far the tail is, should no event
// say so.
func (t *tail) progress(ctx context.Context) error {
	if t.near == nil {
		return t.client.RequestProgress(ctx)
	}
	t.near.RequestProgress(t.id)
	return nil
}

// together is how many answers are put into the cache at a time at the most.
const together = 128

// nearby makes one of an answer and those behind it: of many writers one comes
// for each write, and whoever waits for the cache is woken once for all.
func nearby(resp mvcc.WatchResponse, more <-chan mvcc.WatchResponse) answer {
	a := answer{events: resp.Events, upTo: told(resp)}
	for n := 1; ; n++ {
		mvcc.ReportEventReceived(len(resp.Events)) // etcd counts them
		if resp.CompactRevision != 0 {
			a.err = rpctypes.ErrCompacted
			return a
		}
		if n == together {
			return a
		}
		var ok bool
		select {
		case resp, ok = <-more:
		default:
		}
		if !ok {
			return a
		}
		a.events = append(a.events[:len(a.events):len(a.events)], resp.Events...)
		a.upTo = max(a.upTo, told(resp))
	}
}

// past is what has happened to our keys after a revision, up to another one, in
// the embedded etcd. A watch would tell the same, but not before etcd looks for
// those that are behind, which it does ten times a second.
func (e *etcd) past(after, upTo int64) (answer, error) {
	a, err := e.stored(after, upTo)
	// Etcd says that it forgets before it begins to. It takes the same lock for
	// the answer, which must not be held twice.
	if err == nil && e.server.Server.KV().FirstRev() > after {
		err = rpctypes.ErrCompacted
	}
	return a, err
}

func (e *etcd) stored(after, upTo int64) (answer, error) {
	from, end := mvcc.NewRevBytes(), mvcc.NewRevBytes()
	from, end = mvcc.RevToBytes(mvcc.Revision{Main: after + 1}, from), mvcc.RevToBytes(mvcc.Revision{Main: upTo + 1}, end)
	a := answer{upTo: upTo}
	tx := e.server.Server.Backend().ReadTx()
	tx.RLock()
	defer tx.RUnlock()
	revisions, stored := tx.UnsafeRange(schema.Key, from, end, 0)
	for i, data := range stored {
		kv := &mvccpb.KeyValue{}
		if err := proto.Unmarshal(data, kv); err != nil { // it copies: the data is the file's
			return answer{}, fmt.Errorf("revision %d: %w", mvcc.BytesToRev(revisions[i]).Main, err)
		}
		if !strings.HasPrefix(string(kv.Key), string(e.root)) {
			continue
		}
		ev := &mvccpb.Event{Kv: kv, Type: mvccpb.Event_PUT}
		if mvcc.IsTombstone(revisions[i]) {
			ev.Type, kv.ModRevision = mvccpb.Event_DELETE, mvcc.BytesToRev(revisions[i]).Main
		}
		a.events = append(a.events, ev)
	}
	return a, nil
}

// told is up to where there are no other events. An answer of many old ones may
// not be the last of them: then its own revision is ahead.
func told(resp mvcc.WatchResponse) int64 {
	if n := len(resp.Events); n > 0 {
		return resp.Events[n-1].Kv.ModRevision
	}
	return resp.Revision
}

func remote(resp clientv3.WatchResponse) answer {
	a := answer{err: resp.Err()}
	if resp.IsProgressNotify() {
		a.upTo = resp.Header.Revision
	}
	for _, ev := range resp.Events {
		a.events = append(a.events, (*mvccpb.Event)(ev))
		a.upTo = max(a.upTo, ev.Kv.ModRevision)
	}
	return a
}
