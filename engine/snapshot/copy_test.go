package snapshot_test

import (
	"testing"

	"sampan/engine/snapshot"
	"sampan/engine/snapshot/snapshottest"
)

func TestCopy(t *testing.T) {
	snapshottest.Run(t, func(dir string) (snapshot.Driver, error) { return snapshot.NewCopy(dir) })
}
