// Package clients tests the platform by what others have written for
// Kubernetes: helm's library, and an operator on controller-runtime. Both see
// a real `sampan up` in a network namespace of its own, and images that were
// built there; nothing comes from a registry.
package clients
