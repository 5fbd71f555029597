package verb_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The words and their order are those of kube-apiserver 1.37.1, seen by make differ.

func TestMistakesOfListsAndWatches(t *testing.T) {
	s := serve(t)
	yes := true
	for _, tc := range []struct {
		it, plural string
		options    metav1.ListOptions
		list       string // part of the message; empty: no error
		watch      string
		code       int32 // default 422
	}{
		{it: "takes a negative limit for none", plural: "configmaps", options: metav1.ListOptions{Limit: -1}},
		{it: "says all that is wrong with a match", plural: "configmaps", options: metav1.ListOptions{ResourceVersionMatch: "Odd", Continue: "x"},
			list:  "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided, resourceVersionMatch: Unsupported value",
			watch: "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value"},
		{it: "knows no initial events of lists", plural: "configmaps", options: metav1.ListOptions{SendInitialEvents: &yes},
			list: "sendInitialEvents is forbidden for list", watch: "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"},
		{it: "reads selectors first", plural: "configmaps", options: metav1.ListOptions{LabelSelector: "a in", ResourceVersionMatch: "Odd"},
			list: "unable to parse requirement", watch: "unable to parse requirement", code: 400},
		{it: "looks at fields last", plural: "configmaps", options: metav1.ListOptions{FieldSelector: "data=x", ResourceVersionMatch: "Odd"},
			list: "resourceVersionMatch", watch: "resourceVersionMatch"},
		{it: "knows no namespace of nodes", plural: "nodes", options: metav1.ListOptions{FieldSelector: "metadata.namespace=x"},
			list: "field label not supported: metadata.namespace", watch: "field label not supported: metadata.namespace", code: 400},
	} {
		t.Run(tc.it, func(t *testing.T) {
			s := *s
			s.T = t
			if tc.code == 0 {
				tc.code = 422
			}
			if _, err := s.list(tc.plural, tc.options); tc.list != "" || err != nil {
				s.status(err, tc.code, tc.list)
			}
			w, err := s.api.Watch(s.Context(), s.ask("watch", tc.plural), tc.options)
			if err == nil {
				w.Close()
			}
			if tc.watch != "" || err != nil {
				s.status(err, tc.code, tc.watch)
			}
		})
	}
	w, err := s.api.Watch(s.Context(), s.ask("watch", "configmaps"), metav1.ListOptions{Continue: "x"})
	if err == nil {
		w.Close()
	}
	s.status(err, 422, "resourceVersionMatch is forbidden when continue is provided")
}

