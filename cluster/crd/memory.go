package crd

import (
	"crypto/sha256"
	"encoding/json"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// remembered is how many answers of a webhook are kept: as many as a page of
// objects has, so that what was converted to be selected is not asked for
// again to be sent.
const remembered = 500

// memory keeps what a webhook made of objects, by what they were. The oldest is
// forgotten.
type memory struct {
	most int

	mu    sync.Mutex // guards all below
	made  map[memoryKey]*unstructured.Unstructured
	order []memoryKey // a ring, once it is full
	next  int
}

type memoryKey struct {
	of [sha256.Size]byte
	to string // version
}

func newMemory(most int) *memory {
	return &memory{most: most, made: map[memoryKey]*unstructured.Unstructured{}}
}

// key names what obj is like now; an object that is no JSON is not remembered.
func key(obj *unstructured.Unstructured, to string) (memoryKey, bool) {
	text, err := json.Marshal(obj.Object) // maps are in order of their keys
	return memoryKey{sha256.Sum256(text), to}, err == nil
}

// get returns a copy of what was made of an object, or nil.
func (m *memory) get(k memoryKey) *unstructured.Unstructured {
	m.mu.Lock()
	made := m.made[k]
	m.mu.Unlock()
	if made == nil {
		return nil
	}
	return made.DeepCopy()
}

// put keeps made, which nobody writes to any more.
func (m *memory) put(k memoryKey, made *unstructured.Unstructured) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.made[k]; ok {
		return
	}
	if len(m.order) < m.most {
		m.order = append(m.order, k)
	} else {
		delete(m.made, m.order[m.next])
		m.order[m.next] = k
		m.next = (m.next + 1) % m.most
	}
	m.made[k] = made
}
