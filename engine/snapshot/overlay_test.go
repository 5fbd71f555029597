package snapshot_test

import (
	"testing"

	"sampan/engine/snapshot"
	"sampan/engine/snapshot/snapshottest"
)

func TestOverlay(t *testing.T) {
	snapshottest.Run(t, func(dir string) (snapshot.Driver, error) { return snapshot.NewOverlay(dir) })
}