func TestAWatchWithBookmarksSaysWhereItsBeginningEnds(t *testing.T) {
	s := serve(t)
	w, err := s.api.Watch(s.Context(), s.ask("watch", "configmaps"), metav1.ListOptions{AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	events, err := w.Next(s.Context())
	if err != nil || len(events) == 0 || !events[len(events)-1].InitialEventsEnd {
		t.Errorf("got %+v, %v", events, err)
	}
}

func TestMistakesOfPatches(t *testing.T) {
	s := serve(t)
	s.mustCreate("configmaps", `{"metadata":{"name":"c"},"data":{"a":"b"}}`)
	for _, tc := range []struct {
		it   string
		what string // default configmaps/c
		pt   types.PatchType
		body string
		code int32
		want string
	}{
		{"is JSON, whatever it is for", "configmaps/none", types.MergePatchType, `x`, 400, "invalid JSON patch"},
		{"is an object", "", types.MergePatchType, `[]`, 400, "error decoding patch: json: cannot unmarshal array"},
		{"is a list", "", types.JSONPatchType, `{}`, 400, "error decoding patch: json: cannot unmarshal object"},
		{"has operations", "", types.JSONPatchType, `[{"op":1}]`, 400, "error decoding patch: json: cannot unmarshal number"},
		{"does not take the version away", "", types.MergePatchType, `{"apiVersion":null}`, 400, "the name of the object (c based on URL) was undeterminable: name must be provided"},
		{"nor by an operation", "", types.JSONPatchType, `[{"op":"remove","path":"/apiVersion"}]`, 400, "was undeterminable"},
		{"is of a name that can be one", "configmaps/%", types.MergePatchType, `{}`, 400, `Name parameter invalid: "%": may not contain '%'`},
	} {
		t.Run(tc.it, func(t *testing.T) {
			s := *s
			s.T = t
			if tc.what == "" {
				tc.what = "configmaps/c"
			}
			r := s.ask("patch", tc.what)
			r.FieldValidation = "Warn"
			_, _, err := s.api.Patch(s.Context(), r, tc.pt, []byte(tc.body))
			s.status(err, tc.code, tc.want)
		})
	}
	r := s.ask("patch", "configmaps/c")
	r.FieldValidation = "Strict"
	_, _, err := s.api.Patch(s.Context(), r, types.MergePatchType, []byte(`{"apiVersion":null}`))
	s.status(err, 422, `strict decoding error: unknown field "data", unknown field "metadata"`)
	_, _, err = s.api.Patch(s.Context(), r, types.JSONPatchType, []byte(`[{"op":"test","path":"/data/a","value":"b","odd":1}]`))
	s.status(err, 422, `json patch unknown field "[0].odd"`)
}

func TestMistakesOfAppliedObjects(t *testing.T) {
	s := serve(t)
	for body, want := range map[string]string{
		`{"apiVersion":"v1"`:                     "error decoding patch: error converting YAML to JSON",
		`{}`:                                     "invalid object type: /, Kind=",
		`{"apiVersion":"v1","kind":"Pod"}`:       "invalid object type: /v1, Kind=Pod",
		`{"apiVersion":"v2","kind":"ConfigMap"}`: "invalid object type: /v2, Kind=ConfigMap",
	} {
		_, _, err := s.apply("configmaps/c", "me", body, false)
		s.status(err, 400, want)
	}
	r := s.ask("patch", "configmaps/c")
	r.FieldManager, r.FieldValidation = "me", "Warn"
	var warned []string
	r.Warn = func(text string) { warned = append(warned, text) }
	const twice = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"b"},"data":{"a":"c"}}`
	_, _, err := s.api.Patch(s.Context(), r, types.ApplyYAMLPatchType, []byte(twice))
	if want := []string{`line 1: key "data" already set in map`}; err != nil || !slices.Equal(warned, want) {
		t.Errorf("warned of %q, %v; want %q", warned, err, want)
	}
	r.FieldValidation = "Strict"
	_, _, err = s.api.Patch(s.Context(), r, types.ApplyYAMLPatchType, []byte(twice))
	s.status(err, 400, "error strict decoding patch: error converting YAML to JSON")
}

func TestOwnersThatAreThereTwiceAreSaidWhenTheyAreFound(t *testing.T) {
	s := serve(t)
	s.mustCreate("configmaps", `{"metadata":{"name":"c"}}`)
	const twice = `{"metadata":{"name":"c","ownerReferences":[{"apiVersion":"v1","kind":"X","name":"n","uid":"u"},{"apiVersion":"v1","kind":"X","name":"n","uid":"u"}]}}`
	for verb, want := range map[string]string{
		"update": ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+",
		"patch":  ".metadata.ownerReferences contains duplicate entries after mutating admission happens; API server dedups",
	} {
		var warned []string
		r := s.ask(verb, "configmaps/c")
		r.Warn = func(text string) { warned = append(warned, text) }
		var err error
		if verb == "update" {
			_, _, err = s.api.Update(s.Context(), r, asJSON(twice))
		} else {
			_, _, err = s.api.Patch(s.Context(), r, types.MergePatchType, []byte(twice))
		}
		if err != nil || len(warned) != 1 || len(warned[0]) < len(want) || warned[0][:len(want)] != want {
			t.Errorf("%s: warned of %q, %v; want %q", verb, warned, err, want)
		}
	}
}

func TestACreateWithARevisionIsRefusedLast(t *testing.T) {
	s := serve(t)
	_, err := s.create("configmaps", `{"metadata":{"name":"A","resourceVersion":"1"}}`)
	s.status(err, 422, "metadata.name")
	_, err = s.create("configmaps", `{"metadata":{"name":"a","resourceVersion":"1"}}`)
	s.status(err, 400, "resourceVersion should not be set on objects to be created")
	s.mustCreate("configmaps", `{"metadata":{"name":"held","finalizers":["x.io/y"]}}`)
	if _, _, err := s.delete("configmaps/held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = s.create("configmaps", `{"metadata":{"name":"held"}}`)
	s.status(err, 409, `object is being deleted: configmaps "held" already exists`)
}

func TestDeletesThatAreTheKindsOwn(t *testing.T) {
	s := serve(t)
	t.Run("an event has nothing to collect", func(t *testing.T) {
		s.mustCreate("events", `{"metadata":{"name":"e"},"involvedObject":{"namespace":"default"}}`)
		policy := metav1.DeletePropagationForeground
		if _, done, err := s.delete("events/e", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil || !done {
			t.Errorf("done %v, %v", done, err)
		}
	})
	t.Run("a pod that is tried only shows when it would go", func(t *testing.T) {
		s.mustCreate("pods", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
		answer, done, err := s.delete("pods/p", metav1.DeleteOptions{DryRun: []string{"All"}})
		pod, ok := answer.(*corev1.Pod)
		if err != nil || !done || !ok || pod.DeletionTimestamp == nil || *pod.DeletionGracePeriodSeconds != 0 || pod.Generation != 2 {
			t.Errorf("answer %s, done %v, %v", text(answer), done, err)
		}
		if _, err := s.get("pods/p"); err != nil {
			t.Error(err)
		}
	})
}

func TestAStatusTakesAsMuchOfTheMetadataAsItsKindLets(t *testing.T) {
	s := serve(t)
	s.mustCreate("pods", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	obj, err := s.patch("pods/p/status", types.MergePatchType,
		`{"metadata":{"labels":{"a":"b"},"ownerReferences":[{"apiVersion":"v1","kind":"X","name":"n","uid":"u"}]}}`)
	if err != nil || obj.GetLabels()["a"] != "b" || len(obj.GetOwnerReferences()) != 0 {
		t.Errorf("got %s, %v", text(obj), err)
	}
	s.mustCreate("resourcequotas", `{"metadata":{"name":"q"},"spec":{"hard":{"pods":"1"}}}`)
	_, err = s.patch("resourcequotas/q/status", types.MergePatchType, `{"metadata":{"deletionGracePeriodSeconds":3}}`)
	s.status(err, 422, "metadata.deletionGracePeriodSeconds: Invalid value: 3: field is immutable")
}
