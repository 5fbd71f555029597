package schema

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The paths of an OpenAPI document: what clients need to find the schema of a
// resource, and to learn which parameters a verb takes.

type object = map[string]any

// paths are the path items of a kind, by path.
func (k one) paths() map[string]any {
	if k.verbs != nil {
		return k.virtualPaths()
	}
	base := "/" + Path(k.gvk.GroupVersion())
	all := map[string]any{}
	var place []any
	collection := base + "/" + k.Plural
	if !k.Cluster {
		all[collection] = k.item(nil, object{
			"get": k.operation("list", "list", "ForAllNamespaces", listParameters, nil, k.list())})
		collection = base + "/namespaces/{namespace}/" + k.Plural
		place = append(place, inPath("namespace", "object name and auth scope, such as for teams and projects"))
	}
	self := ref(k.model())
	all[collection] = k.item(place, object{
		"get":    k.operation("list", "list", "", listParameters, nil, k.list()),
		"post":   k.operation("create", "post", "", writeParameters, self, self),
		"delete": k.operation("deleteCollection", "deletecollection", "", append(deleteParameters[:4:4], listParameters...), ref(metaV1+"DeleteOptions"), ref(metaV1+"Status")),
	})
	place = append(place, inPath("name", "name of the "+k.gvk.Kind))
	all[collection+"/{name}"] = k.item(place, object{
		"get":    k.operation("read", "get", "", nil, nil, self),
		"put":    k.operation("replace", "put", "", writeParameters, self, self),
		"patch":  k.operation("patch", "patch", "", patchParameters, ref(metaV1+"Patch"), self),
		"delete": k.operation("delete", "delete", "", deleteParameters, ref(metaV1+"DeleteOptions"), ref(metaV1+"Status")),
	})
	editable := func(sub string, gvk schema.GroupVersionKind) {
		as := k
		as.gvk = gvk
		body := self
		if gvk != k.gvk {
			body = ref(model(gvk))
		}
		all[collection+"/{name}/"+sub] = k.item(place, object{
			"get":   as.operation("read", "get", title(sub), nil, nil, body),
			"put":   as.operation("replace", "put", title(sub), writeParameters, body, body),
			"patch": as.operation("patch", "patch", title(sub), patchParameters, ref(metaV1+"Patch"), body),
		})
	}
	for sub := range k.kind.Parts {
		editable(sub, k.gvk)
	}
	if k.kind.Scale != nil {
		editable("scale", scaleGVK)
	}
	for sub, action := range k.kind.ActionsAs(k.gvk) {
		as := k
		as.gvk = action.GVK
		body := ref(model(action.GVK))
		all[collection+"/{name}/"+sub] = k.item(place, object{
			"post": as.operation("create", "post", title(sub), writeParameters, body, body)})
	}
	return all
}

// virtualPaths are the path items of what is answered and never stored.
func (k one) virtualPaths() map[string]any {
	collection, self := "/"+Path(k.gvk.GroupVersion())+"/"+k.Plural, ref(k.model())
	var place []any
	if !k.Cluster {
		collection = "/" + Path(k.gvk.GroupVersion()) + "/namespaces/{namespace}/" + k.Plural
		place = append(place, inPath("namespace", "object name and auth scope, such as for teams and projects"))
	}
	own := object{}
	if k.can("list") {
		own["get"] = k.operation("list", "list", "", listParameters, nil, k.list())
	}
	if k.can("create") {
		own["post"] = k.operation("create", "post", "", writeParameters, self, self)
	}
	all := map[string]any{collection: k.item(place, own)}
	if k.can("get") {
		all[collection+"/{name}"] = k.item(append(place, inPath("name", "name of the "+k.gvk.Kind)), object{
			"get": k.operation("read", "get", "", nil, nil, self)})
	}
	return all
}

func (k one) item(parameters []any, operations object) object {
	if len(parameters) > 0 {
		operations["parameters"] = parameters
	}
	return operations
}

func (k one) list() object { return ref(k.listModel()) }

