package store

import (
	"context"
	"expvar"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// elect makes the only member leader without waiting for its clock. The
// election timeout is there so that members do not get in each other's way;
// alone it would only be a slow start, and a tick short enough to bear it
// would cost CPU for as long as the program runs.
//
// The message is what a leader that steps down sends to its successor
// (section 3.10 of the raft thesis, "leadership transfer"). It is ignored by a
// member that leads already, and by one that has yet to apply its first
// configuration: so it is sent again until the member is ready. Should it
// never help, the clock does.
func (e *etcd) elect(ctx context.Context) {
	s := e.server.Server
	self := uint64(s.MemberID())
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for s.Leader() == 0 {
		if caughtUp(self) {
			m := &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &self, From: &self}
			if err := s.Process(ctx, m); err != nil {
				e.log.Debug("etcd is not asked to lead; its clock will do it", "err", err)
				return
			}
		}
		select {
		case <-again.C:
		case <-s.ReadyNotify():
			return
		case <-s.StopNotify():
			return
		case <-e.ended.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// caughtUp says that raft itself knows all that was committed as applied. The
// server's own index is ahead of raft's for a moment, in which it may have let
// go of the entries that raft would look through: asked to lead then, raft
// panics. Raft's is published as a variable only, the last server's of a
// process; of another's, the clock decides.
func caughtUp(self uint64) bool {
	v, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	status, ok := v.Value().(raft.Status)
	return ok && status.ID == self && status.HardState != nil && status.GetCommit() > 0 && status.Applied >= status.GetCommit()
}
