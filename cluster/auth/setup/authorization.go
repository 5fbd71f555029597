package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"sampan/cluster/auth"
	"sampan/cluster/auth/webhook"
	"sampan/internal/fault"
)

// Authorization says who decides what users may. The zero value: the modes Node
// and RBAC.
type Authorization struct {
	ConfigFile string   // --authorization-config
	Modes      []string // --authorization-mode
	Webhook    AuthorizationWebhook
}

// AuthorizationWebhook is by the flags --authorization-webhook-*.
type AuthorizationWebhook struct {
	ConfigFile string
	Version    string         // default: v1beta1, which is upstream's
	Yes, No    *time.Duration // how long answers count; default: 5 minutes, 30 s
}

// The modes, by upstream's names.
const (
	AlwaysAllow = "AlwaysAllow"
	AlwaysDeny  = "AlwaysDeny"
	Node        = "Node"
	RBAC        = "RBAC"
	Webhook     = "Webhook"
)

func modes() []string { return []string{AlwaysAllow, AlwaysDeny, Webhook, RBAC, Node} }

// Rules are the rules that modes stand for.
type Rules struct {
	Node, RBAC auth.Rule
	Log        *slog.Logger
}

// Authorizers is who says what somebody may. It is ready for use; Run keeps it
// up to date.
type Authorizers struct {
	*auth.Authorizer

	// AlwaysAllow says that all may do everything.
	AlwaysAllow bool

	rules    Rules
	file     string
	tried    []byte
	required []string // modes that a changed file must name too
	current  auth.Replaceable
	webhooks []*webhook.Rule
}

// Open reads the files and checks all. It asks nobody yet.
func (z Authorization) Open(rules Rules) (*Authorizers, error) {
	out := &Authorizers{rules: rules, file: z.ConfigFile}
	if reflect.DeepEqual(z, Authorization{}) {
		out.Authorizer = auth.NewAuthorizer(named(Node, rules.Node), named(RBAC, rules.RBAC))
		return out, nil
	}
	var cfg *apiserver.AuthorizationConfiguration
	var err error
	if z.ConfigFile == "" {
		cfg, err = z.fromFlags()
	} else {
		cfg, err = z.fromFile(out)
	}
	if err != nil {
		return nil, err
	}
	for _, a := range cfg.Authorizers {
		out.AlwaysAllow = out.AlwaysAllow || a.Type == AlwaysAllow
		if a.Type != Webhook {
			out.required = append(out.required, string(a.Type))
		}
	}
	if err := out.take(cfg); err != nil {
		return nil, err
	}
	out.Authorizer = auth.NewAuthorizer(&out.current)
	return out, nil
}

// named has the name that upstream gives a mode for which no file has another.
func named(mode string, r auth.Rule) auth.Rule {
	return auth.Named{Name: strings.ToLower(mode), Rule: r}
}

func wrongAuthorization(on string, err error) error {
	return &fault.Error{Class: fault.Invalid, Op: "configure authorization", On: on, Err: err}
}

// fromFlags is what a file would say.
func (z Authorization) fromFlags() (*apiserver.AuthorizationConfiguration, error) {
	if len(z.Modes) == 0 {
		z.Modes = []string{Node, RBAC}
	}
	if z.Webhook != (AuthorizationWebhook{}) && !slices.Contains(z.Modes, Webhook) {
		return nil, wrongAuthorization("--authorization-webhook-*", errors.New("cannot specify --authorization-webhook-config-file without mode Webhook"))
	}
	cfg := &apiserver.AuthorizationConfiguration{}
	for n, mode := range z.Modes {
		a := apiserver.AuthorizerConfiguration{Type: apiserver.AuthorizerType(mode), Name: strings.ToLower(mode)}
		switch {
		case !slices.Contains(modes(), mode):
			return nil, wrongAuthorization("--authorization-mode", fmt.Errorf("authorization-mode %q is not a valid mode; choose of %s", mode, strings.Join(modes(), ",")))
		case slices.Contains(z.Modes[:n], mode):
			return nil, wrongAuthorization("--authorization-mode", fmt.Errorf("authorization-mode %q has mode specified more than once", z.Modes))
		case mode == Webhook && z.Webhook.ConfigFile == "":
			return nil, wrongAuthorization("--authorization-mode", errors.New("authorization-mode Webhook's authorization config file not passed"))
		case mode == Webhook:
			yes, no, version := 5*time.Minute, 30*time.Second, "v1beta1"
			if z.Webhook.Yes != nil {
				yes = *z.Webhook.Yes
			}
			if z.Webhook.No != nil {
				no = *z.Webhook.No
			}
			if z.Webhook.Version != "" {
				version = z.Webhook.Version
			}
			a.Name = "default"
			a.Webhook = &apiserver.WebhookConfiguration{
				AuthorizedTTL: metav1.Duration{Duration: yes}, CacheAuthorizedRequests: yes != 0,
				UnauthorizedTTL: metav1.Duration{Duration: no}, CacheUnauthorizedRequests: no != 0,
				Timeout: metav1.Duration{Duration: webhook.DefaultTimeout}, FailurePolicy: apiserver.FailurePolicyNoOpinion,
				SubjectAccessReviewVersion: version,
				ConnectionInfo: apiserver.WebhookConnectionInfo{Type: apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile,
					KubeConfigFile: &z.Webhook.ConfigFile},
			}
		}
		cfg.Authorizers = append(cfg.Authorizers, a)
	}
	return cfg, nil
}

