// Package engine runs containers on one machine: it is the model (Container,
// Sandbox, Volume as plain data) and what can be done with it.
//
// All state is on disk and in the kernel. Several processes use one state
// directory at once, the daemon and commands alike, and each may be killed at
// any moment: whoever comes next takes over what runs and finishes or undoes
// what was half made. An operation on a container holds the lock of its
// sandbox's directory.
//
// The engine knows nothing of the APIs in front of it; see engine/cri and
// engine/dockerapi.
package engine
