// Package e2e tests the whole program as a user meets it: the real binary in a
// network namespace of its own, driven by the real kubectl.
//
// The tests need root. Each makes a host of its own (see host_test.go), and
// removes it afterwards, also after a failure.
package e2e