func (z Authorization) fromFile(out *Authorizers) (*apiserver.AuthorizationConfiguration, error) {
	if len(z.Modes) > 0 || z.Webhook != (AuthorizationWebhook{}) {
		return nil, wrongAuthorization(z.ConfigFile, errors.New("--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined"))
	}
	data, err := read(z.ConfigFile)
	if err != nil {
		return nil, err
	}
	out.tried = data
	return out.parse(data)
}

// parse reads a file and checks it.
func (z *Authorizers) parse(data []byte) (*apiserver.AuthorizationConfiguration, error) {
	cfg, err := load[apiserver.AuthorizationConfiguration](z.file, data)
	if err != nil {
		return nil, err
	}
	errs := validation.ValidateAuthorizationConfiguration(authorizationcel.NewDefaultCompiler(), nil, cfg, sets.New(modes()...), sets.New(Webhook))
	if err := errs.ToAggregate(); err != nil {
		return nil, wrongAuthorization(z.file, err)
	}
	var seen []string
	for _, a := range cfg.Authorizers {
		if a.Type == Webhook {
			continue
		}
		seen = append(seen, string(a.Type))
		if want := strings.ToLower(string(a.Type)); a.Name != want {
			return nil, wrongAuthorization(z.file, fmt.Errorf("expected name %s for authorizer %s instead of %s", want, a.Type, a.Name))
		}
	}
	for _, mode := range z.required {
		if !slices.Contains(seen, mode) {
			return nil, wrongAuthorization(z.file, fmt.Errorf("missing required types: [%s]", mode))
		}
	}
	return cfg, nil
}

// take has this configuration count from now on.
func (z *Authorizers) take(cfg *apiserver.AuthorizationConfiguration) error {
	var rules []auth.Rule
	var webhooks []*webhook.Rule
	for _, a := range cfg.Authorizers {
		switch a.Type {
		case AlwaysAllow:
			rules = append(rules, auth.Named{Name: a.Name, Rule: auth.Always(auth.Allow)})
		case AlwaysDeny:
			rules = append(rules, auth.Named{Name: a.Name, Rule: auth.Always(auth.NoOpinion)})
		case Node:
			rules = append(rules, auth.Named{Name: a.Name, Rule: z.rules.Node})
		case RBAC:
			rules = append(rules, auth.Named{Name: a.Name, Rule: z.rules.RBAC})
		case Webhook:
			w, err := openRule(a)
			if err != nil {
				return err
			}
			rules, webhooks = append(rules, auth.Named{Name: a.Name, Rule: w}), append(webhooks, w)
		}
	}
	z.current.Replace(rules...)
	for _, w := range z.webhooks {
		w.Close()
	}
	z.webhooks = webhooks
	return nil
}

func openRule(a apiserver.AuthorizerConfiguration) (*webhook.Rule, error) {
	c := a.Webhook
	if c.ConnectionInfo.Type != apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile {
		return nil, wrongAuthorization(a.Name, fmt.Errorf("webhook.connectionInfo.type: %s is not for an API server; use %s",
			c.ConnectionInfo.Type, apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile))
	}
	e, err := webhook.Open(*c.ConnectionInfo.KubeConfigFile, c.Timeout.Duration)
	if err != nil {
		return nil, err
	}
	cfg := webhook.RuleConfig{Endpoint: e, Version: c.SubjectAccessReviewVersion}
	if c.CacheAuthorizedRequests {
		cfg.Yes = c.AuthorizedTTL.Duration
	}
	if c.CacheUnauthorizedRequests {
		cfg.No = c.UnauthorizedTTL.Duration
	}
	if c.FailurePolicy == apiserver.FailurePolicyDeny {
		cfg.OnError = auth.Deny
	}
	if len(c.MatchConditions) > 0 {
		conditions, errs := validation.ValidateAndCompileMatchConditions(authorizationcel.NewDefaultCompiler(), c.MatchConditions)
		if err := errs.ToAggregate(); err != nil {
			return nil, wrongAuthorization(a.Name, err)
		}
		cfg.Conditions = conditions
	}
	return webhook.NewRule(cfg)
}

// Run takes up what the configuration's file says when it changes, until ctx
// ends.
func (z *Authorizers) Run(ctx context.Context) error {
	if z.file == "" {
		<-ctx.Done()
		return nil
	}
	return follow(ctx, z.rules.Log, z.file, z.tried, func(data []byte) error {
		cfg, err := z.parse(data)
		if err != nil {
			return err
		}
		return z.take(cfg)
	})
}
