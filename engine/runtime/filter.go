package runtime

import (
	"encoding/json"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// filters remembers compiled profiles: most containers have the default one,
// and compiling it takes longer than all of the rest of a start. It is safe for
// concurrent use.
type filters struct {
	mu  sync.Mutex // guards all below
	got map[string]filter
}

type filter struct {
	code  []byte
	flags uint64
}

// maxFilters bounds the memory: a filter has about 4 kB, its profile 10.
const maxFilters = 8

func (c *filters) compile(s *specs.LinuxSeccomp) ([]byte, uint64, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, 0, err
	}
	key := string(b)
	c.mu.Lock()
	f, ok := c.got[key]
	c.mu.Unlock()
	if ok {
		return f.code, f.flags, nil
	}
	if f.code, f.flags, err = compileSeccomp(s); err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == nil || len(c.got) >= maxFilters {
		c.got = map[string]filter{}
	}
	c.got[key] = f
	return f.code, f.flags, nil
}
