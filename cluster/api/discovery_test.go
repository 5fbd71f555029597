package api

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/aggregate"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/oldversion"
)

func TestOldVersionsAreListedAndNeverPreferred(t *testing.T) {
	kinds := slices.Concat(apps.Kinds(), networking.Kinds())
	oldversion.Serve(kinds)
	groups := groupsOf(kinds, nil, &kind.Kind{GVK: schema.GroupVersionKind{Version: "v1", Kind: "ComponentStatus"}, Plural: "componentstatuses"}, &aggregate.State{})
	var names []string
	for _, g := range groups {
		names = append(names, g.Name)
		var versions []string
		for _, v := range g.Versions {
			versions = append(versions, v.Version)
			for _, r := range v.Resources {
				if hidden := len(r.ShortNames) == 0 && len(r.Categories) == 0; r.Resource == "deployments" && hidden != (g.Name == "extensions") {
					t.Errorf("%s/%s deployments have short names %v and categories %v", g.Name, v.Version, r.ShortNames, r.Categories)
				}
			}
		}
		want := map[string][]string{"": {"v1"}, "apps": {"v1", "v1beta2", "v1beta1"}, "networking.k8s.io": {"v1", "v1beta1"}, "extensions": {"v1beta1"}}[g.Name]
		if !slices.Equal(versions, want) {
			t.Errorf("%s has the versions %v, want %v", g.Name, versions, want)
		}
	}
	if want := []string{"", "apps", "networking.k8s.io", "extensions"}; !slices.Equal(names, want) {
		t.Errorf("groups %v, want %v", names, want)
	}
}
