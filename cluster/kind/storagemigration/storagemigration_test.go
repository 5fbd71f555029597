package storagemigration_test

import (
	"slices"
	"testing"

	migrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/storagemigration"
)

func TestMigrationRules(t *testing.T) {
	k := storagemigration.StorageVersionMigration()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "of some resource", New: `{spec: {resource: {group: apps}}}`, Want: []string{"spec.resource.resource: Required value: resource is required to be set"}},
		{Rule: "the same for ever", Old: `{spec: {resource: {resource: pods}}}`, New: `{spec: {resource: {resource: nodes}}}`, Want: []string{
			`spec: Invalid value: {"resource":{"group":"","resource":"nodes"}}: field is immutable`}},
	})
	done := func(types ...migrationv1.MigrationConditionType) *migrationv1.StorageVersionMigration {
		m := kindtest.Read(t, k, `{metadata: {name: m}, spec: {resource: {group: apps, resource: deployments}}}`).(*migrationv1.StorageVersionMigration)
		for _, c := range types {
			m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{Type: string(c), Status: metav1.ConditionTrue, Reason: "R",
				LastTransitionTime: metav1.NewTime(kindtest.Now)})
		}
		return m
	}
	status := k.Parts["status"].Validate
	kindtest.Compare(t, status(done(migrationv1.MigrationRunning), done()))
	for it, errs := range map[string]int{
		"not both":    len(status(done(migrationv1.MigrationSucceeded, migrationv1.MigrationFailed), done())),
		"not undone":  len(status(done(), done(migrationv1.MigrationSucceeded))),
		"not mended":  len(status(done(), done(migrationv1.MigrationFailed))),
		"no revision": len(status(func() *migrationv1.StorageVersionMigration { m := done(); m.Status.ResourceVersion = "x"; return m }(), done())),
	} {
		if errs != 1 {
			t.Errorf("%s: %d errors, want 1", it, errs)
		}
	}
	if got, want := kindtest.Row(k, done(migrationv1.MigrationSucceeded)), []any{"m", "deployments.apps", "Succeeded"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
}
