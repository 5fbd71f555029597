package api

import (
	"errors"
	"net/http"
	"net/http/pprof"
	goruntime "runtime"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"

	"sampan/cluster/auth"
)

// plainPath answers paths that are no resource.
func (c *call) plainPath() {
	verb := strings.ToLower(c.r.Method)
	c.verb = verb
	if err := c.s.cfg.Authorizer.Check(c.r.Context(), auth.Attributes{User: c.user, Annotate: c.annotate(), Verb: verb, Path: c.r.URL.Path}); err != nil {
		c.fail(err)
		return
	}
	path := c.r.URL.Path
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if segments[0] == "debug" {
		c.debug(path)
		return
	}
	if strings.HasPrefix(path, "//") {
		c.notFound()
		return
	}
	if c.zpages(path) {
		return
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		if c.knownPath(segments) {
			c.methodNotAllowed()
		} else {
			c.notFound()
		}
		return
	}
	switch segments[0] {
	case "api", "apis":
		if c.r.Method == http.MethodHead && c.knownPath(segments) {
			c.methodNotAllowed() // as upstream, here alone
			return
		}
		if c.discover(segments) {
			return
		}
	case "", "index.html":
		if len(segments) == 1 {
			c.root()
			return
		}
	case "version":
		if len(segments) == 1 {
			c.sendJSON("application/json", c.s.cfg.Version)
			return
		}
	case "healthz", "livez", "readyz":
		if !strings.HasSuffix(path, "/") && c.health(segments) {
			return
		}
	case "openapi":
		if !strings.HasSuffix(path, "/") && c.openapi(segments[1:]) {
			return
		}
		if strings.HasPrefix(path, "/openapi/v3/") { // upstream says no more
			c.code = http.StatusNotFound
			c.w.WriteHeader(http.StatusNotFound)
			return
		}
	case ".well-known", "openid":
		if c.openid(strings.Join(segments, "/")) {
			return
		}
	case "metrics":
		if len(segments) == 1 {
			c.metrics()
			return
		}
		if len(segments) == 2 && segments[1] == "slis" {
			c.slis()
			return
		}
	}
	c.notFound()
}

func (c *call) knownPath(segments []string) bool {
	if segments[0] == "api" && len(segments) > 2 || segments[0] == "apis" && len(segments) > 3 {
		return false // below the documents there are resources only
	}
	return slices.Contains([]string{"", "api", "apis", "version", "healthz", "livez", "readyz", "openapi", "metrics"}, segments[0])
}

// root lists the paths there are.
func (c *call) root() {
	c.sendJSON("application/json", metav1.RootPaths{Paths: c.listedPaths()})
}

func (c *call) listedPaths() []string {
	paths := []string{"/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/", "/metrics", "/metrics/slis",
		"/openapi/v2", "/openapi/v3", "/openapi/v3/", "/openid/v1/jwks", "/statusz", "/version"}
	if c.s.cfg.Flags != nil {
		paths = append(paths, "/flagz")
	}
	for _, all := range []string{"/healthz", "/livez", "/readyz"} {
		paths = append(paths, all, all+"/ping")
		for _, check := range c.s.cfg.Checks {
			if check.Live || all != "/livez" {
				paths = append(paths, all+"/"+check.Name)
			}
		}
	}
	paths = append(paths, "/readyz/shutdown")
	for _, g := range c.s.catalogue().groups {
		if g.Name == "" {
			continue
		}
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+g.Name+"/"+v.Version)
		}
	}
	slices.Sort(paths)
	return paths
}

// sendDoc answers with a document that has a JSON and a protobuf form.
func (c *call) sendDoc(doc runtime.Object) {
	a, err := negotiate(c.r, offer{protobuf: true, plain: true})
	if err != nil {
		c.fail(err)
		return
	}
	c.send(http.StatusOK, a, doc)
}