// operation describes one verb on one path.
func (k one) operation(verb, action, suffix string, query []any, body, answer object) object {
	group, _, _ := strings.Cut(k.group, ".")
	if group == "" {
		group = "core"
	}
	namespaced := "Namespaced"
	if k.Cluster || suffix == "ForAllNamespaces" {
		namespaced = ""
	}
	op := object{
		"operationId": verb + title(group) + title(k.gvk.Version) + namespaced + k.kind.GVK.Kind + suffix,
		"tags":        []string{group + "_" + k.gvk.Version},
		"description": describe(verb) + k.gvk.Kind,
		"responses": object{
			"200": object{"description": "OK", "content": content(answer, k.media(answers))},
			"401": object{"description": "Unauthorized"},
		},
		"x-kubernetes-action": action,
		"x-kubernetes-group-version-kind": object{
			"group": k.gvk.Group, "version": k.gvk.Version, "kind": k.gvk.Kind},
	}
	if len(query) > 0 {
		op["parameters"] = query
	}
	if body != nil {
		types := []string{"*/*"}
		if verb == "patch" {
			types = k.media(patches)
		}
		op["requestBody"] = object{"required": verb != "delete" && verb != "deleteCollection", "content": content(body, types)}
	}
	return op
}

var (
	answers = []string{"application/json", "application/vnd.kubernetes.protobuf", "application/yaml"}
	patches = []string{"application/apply-patch+yaml", "application/json-patch+json",
		"application/merge-patch+json", "application/strategic-merge-patch+json"}
)

// media are those of all that a kind has: custom resources have no protobuf and
// no strategic merge.
func (k one) media(all []string) []string {
	if k.Custom == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(t string) bool {
		return strings.Contains(t, "protobuf") || strings.Contains(t, "strategic")
	})
}

func content(schema object, types []string) object {
	all := object{}
	for _, t := range types {
		all[t] = object{"schema": schema}
	}
	return all
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func describe(verb string) string {
	return map[string]string{
		"list": "list or watch objects of kind ", "create": "create a ", "read": "read the specified ",
		"replace": "replace the specified ", "patch": "partially update the specified ",
		"delete": "delete a ", "deleteCollection": "delete collection of ",
	}[verb]
}

func inPath(name, description string) object {
	return object{"name": name, "in": "path", "required": true, "description": description,
		"schema": object{"type": "string", "uniqueItems": true}}
}

func inQuery(name, typ, description string) any {
	return object{"name": name, "in": "query", "description": description,
		"schema": object{"type": typ, "uniqueItems": true}}
}

var (
	listParameters = []any{
		inQuery("allowWatchBookmarks", "boolean", "asks for bookmarks in a watch: events that say how far it has come"),
		inQuery("continue", "string", "the token of the page before"),
		inQuery("fieldSelector", "string", "restricts the objects by their fields"),
		inQuery("labelSelector", "string", "restricts the objects by their labels"),
		inQuery("limit", "integer", "how many objects a page has at most"),
		inQuery("resourceVersion", "string", "how recent the answer must be"),
		inQuery("resourceVersionMatch", "string", "how resourceVersion is meant: Exact or NotOlderThan"),
		inQuery("sendInitialEvents", "boolean", "begins a watch with the objects that exist"),
		inQuery("timeoutSeconds", "integer", "bounds the duration of the call"),
		inQuery("watch", "boolean", "follows changes instead of listing"),
	}
	writeParameters = []any{
		inQuery("dryRun", "string", "All: the request is processed, nothing is stored"),
		inQuery("fieldManager", "string", "the name that owns the fields written"),
		inQuery("fieldValidation", "string", "what to do with unknown and duplicate fields: Ignore, Warn or Strict"),
	}
	patchParameters = append(writeParameters[:3:3],
		inQuery("force", "boolean", "an apply takes over fields that others own"))
	deleteParameters = []any{
		inQuery("dryRun", "string", "All: the request is processed, nothing is stored"),
		inQuery("gracePeriodSeconds", "integer", "the seconds until the object is deleted; 0: at once"),
		inQuery("orphanDependents", "boolean", "deprecated: use propagationPolicy"),
		inQuery("propagationPolicy", "string", "what happens to dependents: Orphan, Background or Foreground"),
	}
)
