// Package suite is upstream's end-to-end specs as one test binary, like
// k8s.io/kubernetes/test/e2e: the same specs and flags, and beside them a bound on
// the time of every spec, and a file to which each result is added when
// the spec ends.
package suite
