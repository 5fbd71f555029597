package admission

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/counted"
)

// whim changes everything, and refuses what it is told to.
type whim struct{ refuses Operation }

func (whim) Mutate(context.Context, *Attempt) error { return nil }

func (w whim) Review(_ context.Context, a *Attempt) error {
	if a.Operation == w.refuses {
		return errors.New("no")
	}
	return nil
}

// slow is measured by itself.
type slow struct{ whim }

func (slow) Waits() {}

func TestPluginsAreMeasured(t *testing.T) {
	counts, m := prometheus.NewRegistry(), &Metrics{}
	counts.MustRegister(m)
	c := NewMeasuredChain(m, Member{"Calm", whim{}}, Member{"Whim", whim{Delete}}, Member{"", whim{}}, Member{"Slow", slow{}})
	for _, o := range []Operation{Create, Create, Delete} {
		a := &Attempt{Operation: o}
		if err := c.Mutate(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if err := c.Review(t.Context(), a); (err != nil) != (o == Delete) {
			t.Fatalf("%s: %v", o, err)
		}
	}
	var text strings.Builder
	if err := counted.Write(&text, counts, ""); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(text.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "_count"); ok {
			got = append(got, strings.TrimPrefix(name, "apiserver_admission_")+value)
		}
	}
	want := []string{
		`controller_admission_duration_seconds{name="Calm",operation="CREATE",rejected="false",type="admit"} 2`,
		`controller_admission_duration_seconds{name="Calm",operation="CREATE",rejected="false",type="validate"} 2`,
		`controller_admission_duration_seconds{name="Calm",operation="DELETE",rejected="false",type="admit"} 1`,
		`controller_admission_duration_seconds{name="Calm",operation="DELETE",rejected="false",type="validate"} 1`,
		`controller_admission_duration_seconds{name="Slow",operation="CREATE",rejected="false",type="admit"} 2`,
		`controller_admission_duration_seconds{name="Slow",operation="CREATE",rejected="false",type="validate"} 2`,
		`controller_admission_duration_seconds{name="Slow",operation="DELETE",rejected="false",type="admit"} 1`,
		`controller_admission_duration_seconds{name="Whim",operation="CREATE",rejected="false",type="admit"} 2`,
		`controller_admission_duration_seconds{name="Whim",operation="CREATE",rejected="false",type="validate"} 2`,
		`controller_admission_duration_seconds{name="Whim",operation="DELETE",rejected="false",type="admit"} 1`,
		`controller_admission_duration_seconds{name="Whim",operation="DELETE",rejected="true",type="validate"} 1`,
		`step_admission_duration_seconds{operation="CREATE",rejected="false",type="admit"} 2`,
		`step_admission_duration_seconds{operation="CREATE",rejected="false",type="validate"} 2`,
		`step_admission_duration_seconds{operation="DELETE",rejected="false",type="admit"} 1`,
		`step_admission_duration_seconds{operation="DELETE",rejected="true",type="validate"} 1`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func BenchmarkAChainOfForty(b *testing.B) {
	for name, m := range map[string]*Metrics{"measured": {}, "plain": nil} {
		b.Run(name, func(b *testing.B) {
			var all []Member
			for range 40 {
				all = append(all, Member{"Whim", whim{}})
			}
			c := NewMeasuredChain(m, all...)
			b.ReportAllocs()
			a := &Attempt{Operation: Create}
			for b.Loop() {
				_ = c.Mutate(b.Context(), a)
				_ = c.Review(b.Context(), a)
			}
		})
	}
}
