package object

import (
	"bytes"
	"errors"
	"strings"

	"sigs.k8s.io/yaml"
	goyaml "sigs.k8s.io/yaml/goyaml.v2"
)

// errAliases has the words with which the parser of YAML refuses documents
// whose aliases stand for too many nodes.
var errAliases = errors.New("yaml: document contains excessive aliasing")

// YAMLToJSON is yaml.YAMLToJSON for what strangers send.
func YAMLToJSON(data []byte) ([]byte, error) {
	if err := boundAliases(data); err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(data)
}

// boundAliases refuses a document that is much larger as JSON than any request
// may be. The parser counts the nodes that aliases stand for, not their size: a
// text of a megabyte that is named ten thousand times costs it nothing, and
// whoever writes it down as JSON ten gigabytes. Upstream has no such bound. What
// cannot be parsed at all is no concern here: others say why.
func boundAliases(data []byte) error {
	if bytes.IndexByte(data, '*') < 0 || bytes.IndexByte(data, '&') < 0 {
		return nil
	}
	var document any
	if goyaml.Unmarshal(data, &document) != nil {
		return nil
	}
	if left := 2 * MaxRequest; !fits(document, &left) {
		return errAliases
	}
	return nil
}

// fits takes the size of v from what is left, and ends when there is nothing.
func fits(v any, left *int) bool {
	*left--
	switch v := v.(type) {
	case string:
		*left -= len(v)
	case []any:
		for _, e := range v {
			if !fits(e, left) {
				return false
			}
		}
	case map[any]any:
		for k, e := range v {
			if !fits(k, left) || !fits(e, left) {
				return false
			}
		}
	}
	return *left > 0
}

// warningsOf is what an error of a lenient reader says, one warning for each
// mistake: those of YAML come as one text of several lines. (Upstream:
// endpoints/handlers/rest.go.)
func warningsOf(err error) (all []string) {
	text := err.Error()
	lines, several := strings.CutPrefix(text, "yaml: unmarshal errors:\n")
	if !several {
		if lines, several = strings.CutPrefix(text, "error converting YAML to JSON: yaml: unmarshal errors:\n"); !several {
			return []string{text}
		}
	}
	for line := range strings.SplitSeq(lines, "\n") {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}
