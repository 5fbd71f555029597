package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/object"
)

// component is what this program calls itself in /statusz, /flagz and metrics,
// as upstream's API server does.
const component = "apiserver"

const zpageHeader = "\n%s %s\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"

// zpage is the beginning of what /statusz and /flagz say to those who ask for
// an object of config.k8s.io. (KEP-4827, KEP-4828; apiserver/pkg/server/statusz
// and flagz.)
type zpage struct {
	metav1.TypeMeta
	Metadata map[string]string `json:"metadata"`
}

type statusz struct {
	zpage
	StartTime        metav1.Time `json:"startTime"`
	UptimeSeconds    int64       `json:"uptimeSeconds"`
	GoVersion        string      `json:"goVersion"`
	BinaryVersion    string      `json:"binaryVersion"`
	EmulationVersion string      `json:"emulationVersion,omitempty"`
	Paths            []string    `json:"paths"`
}

type flagz struct {
	zpage
	Flags map[string]string `json:"flags,omitempty"`
}

// zpages answers /statusz and /flagz, whatever the method is, as upstream does.
func (c *call) zpages(path string) bool {
	switch {
	case path == "/statusz":
		c.zpage("Statusz", func(z zpage) any { return c.statusz(z) }, c.statuszText)
	case path == "/flagz" && c.s.cfg.Flags != nil:
		c.zpage("Flagz", func(z zpage) any { return flagz{z, c.s.cfg.Flags} }, c.flagzText)
	default:
		return false
	}
	return true
}

// zpage answers in the form that the client wants: text, or an object of a
// version that it names; an object without a version there is none.
func (c *call) zpage(kind string, object func(zpage) any, text func() []byte) {
	plain := func() { c.sendBytes(http.StatusOK, "text/plain; charset=utf-8", text()) }
	accept := c.r.Header.Get("Accept")
	if strings.TrimSpace(accept) == "" {
		plain()
		return
	}
	for _, wanted := range clauses(accept) {
		mediaType, version, ok := zpageForm(wanted, kind)
		if !ok {
			continue
		}
		if version == "" {
			plain()
			return
		}
		if version == "v1alpha1" {
			c.warn("This version of the " + strings.ToLower(kind) + " endpoint is deprecated. Please use a newer version.")
		}
		c.sendZpage(mediaType, object(zpage{metav1.TypeMeta{Kind: kind, APIVersion: "config.k8s.io/" + version}, map[string]string{"name": component}}))
		return
	}
	c.fail(notAcceptable(zpageTypes()))
}

func zpageTypes() []string { return []string{object.JSON, object.YAML, "text/plain"} }

// zpageForm is how a clause of an Accept header is answered; no version means
// text.
func zpageForm(wanted clause, kind string) (mediaType, version string, ok bool) {
	if wanted.params["as"] == "" {
		return "text/plain", "", slices.Contains([]string{"*/*", "text/*", "text/plain"}, wanted.mediaType)
	}
	version = wanted.params["v"]
	if wanted.params["as"] != kind || wanted.params["g"] != "config.k8s.io" || version != "v1beta1" && version != "v1alpha1" {
		return "", "", false
	}
	switch wanted.mediaType {
	case "*/*", "application/*", object.JSON:
		return object.JSON, version, true
	case object.YAML:
		return object.YAML, version, true
	}
	return "", "", false
}

func (c *call) sendZpage(mediaType string, doc any) {
	if mediaType == object.JSON {
		c.sendJSON(mediaType, doc)
		return
	}
	data, err := json.Marshal(doc)
	if err == nil {
		data, err = toYAML(data)
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.sendBytes(http.StatusOK, mediaType, data)
}

func (c *call) statusz(z zpage) statusz {
	v := c.s.cfg.Version
	start := time.Unix(0, 0) // upstream's, where it cannot be read
	if p := readProcess(); !math.IsNaN(p.started) {
		start = time.Unix(int64(p.started), 0)
	}
	return statusz{zpage: z, StartTime: metav1.Time{Time: start}, UptimeSeconds: max(0, int64(c.s.cfg.Now().Sub(start).Seconds())), GoVersion: v.GoVersion,
		BinaryVersion: strings.TrimPrefix(v.GitVersion, "v"), EmulationVersion: v.Major + "." + v.Minor, Paths: c.debuggingPaths()}
}

// debuggingPaths are the first parts of the paths that help an operator.
func (c *call) debuggingPaths() []string {
	found := map[string]bool{}
	for _, path := range c.listedPaths() {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if !slices.Contains([]string{"", "apis", "api", "openid", "openapi", ".well-known"}, first) {
			found["/"+first] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// statuszText has one of the separators between which upstream chooses at
// random, so that nobody reads it by program.
func (c *call) statuszText() []byte {
	s := c.statusz(zpage{})
	var b bytes.Buffer
	fmt.Fprintf(&b, zpageHeader, component, "statusz")
	up := s.UptimeSeconds
	fmt.Fprintf(&b, "\nStarted: %s\nUp: %d hr %02d min %02d sec\nGo version: %s\nBinary version: %s\nEmulation version: %s\nPaths: %s\n",
		s.StartTime.Format(time.UnixDate), up/3600, up/60%60, up%60, s.GoVersion, s.BinaryVersion, s.EmulationVersion, strings.Join(s.Paths, " "))
	return b.Bytes()
}

func (c *call) flagzText() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, zpageHeader, component, "flagz")
	flags := c.s.cfg.Flags
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		fmt.Fprintf(&b, "%s=%s\n", name, flags[name])
	}
	return b.Bytes()
}
