package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// txn is one attempt to write several objects together.
type txn struct {
	store *Store
	ctx   context.Context

	compares []clientv3.Cmp
	then     []clientv3.Op
	reads    []clientv3.Op // what to look at if a compare fails
	handed   []*handover

	// What the transaction is for: its first operation.
	kind *kind.Kind
	op   operation
}

// again returns the next attempt, after this one was lost.
func (t *txn) again() txn { return txn{store: t.store, ctx: t.ctx} }

// handover is an object that this process has encoded and is about to write.
// The feeder takes it when the bytes come back from etcd, which saves it the
// decoding. Store.handedMu guards taken.
type handover struct {
	kind     *kind.Kind
	path     string
	obj      kind.Object
	data     []byte
	hash     uint64
	revision int64 // that the feeder has published obj with; 0: not taken
}

// count says what the transaction is for, unless that was said.
func (t *txn) count(k *kind.Kind, o operation) {
	if t.kind == nil {
		t.kind, t.op = k, o
	}
}

func (t *txn) compare(k Key, revision int64) {
	t.count(k.Kind, getting)
	path := t.store.etcd.root.path(k)
	if revision != AnyRevision {
		t.compares = append(t.compares, clientv3.Compare(clientv3.ModRevision(path), "=", revision))
	}
	t.reads = append(t.reads, clientv3.OpGet(path))
}

// put takes obj: its parts belong to the store now. It may be offered again, and
// is another object of the cache each time: the feeder may have taken it
// although the attempt was lost, if another writer wrote the very same bytes.
func (t *txn) put(k Key, obj kind.Object, revision int64) (*handover, error) {
	s := t.store
	obj = s.sharing.share(obj, false, s.alike(k)...)
	obj.SetResourceVersion("") // the revision is the key's, and not known before
	data, err := s.codec.Encode(k.Kind, obj)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "encode", On: k.String(), Err: err}
	}
	stored, err := s.seal(t.ctx, k, data)
	if err != nil {
		return nil, &fault.Error{Op: "encrypt", On: k.String(), Err: err}
	}
	lease, err := s.leases.of(t.ctx, k.Kind)
	if err != nil {
		return nil, unavailable("grant lease for", k.String(), err)
	}
	h := &handover{kind: k.Kind, path: s.etcd.root.path(k), obj: obj, data: stored, hash: hashOf(data)}
	t.handed = append(t.handed, h)
	s.handedMu.Lock()
	s.handed[h.path] = append(s.handed[h.path], h)
	s.handedMu.Unlock()

	if revision == 0 {
		t.count(k.Kind, creating)
	} else {
		t.count(k.Kind, updating)
	}
	t.compare(k, revision)
	var opts []clientv3.OpOption
	if lease != clientv3.NoLease {
		opts = append(opts, clientv3.WithLease(lease))
	}
	t.then = append(t.then, clientv3.OpPut(h.path, string(stored), opts...))
	return h, nil
}

func (t *txn) remove(k Key, revision int64) {
	t.count(k.Kind, deleting)
	t.compare(k, revision)
	t.then = append(t.then, clientv3.OpDelete(t.store.etcd.root.path(k)))
}

// outcome is how a transaction ended: revision is 0 if a compare failed, and
// then kvs has what is there instead, in the order of the operations.
type outcome struct {
	store    *Store
	revision int64
	now      int64 // etcd's revision then
	kvs      [][]*mvccpb.KeyValue
}

// commit adds the further operations, and waits until the cache has the
// result. After an error it is not known what happened.
func (t *txn) commit(extra []Op) (outcome, error) {
	s := t.store
	for _, op := range extra {
		if op.Object == nil {
			t.remove(op.Key, op.Revision)
		} else if _, err := t.put(op.Key, op.Object, op.Revision); err != nil {
			t.abort()
			return outcome{}, err
		}
	}
	began := time.Now()
	resp, err := s.etcd.client.Txn(t.ctx).If(t.compares...).Then(t.then...).Else(t.reads...).Commit()
	if t.kind != nil {
		s.asked(t.kind, t.op, began, err)
	}
	if err != nil {
		t.abort()
		return outcome{}, err
	}
	if !resp.Succeeded {
		t.abort()
		o := outcome{store: s, now: resp.Header.Revision}
		for _, r := range resp.Responses {
			o.kvs = append(o.kvs, r.GetResponseRange().Kvs)
		}
		return o, nil
	}
	if len(t.then) > 0 { // else nothing was written, and the revision is not ours
		// The write has happened: whoever gave up meanwhile changes nothing.
		err = s.await(context.WithoutCancel(t.ctx), resp.Header.Revision, false)
		t.abort()
	}
	return outcome{store: s, revision: resp.Header.Revision}, err
}

