package store

import (
	"syscall"
	"time"
)

// worth is how many bytes a defragmentation has to free: writes wait while it
// runs, for as long as the disk takes to write what stays.
const worth = 32 << 20

// pays says whether the database's file is to be written anew: it is mostly
// free pages, they are many, and there is room for the copy.
func pays(size, used, room int64) bool {
	return size-used >= worth && used <= size/2 && room >= 2*used
}

// defragment makes the database's file small again if that pays. etcd uses
// free pages again, but never gives them back; what once was large would stay
// so, on disk and in the pages that are mapped. It is called after a
// compaction, which is what frees pages, and so never while idle.
func (e *etcd) defragment() {
	if e.server == nil {
		return // an etcd elsewhere is kept by whoever runs it
	}
	back := e.server.Server.Backend()
	back.ForceCommit() // pages become free with the transaction
	size, used := back.Size(), back.SizeInUse()
	dir := e.server.Config().Dir
	if !pays(size, used, room(dir)) {
		return
	}
	began := time.Now()
	if err := back.Defrag(); err != nil {
		e.log.Warn("the store's file was not made smaller; trying again later", "dir", dir, "err", err)
		return
	}
	e.release()
	e.log.Info("the store's file was made smaller", "from", size, "to", back.Size(), "took", time.Since(began).Round(time.Millisecond))
}

// room is how many bytes are free where dir is; 0 if that is not known.
func room(dir string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0
	}
	return int64(s.Bavail) * s.Bsize
}
