package api

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
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

// scaleColumns are the columns of every scale subresource.
func scaleColumns() []kind.ErasedColumn {
	column := func(c kind.Column[autoscalingv1.Scale]) kind.ErasedColumn {
		return erase(kind.Column[any]{Name: c.Name, Type: c.Type, Description: c.Description,
			Cell: func(obj *any, now time.Time) any { return c.Cell((*obj).(*autoscalingv1.Scale), now) }})
	}
	return []kind.ErasedColumn{
		column(kind.Column[autoscalingv1.Scale]{Name: "Name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
			Cell: func(s *autoscalingv1.Scale, _ time.Time) any { return s.Name }}),
		column(kind.Column[autoscalingv1.Scale]{Name: "Desired", Type: "integer", Description: autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"],
			Cell: func(s *autoscalingv1.Scale, _ time.Time) any { return int64(s.Spec.Replicas) }}),
		column(kind.Column[autoscalingv1.Scale]{Name: "Available", Type: "integer", Description: autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"],
			Cell: func(s *autoscalingv1.Scale, _ time.Time) any { return int64(s.Status.Replicas) }}),
		column(kind.Age[autoscalingv1.Scale]()),
	}
}
