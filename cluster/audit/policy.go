package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sampan/internal/fault"
)

// Attributes are what a policy looks at. Resource is empty for a path that is
// no resource.
type Attributes struct {
	User                                                   User
	Verb                                                   string
	Namespace, Group, Version, Resource, Subresource, Name string
	Path                                                   string
}

// User is who asks.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// rule is what a policy says of one request.
type rule struct {
	level       auditv1.Level
	omit        []auditv1.Stage
	omitManaged bool // managedFields are left out of objects
}

type policy struct{ auditv1.Policy }

// readPolicy reads a policy. Fields that it does not know are no error, as
// upstream has it; they are said.
func readPolicy(file string, log *slog.Logger) (*policy, error) {
	wrong := func(err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "read audit policy", On: file, Err: err,
			Fix: "correct the file given with --audit-policy-file; docs/audit.md has examples"}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, wrong(err)
	}
	p, strict, err := parsePolicy(data)
	if err != nil {
		return nil, wrong(err)
	}
	for _, s := range strict {
		log.Warn("the audit policy has a mistake that is passed over", "file", file, "err", s)
	}
	return p, nil
}

func parsePolicy(data []byte) (p *policy, strict []error, err error) {
	if data, err = yaml.YAMLToJSON(data); err != nil {
		return nil, nil, err
	}
	p = &policy{}
	if strict, err = json.UnmarshalStrict(data, &p.Policy); err != nil {
		return nil, nil, err
	}
	if want := auditv1.SchemeGroupVersion.WithKind("Policy"); p.GroupVersionKind() != want {
		return nil, nil, fmt.Errorf("it is of apiVersion %q, kind %q; want %q, %q", p.APIVersion, p.Kind, want.GroupVersion(), want.Kind)
	}
	if len(p.Rules) == 0 {
		return nil, nil, errors.New("loaded illegal policy with 0 rules")
	}
	for i := range p.Rules {
		p.Rules[i].OmitStages = append(p.Rules[i].OmitStages, p.OmitStages...)
	}
	return p, strict, p.validate().ToAggregate()
}

var (
	levels = []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse}
	stages = []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic}
)

// validate says what upstream says. (apiserver/pkg/apis/audit/validation.)
func (p *policy) validate() (errs field.ErrorList) {
	errs = append(errs, validateStages(p.OmitStages, field.NewPath("omitStages"))...)
	for i, r := range p.Rules {
		path := field.NewPath("rules").Index(i)
		switch level := path.Child("level"); {
		case r.Level == "":
			errs = append(errs, field.Required(level, ""))
		case !slices.Contains(levels, r.Level):
			errs = append(errs, field.NotSupported(level, r.Level, levels))
		}
		urls := path.Child("nonResourceURLs")
		for j, u := range r.NonResourceURLs {
			if u == "*" {
				continue
			}
			if !strings.HasPrefix(u, "/") {
				errs = append(errs, field.Invalid(urls.Index(j), u, "non-resource URL rules must begin with a '/' character"))
			}
			if u != "" && strings.ContainsRune(u[:len(u)-1], '*') {
				errs = append(errs, field.Invalid(urls.Index(j), u, "non-resource URL wildcards '*' must be the final character of the rule"))
			}
		}
		resources := path.Child("resources")
		for _, gr := range r.Resources {
			if gr.Group != "" && gr.Group != "*" {
				if why := validation.NameIsDNSSubdomain(gr.Group, false); len(why) > 0 {
					errs = append(errs, field.Invalid(resources.Child("group"), gr.Group, strings.Join(why, ",")))
				}
			}
			if len(gr.ResourceNames) > 0 && len(gr.Resources) == 0 {
				errs = append(errs, field.Invalid(resources.Child("resourceNames"), gr.ResourceNames, "using resourceNames requires at least one resource"))
			}
		}
		errs = append(errs, validateStages(r.OmitStages, path.Child("omitStages"))...)
		if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
			errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
	}
	return errs
}

func validateStages(omit []auditv1.Stage, path *field.Path) (errs field.ErrorList) {
	for i, s := range omit {
		if !slices.Contains(stages, s) {
			errs = append(errs, field.Invalid(path.Index(i), string(s), "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"))
		}
	}
	return errs
}

// decide finds the first rule that matches. What none does is not recorded.
func (p *policy) decide(a Attributes) rule {
	for i := range p.Rules {
		if r := &p.Rules[i]; matches(r, &a) {
			out := rule{level: r.Level, omit: r.OmitStages, omitManaged: p.OmitManagedFields}
			if r.OmitManagedFields != nil {
				out.omitManaged = *r.OmitManagedFields
			}
			return out
		}
	}
	return rule{level: auditv1.LevelNone}
}

func matches(r *auditv1.PolicyRule, a *Attributes) bool {
	if len(r.Users) > 0 && !slices.Contains(r.Users, a.User.Name) {
		return false
	}
	if len(r.UserGroups) > 0 && !slices.ContainsFunc(a.User.Groups, func(g string) bool { return slices.Contains(r.UserGroups, g) }) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, a.Verb) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return a.Resource != "" && matchesResource(r, a)
	case len(r.NonResourceURLs) > 0:
		return a.Resource == "" && slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return matchesPath(url, a.Path) })
	}
	return true
}

func matchesPath(url, path string) bool {
	prefix, wide := strings.CutSuffix(url, "*")
	return url == path || wide && strings.HasPrefix(path, prefix)
}

// matchesResource: resources are "pods", "pods/log", "pods/*", "*/scale" or "*".
func matchesResource(r *auditv1.PolicyRule, a *Attributes) bool {
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, a.Namespace) {
		return false
	}
	if len(r.Resources) == 0 {
		return true
	}
	whole := a.Resource
	if a.Subresource != "" {
		whole += "/" + a.Subresource
	}
	for _, gr := range r.Resources {
		if gr.Group != a.Group && gr.Group != "*" {
			continue
		}
		if len(gr.Resources) == 0 {
			return true
		}
		if len(gr.ResourceNames) > 0 && !slices.Contains(gr.ResourceNames, a.Name) {
			continue
		}
		for _, want := range gr.Resources {
			if want == "*" || want == whole || want == a.Resource+"/*" || a.Subresource != "" && want == "*/"+a.Subresource {
				return true
			}
		}
	}
	return false
}