// abort takes back what the feeder has not taken.
func (t *txn) abort() {
	s := t.store
	s.handedMu.Lock()
	defer s.handedMu.Unlock()
	for _, h := range t.handed {
		s.unhandLocked(h)
	}
}

func (s *Store) unhandLocked(h *handover) {
	all := s.handed[h.path]
	i := slices.Index(all, h)
	switch {
	case i < 0:
	case len(all) == 1:
		delete(s.handed, h.path)
	default:
		s.handed[h.path] = slices.Delete(all, i, i+1)
	}
}

// written returns the i-th object put, with the revision it got.
func (t *txn) written(i int, revision int64) kind.Object {
	h := t.handed[i]
	t.store.handedMu.Lock()
	published := h.revision
	t.store.handedMu.Unlock()
	switch published {
	case revision:
		return h.obj
	case 0: // the feeder took the same bytes of another writer; ours is not shared
		setRevision(h.obj, revision)
		return h.obj
	}
	return withRevision(h.kind, h.obj, revision)
}

// take returns the object of a write of this process with these very bytes.
func (s *Store) take(kv *mvccpb.KeyValue) *handover {
	s.handedMu.Lock()
	defer s.handedMu.Unlock()
	for _, h := range s.handed[string(kv.Key)] {
		if string(h.data) == string(kv.Value) {
			s.unhandLocked(h)
			h.revision = kv.ModRevision
			setRevision(h.obj, kv.ModRevision)
			return h
		}
	}
	return nil
}

// found returns the state that the main operation met, or *OpFailed if it was
// not the main operation that failed.
func (o outcome) found(ctx context.Context, k Key, expected int64, extra []Op) (state, error) {
	if len(o.kvs) == 0 {
		return state{}, unavailable("write", k.String(), errNoReads)
	}
	met, err := o.store.stateOf(ctx, k, o.kvs[0])
	if err != nil || met.revision != expected {
		return met, err
	}
	for i, op := range extra {
		var revision int64
		if kvs := o.kvs[i+1]; len(kvs) > 0 {
			revision = kvs[0].ModRevision
		}
		if op.Revision != AnyRevision && revision != op.Revision {
			return state{}, &OpFailed{Op: op}
		}
	}
	return met, nil // changed and changed back between compare and read cannot be: one transaction
}

func (s *Store) stateOf(ctx context.Context, k Key, kvs []*mvccpb.KeyValue) (state, error) {
	if len(kvs) == 0 {
		return state{}, nil
	}
	obj, hash, err := s.decode(ctx, k.Kind, kvs[0])
	var unreadable *Unreadable
	if errors.As(err, &unreadable) {
		return state{}, unreadable
	}
	if err != nil {
		return state{}, &fault.Error{Op: "decode", On: string(kvs[0].Key), Err: err,
			Fix: "what is stored is damaged or of another program: delete the key with etcdctl"}
	}
	return state{obj, kvs[0].ModRevision, hash}, nil
}

// decode returns what is stored under a key, with its resourceVersion, and the
// hash of its encoded form. A decoder that panics over damaged bytes must not
// end the feeder.
func (s *Store) decode(ctx context.Context, k *kind.Kind, kv *mvccpb.KeyValue) (obj kind.Object, hash uint64, err error) {
	defer func() {
		if r := recover(); r != nil {
			obj, err = nil, fmt.Errorf("decoder panicked: %v", r)
		}
	}()
	data, _, err := s.open(ctx, k, kv)
	if err != nil {
		return nil, 0, err
	}
	if obj, err = s.codec.Decode(k, data); err != nil {
		return nil, 0, err
	}
	setRevision(obj, kv.ModRevision)
	return obj, hashOf(data), nil
}

func setRevision(obj kind.Object, revision int64) {
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
}

var seed = maphash.MakeSeed()

func hashOf(data []byte) uint64 { return maphash.Bytes(seed, data) }
