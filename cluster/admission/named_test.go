package admission

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/fault"
)

func TestPluginsGoOnAndOff(t *testing.T) {
	is := func(name string) func() (any, error) { return func() (any, error) { return name, nil } }
	table := []Named{{Name: "A", On: true, Plugin: is("a")}, {Name: "", Plugin: is("always")}, {Name: "B", Plugin: is("b")}, {Name: "C", On: true, Plugin: is("c")}, {Name: "Absent"}}
	for _, c := range []struct {
		it              string
		enable, disable []string
		want            string // what is on, or of the error
	}{
		{it: "as they are by default", want: "[a always c]"},
		{it: "one more", enable: []string{"B"}, want: "[a always b c]"},
		{it: "one that is on", enable: []string{"C"}, want: "[a always c]"},
		{it: "without one", disable: []string{"A"}, want: "[always c]"},
		{it: "without one that is off", disable: []string{"B", "Absent"}, want: "[a always c]"},
		{it: "nobody knows", enable: []string{"X"}, want: `enable-admission-plugins plugin "X" is unknown (the plugins are: A, B, C, Absent)`},
		{it: "nobody knows what is off", disable: []string{""}, want: `disable-admission-plugins plugin "" is unknown`},
		{it: "both", enable: []string{"A"}, disable: []string{"A"}, want: "[A] in enable-admission-plugins and disable-admission-plugins overlapped"},
		{it: "not here", enable: []string{"Absent"}, want: "this program does not have it"},
	} {
		all, err := Select(table, c.enable, c.disable)
		var made []any
		for _, m := range all {
			made = append(made, m.Plugin)
		}
		if got := fmt.Sprint(made); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s, %v; want %s", c.it, got, err, c.want)
		}
	}
}

func TestAFileSaysWhatPluginsAreTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "selectors.yaml"), []byte("podNodeSelectorPluginConfig: {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
	for _, c := range []struct{ it, text, want string }{
		{it: "inside, and in another file", text: head + "plugins:\n- {name: PodSecurity, configuration: {a: b}}\n- {name: PodNodeSelector, path: selectors.yaml}"},
		{it: "not what nobody reads", text: head + "plugins: [{name: ResourceQuota, configuration: {}}]", want: `plugins[0].name: "ResourceQuota" takes no configuration`},
		{it: "not twice", text: head + "plugins: [{name: PodSecurity, configuration: {}}, {name: PodSecurity, configuration: {}}]", want: `plugins[1].name: "PodSecurity" is there twice`},
		{it: "nothing else", text: head + "more: 1", want: `unknown field "more"`},
		{it: "of another kind", text: "kind: Pod", want: "it is a Pod of , want an AdmissionConfiguration of apiserver.config.k8s.io/v1"},
		{it: "of a file that is not there", text: head + "plugins: [{name: PodSecurity, path: none}]", want: "no such file"},
	} {
		path := filepath.Join(dir, "file.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadConfiguration(path)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.Invalid {
				t.Errorf("%s: %v, want %q", c.it, err, c.want)
			}
			continue
		}
		if err != nil || string(got["PodSecurity"]) != `{"a":"b"}` || string(got["PodNodeSelector"]) != "podNodeSelectorPluginConfig: {}" {
			t.Errorf("%s: %q, %v", c.it, got, err)
		}
	}
	if got, err := LoadConfiguration(""); got != nil || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}