// health answers /healthz, /livez and /readyz with one check or all.
// (Upstream: apiserver/pkg/server/healthz.)
func (c *call) health(segments []string) bool {
	if len(segments) > 2 {
		return false
	}
	var b strings.Builder
	var single error
	failed, found := 0, false
	exclude := slices.Compact(slices.Sorted(slices.Values(c.query["exclude"])))
	try := func(name string, run func() error) {
		if len(segments) == 2 && segments[1] != name {
			return
		}
		found = true
		at := slices.Index(exclude, name)
		switch {
		case at >= 0 && len(segments) == 1:
			exclude = slices.Delete(exclude, at, at+1)
			b.WriteString("[+]" + name + " excluded: ok\n")
		default:
			err := run()
			c.s.slis.count(name, segments[0], err)
			if err != nil {
				failed++
				single = err
				c.s.cfg.Log.Warn("health check failed", "check", name, "err", err)
				b.WriteString("[-]" + name + " failed: reason withheld\n")
				return
			}
			b.WriteString("[+]" + name + " ok\n")
		}
	}
	try("ping", func() error { return nil })
	for _, check := range c.s.cfg.Checks {
		if segments[0] != "livez" || check.Live {
			try(check.Name, func() error { return check.Run(c.r.Context()) })
		}
	}
	if segments[0] == "readyz" {
		try("shutdown", c.s.closing.open)
	}
	if !found {
		return false
	}
	if len(exclude) > 0 && len(segments) == 1 {
		b.WriteString("warn: some health checks cannot be excluded: no matches for \"" + strings.Join(exclude, "\",\"") + "\"\n")
	}
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	_, verbose := c.query["verbose"]
	switch {
	case failed > 0 && len(segments) == 2: // who asks for one by name may know
		c.sendText(http.StatusInternalServerError, "internal server error: "+single.Error())
	case failed > 0:
		c.sendBytes(http.StatusInternalServerError, "text/plain; charset=utf-8", []byte(b.String()+segments[0]+" check failed\n"))
	case verbose && len(segments) == 1:
		c.sendBytes(http.StatusOK, "text/plain; charset=utf-8", []byte(b.String()+segments[0]+" check passed\n"))
	default:
		c.sendBytes(http.StatusOK, "text/plain; charset=utf-8", []byte("ok"))
	}
	return true
}

func (c *closing) open() error {
	if c.began.Load() {
		return errClosing
	}
	return nil
}

var errClosing = errors.New("process is shutting down")

// debug gives profiles to those who may do everything.
func (c *call) debug(path string) {
	if !slices.Contains(c.user.Groups, auth.Masters) {
		c.fail(auth.Forbidden(auth.Attributes{User: c.user, Verb: strings.ToLower(c.r.Method), Path: path}, ""))
		return
	}
	handlers := map[string]http.HandlerFunc{
		"/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	}
	h := handlers[path]
	if h == nil && strings.HasPrefix(path, "/debug/pprof") {
		h = pprof.Index
	}
	if f := c.s.cfg.Limits.Flow; f != nil {
		switch path {
		case "/debug/api_priority_and_fairness/dump_priority_levels":
			h = func(w http.ResponseWriter, _ *http.Request) { f.DumpLevels(w) }
		case "/debug/api_priority_and_fairness/dump_queues":
			h = func(w http.ResponseWriter, _ *http.Request) { f.DumpQueues(w) }
		case "/debug/api_priority_and_fairness/dump_requests":
			h = func(w http.ResponseWriter, r *http.Request) {
				f.DumpRequests(w, r.URL.Query().Get("includeRequestDetails") != "")
			}
		}
	}
	if more := c.s.cfg.Debug[path]; more != nil {
		h = more
	}
	if h == nil {
		c.notFound()
		return
	}
	c.code = http.StatusOK
	h(c.w, c.r)
}

// openid answers what a relying party needs to check our tokens.
func (c *call) openid(path string) bool {
	t := c.s.cfg.Tokens
	if t == nil {
		return false
	}
	var data []byte
	var err error
	contentType := "application/json"
	switch path {
	case ".well-known/openid-configuration":
		data, err = t.Discovery()
	case "openid/v1/jwks":
		data, err = t.KeySet()
		contentType = "application/jwk-set+json"
	default:
		return false
	}
	if err != nil {
		c.fail(err)
		return true
	}
	c.w.Header().Set("Cache-Control", "public, max-age=3600")
	c.sendBytes(http.StatusOK, contentType, data)
	return true
}

// defaultVersion is the version of the API that is served. It behaves as itself,
// and as upstream's would work beside servers of the version before.
func defaultVersion() version.Info {
	return version.Info{Major: "1", Minor: "37", EmulationMajor: "1", EmulationMinor: "37", MinCompatibilityMajor: "1", MinCompatibilityMinor: "36", GitVersion: "v1.37.2+sampan", GitTreeState: "clean",
		GoVersion: goruntime.Version(), Compiler: goruntime.Compiler, Platform: goruntime.GOOS + "/" + goruntime.GOARCH}
}
