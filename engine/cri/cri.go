// Package cri is the engine's face towards Kubernetes: the CRI's
// RuntimeService and ImageService (k8s.io/cri-api v1), a file per group of
// RPCs, called as functions by the node or served on a socket.
//
// It translates between the CRI's words and the engine's and keeps no state of
// its own. It is the only part of the engine that knows the words of
// Kubernetes.
package cri
