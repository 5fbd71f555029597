// Package upstream holds this program's store against upstream's: what
// kube-apiserver wrote into etcd is read by this program, and the other way
// round. Its tests run both, on one etcd and on copies of each other's data.
//
// They know this program as a binary only, which SAMPAN names (default:
// bin/sampan); kube-apiserver, etcd and etcdutl are in the test binary.
package upstream
