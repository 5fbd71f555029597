package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/client"
	"sampan/cluster/request"
)

// through is a subresource that is answered elsewhere: by the kubelet port of
// a node, or by a server in a pod.
type through struct {
	kind   string   // in discovery
	verbs  []string // in discovery
	locate func(c *call, r request.Request, q url.Values) (*target, error)
}

// throughs are all of them, by "resource/subresource" of the core group.
var throughs = map[string]through{
	"pods/log":         {"Pod", []string{"get"}, locateLog},
	"pods/exec":        {"PodExecOptions", []string{"create", "get"}, locateExec},
	"pods/attach":      {"PodAttachOptions", []string{"create", "get"}, locateAttach},
	"pods/portforward": {"PodPortForwardOptions", []string{"create", "get"}, locatePortForward},
	"pods/proxy":       {"PodProxyOptions", proxyVerbs, locatePodProxy},
	"services/proxy":   {"ServiceProxyOptions", proxyVerbs, locateServiceProxy},
	"nodes/proxy":      {"NodeProxyOptions", proxyVerbs, locateNodeProxy},
}

var proxyVerbs = []string{"create", "delete", "get", "patch", "update"}

// target is where a request goes.
type target struct {
	node    string // by the Dialer; empty: to address
	address string // host:port
	scheme  string // "http" or "https" of address
	path    string
	query   url.Values

	log    bool   // a stream of text whose errors are the kubelet's
	stream string // "exec", "attach" or "portforward": upgraded; empty: plain HTTP
	tty    bool
	stdin  bool
	stdout bool
	stderr bool
	empty  bool // answered with nothing: the log of a pod without a node
}

func (c *call) throughKey() string {
	if c.route.GV != corev1.SchemeGroupVersion || c.route.Subresource == "" {
		return ""
	}
	return c.route.Resource + "/" + c.route.Subresource
}

// through authorizes, finds the target and passes the request on.
func (c *call) through(t through, r request.Request, q url.Values) {
	// OPTIONS has no verb: who may do everything may send it. Discovery does not name it.
	options := c.r.Method == http.MethodOptions && r.Subresource == "proxy"
	if !slices.Contains(t.verbs, r.Verb) && !options || c.r.Method == http.MethodHead && r.Subresource == "log" {
		c.methodNotAllowed()
		return
	}
	if err := c.s.cfg.Authorizer.Authorize(c.r.Context(), r); err != nil {
		c.fail(err)
		return
	}
	if r.Verb == "get" && slices.Contains(t.verbs, "create") && r.Subresource != "proxy" {
		// A WebSocket starts with GET, and runs a command none the less.
		// (KEP-2862's neighbour, feature AuthorizePodWebsocketUpgradeCreatePermission.)
		r.Verb = "create"
		if err := c.s.cfg.Authorizer.Authorize(c.r.Context(), r); err != nil {
			c.fail(err)
			return
		}
	}
	if c.s.cfg.Objects == nil {
		c.fail(apierrors.NewServiceUnavailable("this server has no way to pods and nodes"))
		return
	}
	where, err := t.locate(c, r, q)
	if err != nil {
		c.fail(err)
		return
	}
	if options := connectOptions(t.kind, c.route.Rest, q); options != nil {
		if err := c.s.cfg.Verbs.Connect(c.r.Context(), r, options); err != nil {
			c.fail(err)
			return
		}
	}
	ctx, end := c.lasting()
	defer end()
	c.pass(ctx, where)
}

func locateLog(c *call, r request.Request, q url.Values) (*target, error) {
	o, err := logOptions(q)
	if err != nil {
		return nil, err
	}
	pod, err := client.Get[*corev1.Pod](c.r.Context(), c.s.cfg.Objects, r.Namespace, r.Name)
	if err != nil {
		return nil, err
	}
	container, err := containerOf(pod, o.container)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return &target{empty: true}, nil
	}
	return &target{node: pod.Spec.NodeName, log: true, query: o.query,
		path: "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + container}, nil
}

type podLogOptions struct {
	container string
	query     url.Values // for the kubelet
}

var logStreams = []string{"All", "Stdout", "Stderr"}

// logOptions reads corev1.PodLogOptions from a query. (Upstream:
// ValidatePodLogOptions in pkg/apis/core/validation.)
func logOptions(q url.Values) (podLogOptions, error) {
	o := podLogOptions{container: q.Get("container"), query: url.Values{}}
	var errs field.ErrorList
	for _, name := range []string{"follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend"} {
		if isTrue(q, name) && name != "insecureSkipTLSVerifyBackend" {
			o.query.Set(name, "true")
		}
	}
	for _, n := range []struct {
		name  string
		least int64
		text  string
	}{
		{"tailLines", 0, "must be greater than or equal to 0"},
		{"limitBytes", 1, "must be greater than 0"},
		{"sinceSeconds", 1, "must be greater than 0"},
	} {
		given := q.Get(n.name)
		if given == "" {
			continue
		}
		v, err := strconv.ParseInt(given, 10, 64)
		if err != nil {
			return o, apierrors.NewBadRequest(err.Error())
		}
		if v < n.least {
			errs = append(errs, field.Invalid(field.NewPath(n.name), v, n.text))
		}
		o.query.Set(n.name, given)
	}
	if since := q.Get("sinceTime"); since != "" {
		var at metav1.Time
		if err := at.UnmarshalQueryParameter(since); err != nil {
			return o, apierrors.NewBadRequest(err.Error())
		}
		if q.Get("sinceSeconds") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		o.query.Set("sinceTime", since)
	}
	if stream := q.Get("stream"); stream != "" {
		if !slices.Contains(logStreams, stream) {
			errs = append(errs, field.NotSupported(field.NewPath("stream"), stream, logStreams))
		} else if stream != "All" && q.Get("tailLines") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
		o.query.Set("stream", stream)
	}
	if len(errs) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, "", errs)
	}
	return o, nil
}

