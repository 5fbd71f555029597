// Package pod keeps the pods of this machine as the API says: from a Pod and
// what is observed of its containers it decides the next steps, and takes them.
//
// It knows neither how a container is made nor how the API is stored.
package pod

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Runtime is what a pod needs of a container engine: the CRI services, taken
// whole, and their streams. The built-in engine is one, called as a function;
// any CRI runtime behind a socket is another.
type Runtime interface {
	runtimeapi.RuntimeServiceServer
	runtimeapi.ImageServiceServer

	// Streams carries exec, attach and port-forward without a URL to dial.
	// Exec returns a k8s.io/utils/exec.ExitError when the command ran and
	// ended with a code other than 0.
	Streams() streaming.Runtime
}
