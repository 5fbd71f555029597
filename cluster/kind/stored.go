package kind

import (
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// StoredLike is a version that is not served and has the hub's fields, for
// Of.Stored: upstream goes on to store a kind in its beta version for some
// releases after v1 is served, so that an older API server can read it. What
// the hub has no field for is left out, as upstream does when it serves the hub.
func StoredLike[Old, Hub any](gv schema.GroupVersion) Version {
	return Version{
		GVK: gv.WithKind(reflect.TypeFor[Hub]().Name()),
		New: func() Object { return any(new(Old)).(Object) },
		ToHub: func(obj Object) (Object, error) {
			data, err := json.Marshal(obj)
			hub := new(Hub)
			if err == nil {
				err = json.Unmarshal(data, hub)
			}
			if err != nil {
				return nil, fmt.Errorf("convert %s: %w", gv, err)
			}
			return any(hub).(Object), nil
		},
	}
}