// containerOf picks the container that is meant. The texts are upstream's
// (pkg/registry/core/pod/strategy.go).
func containerOf(pod *corev1.Pod, name string) (string, error) {
	names := func(cs []corev1.Container) (all []string) {
		for _, c := range cs {
			all = append(all, c.Name)
		}
		return all
	}
	regular, initial := names(pod.Spec.Containers), names(pod.Spec.InitContainers)
	var ephemeral []string
	for _, e := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, e.Name)
	}
	if name == "" {
		switch {
		case len(regular) == 1:
			return regular[0], nil
		case len(regular) == 0:
			return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(regular, " "))
		if len(initial) > 0 {
			text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(initial, " "))
		}
		return "", apierrors.NewBadRequest(text)
	}
	if slices.Contains(regular, name) || slices.Contains(initial, name) || slices.Contains(ephemeral, name) {
		return name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func locateExec(c *call, r request.Request, q url.Values) (*target, error) {
	return locateStream(c, r, q, "exec")
}

func locateAttach(c *call, r request.Request, q url.Values) (*target, error) {
	return locateStream(c, r, q, "attach")
}

// locateStream translates the API's query into the kubelet's: stdin is input
// there. (Upstream: streamParams in pkg/registry/core/pod/strategy.go.)
func locateStream(c *call, r request.Request, q url.Values, what string) (*target, error) {
	pod, err := client.Get[*corev1.Pod](c.r.Context(), c.s.cfg.Objects, r.Namespace, r.Name)
	if err != nil {
		return nil, err
	}
	container, err := containerOf(pod, q.Get("container"))
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	t := &target{node: pod.Spec.NodeName, stream: what, query: url.Values{},
		path:  "/" + what + "/" + pod.Namespace + "/" + pod.Name + "/" + container,
		stdin: isTrue(q, "stdin"), stdout: isTrue(q, "stdout"), stderr: isTrue(q, "stderr"), tty: isTrue(q, "tty")}
	for _, p := range []struct {
		on   bool
		name string
	}{{t.stdin, "input"}, {t.stdout, "output"}, {t.stderr, "error"}, {t.tty, "tty"}} {
		if p.on {
			t.query.Set(p.name, "1")
		}
	}
	if what == "exec" {
		for _, arg := range q["command"] {
			t.query.Add("command", arg)
		}
	}
	return t, nil
}

func locatePortForward(c *call, r request.Request, q url.Values) (*target, error) {
	pod, err := client.Get[*corev1.Pod](c.r.Context(), c.s.cfg.Objects, r.Namespace, r.Name)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	t := &target{node: pod.Spec.NodeName, stream: "portforward", query: url.Values{},
		path: "/portForward/" + pod.Namespace + "/" + pod.Name}
	if ports := q["ports"]; len(ports) > 0 {
		for _, p := range ports {
			for one := range strings.SplitSeq(p, ",") {
				if n, err := strconv.ParseUint(one, 10, 16); err != nil || n == 0 {
					return nil, apierrors.NewBadRequest(fmt.Sprintf("port %q must be a number from 1 to 65535", one))
				}
			}
		}
		t.query.Set("port", strings.Join(ports, ","))
	}
	return t, nil
}

func locateNodeProxy(c *call, r request.Request, q url.Values) (*target, error) {
	name, _, _ := strings.Cut(r.Name, ":") // node:port is upstream's; our nodes have one port
	if _, err := client.Get[*corev1.Node](c.r.Context(), c.s.cfg.Objects, "", name); err != nil {
		return nil, err
	}
	return &target{node: name, path: c.proxyPath(q), query: q}, nil
}

func locatePodProxy(c *call, r request.Request, q url.Values) (*target, error) {
	scheme, name, port, err := splitProxyName(r.Name, "pod")
	if err != nil {
		return nil, err
	}
	pod, err := client.Get[*corev1.Pod](c.r.Context(), c.s.cfg.Objects, r.Namespace, name)
	if err != nil {
		return nil, err
	}
	if port == "" {
		// Upstream: the first port of the first container that has one.
		for _, ctr := range pod.Spec.Containers {
			if len(ctr.Ports) > 0 {
				port = strconv.Itoa(int(ctr.Ports[0].ContainerPort))
				break
			}
		}
	}
	if pod.Status.PodIP == "" {
		return nil, apierrors.NewBadRequest("address not allowed") // upstream's text for a pod without one
	}
	return &target{address: joinPort(pod.Status.PodIP, port, scheme), scheme: scheme, path: c.proxyPath(q), query: q}, nil
}

// proxyPath is what follows "proxy" in the URL, or ?path= .
func (c *call) proxyPath(q url.Values) string {
	if c.route.Rest != "" {
		return "/" + c.route.Rest
	}
	if p := q.Get("path"); p != "" {
		return "/" + strings.TrimPrefix(p, "/")
	}
	if strings.HasSuffix(c.r.URL.Path, "/") {
		return "/"
	}
	return ""
}

// splitProxyName takes "https:web:http" apart: scheme, name and port, of
// which only the name must be there. (Upstream: utilnet.SplitSchemeNamePort.)
func splitProxyName(id, what string) (scheme, name, port string, err error) {
	parts := strings.Split(id, ":")
	switch len(parts) {
	case 1:
		name = parts[0]
	case 2:
		name, port = parts[0], parts[1]
	case 3:
		scheme, name, port = parts[0], parts[1], parts[2]
	}
	if scheme == "" {
		scheme = "http"
	}
	if name == "" || scheme != "http" && scheme != "https" {
		return "", "", "", apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", what, id))
	}
	return scheme, name, port, nil
}
