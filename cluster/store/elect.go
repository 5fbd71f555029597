package store

import (
	"context"
	"time"

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
		// What was committed must be applied first. Asked earlier, raft would
		// refuse and warn.
		if at := s.AppliedIndex(); at > 0 && at >= s.CommittedIndex() {
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
		case <-ctx.Done():
			return
		}
	}
}
