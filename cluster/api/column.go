package api

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
)

// erase makes a column of a further version like those of the hub: its cell
// is computed from the hub.
func erase(c kind.Column[any]) kind.ErasedColumn {
	if c.Type == "" {
		c.Type = "string"
	}
	return kind.ErasedColumn{
		TableColumnDefinition: metav1.TableColumnDefinition{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority},
		Cell: func(obj kind.Object, now time.Time) any {
			var hub any = obj
			return c.Cell(&hub, now)
		},
	}
}
