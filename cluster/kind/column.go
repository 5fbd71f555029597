package kind

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Age is the column with the time since an object was created.
func Age[T any, P interface {
	*T
	Object
}]() Column[T] {
	return Column[T]{
		Name:        "Age",
		Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Cell:        func(obj *T, now time.Time) any { return Since(P(obj).GetCreationTimestamp(), now) },
	}
}

// Since says how long ago t was, in kubectl's short form: "5m", "3d4h";
// "<unknown>" for no time at all.
func Since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}
