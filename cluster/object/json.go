package object

import "github.com/goccy/go-json"

// appendValue appends obj as encoding/json has it, byte by byte (a test
// compares them for every kind), in less than half of its time; without a newline.
func appendValue(dst []byte, obj any) ([]byte, error) {
	data, err := json.Marshal(obj)
	return append(dst, data...), err
}
