package clienttest_test

import (
	"testing"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
)

func TestFakeIsAClient(t *testing.T) {
	clienttest.Suite(t, func(t *testing.T) client.Client { return clienttest.New(t, clienttest.Kinds()) })
}
