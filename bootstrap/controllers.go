package bootstrap

import (
	"context"
	"net/netip"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/admission/policy"
	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/controller/bootstrapsigner"
	"sampan/cluster/controller/certificates"
	"sampan/cluster/controller/clusterrole"
	"sampan/cluster/controller/cronjob"
	"sampan/cluster/controller/daemonset"
	"sampan/cluster/controller/deployment"
	"sampan/cluster/controller/disruption"
	"sampan/cluster/controller/endpoints"
	"sampan/cluster/controller/endpointslice"
	"sampan/cluster/controller/furnish"
	"sampan/cluster/controller/garbage"
	"sampan/cluster/controller/job"
	"sampan/cluster/controller/namespace"
	"sampan/cluster/controller/nodeipam"
	"sampan/cluster/controller/nodelife"
	"sampan/cluster/controller/policystatus"
	"sampan/cluster/controller/protection"
	"sampan/cluster/controller/quota"
	"sampan/cluster/controller/replicaset"
	"sampan/cluster/controller/replication"
	"sampan/cluster/controller/servicecidr"
	"sampan/cluster/controller/statefulset"
	"sampan/cluster/controller/tokencleaner"
	"sampan/cluster/controller/tokens"
	"sampan/cluster/controller/ttlafterfinished"
	"sampan/cluster/controller/unusedtokens"
	"sampan/cluster/controller/volumebinder"
	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/scheduler"
	"sampan/cluster/schema"
	"sampan/cluster/verb"
)

// controllers is the table of what drives the cluster to its desired state,
// each under its own user.
func (r *running) controllers(as func(name string) client.Client) []part {
	return []part{
		{"scheduler", scheduler.New(scheduler.Config{
			Client: r.verbs.WithCache(auth.Component("kube-scheduler"), auth.Component("kube-scheduler")), Log: r.log,
			Metrics: scheduler.NewMetrics(r.metrics)}).Run},
		{"replicaset", replicaset.New(replicaset.Config{Client: as("replicaset-controller"), Log: r.log}).Run},
		{"replication", replication.New(replicaset.Config{Client: as("replication-controller"), Log: r.log}).Run},
		{"daemonset", daemonset.New(daemonset.Config{Client: as("daemon-set-controller"), Log: r.log}).Run},
		{"statefulset", statefulset.New(statefulset.Config{Client: as("statefulset-controller"), Log: r.log}).Run},
		{"deployment", deployment.New(deployment.Config{Client: as("deployment-controller"), Log: r.log}).Run},
		{"certificates", certificates.New(certificates.Config{Client: as("certificate-controller"), Log: r.log,
			Authority: certificates.Authority{Certificate: r.pki.CA, Key: r.pki.caKey}, May: r.mayAsk}).Run},
		{"podcertificaterequest-cleaner", certificates.NewCleaner(as("podcertificaterequestcleaner"), r.log).Run},
		{"clustertrustbundle-publisher", certificates.NewPublisher(as("kube-apiserver-serving-clustertrustbundle-publisher"), r.log, string(r.pki.CAPEM)).Run},
		{"bootstrapsigner", bootstrapsigner.New(bootstrapsigner.Config{Client: as("bootstrap-signer"), Log: r.log}).Run},
		{"tokens", tokens.New(tokens.Config{Client: r.verbs.WithCache(auth.Component("kube-controller-manager"), auth.Component("kube-controller-manager")), Log: r.log, CA: string(r.pki.CAPEM),
			Sign: r.tokens.ForSecret}).Run},
		{"tokencleaner", tokencleaner.New(tokencleaner.Config{Client: as("token-cleaner"), Log: r.log}).Run},
		{"unusedtokens", unusedtokens.New(unusedtokens.Config{Client: as("legacy-service-account-token-cleaner"), Log: r.log, Period: r.cfg.ServiceAccounts.CleanUpPeriod}).Run},
		{"cronjob", cronjob.New(cronjob.Config{Client: as("cronjob-controller"), Log: r.log}).Run},
		{"ttl-after-finished", ttlafterfinished.New(ttlafterfinished.Config{Client: as("ttl-after-finished-controller"), Log: r.log}).Run},
		{"disruption", disruption.New(disruption.Config{Client: as("disruption-controller"), Log: r.log}).Run},
		{"job", job.New(job.Config{Client: as("job-controller"), Log: r.log, Metrics: job.NewMetrics(r.metrics)}).Run},
		{"endpointslice", endpointslice.New(endpointslice.Config{Client: as("endpointslice-controller"), Log: r.log}).Run},
		{"endpoints", endpoints.New(endpoints.Config{Client: as("endpoint-controller"),
			Mirror: as("endpointslicemirroring-controller"), Log: r.log}).Run},
		{"garbage", garbage.New(garbage.Config{Client: as("generic-garbage-collector"), Log: r.log}).Run},
		{"nodeipam", nodeipam.New(nodeipam.Config{Client: as("node-controller"), Range: r.cfg.Pods,
			Fixed: map[string]netip.Prefix{r.cfg.NodeName: r.cfg.nodePods()}, Log: r.log}).Run},
		{"nodelife", nodelife.New(nodelife.Config{Client: as("node-controller"), Log: r.log}).Run},
		{"namespace", namespace.New(namespace.Config{Client: as("namespace-controller"), Log: r.log, Elsewhere: r.aggregate}).Run},
		{"volumebinder", volumebinder.New(volumebinder.Config{Client: as("persistent-volume-binder"), Log: r.log}).Run},
		{"pvc-protection", protection.Claims(protection.Config{Client: as("pvc-protection-controller"), Log: r.log}).Run},
		{"pv-protection", protection.Volumes(protection.Config{Client: as("pv-protection-controller"), Log: r.log}).Run},
		{"vac-protection", protection.Attributes(protection.Config{Client: as("volumeattributesclass-protection-controller"), Log: r.log}).Run},
		{"servicecidr", servicecidr.New(servicecidr.Config{Client: as("service-cidrs-controller"), Addresses: as("ip-address-controller"), Log: r.log}).Run},
		{"serviceaccount", furnish.ServiceAccount(as("service-account-controller"), r.log).Run},
		{"clusterrole", clusterrole.New(clusterrole.Config{Client: as("clusterrole-aggregation-controller"), Log: r.log}).Run},
		{"policystatus", policystatus.New(policystatus.Config{Client: as("validatingadmissionpolicy-status-controller"), Log: r.log,
			Check: policy.Checker{Kinds: r.kinds, Schema: schema.New(r.kinds).Resolve}.Check}).Run},
		{"quota", quota.New(quota.Config{Client: as("resourcequota-controller"), Log: r.log}).Run},
		{"root-ca", furnish.RootCA(as("root-ca-cert-publisher"), r.log, string(r.pki.CAPEM)).Run},
	}
}

// mayAsk says whether who made a request for a certificate may create the
// subresource that stands for having it approved by itself.
func (r *running) mayAsk(ctx context.Context, asked *certificatesv1.CertificateSigningRequest, sub string) bool {
	u := request.User{Name: asked.Spec.Username, UID: asked.Spec.UID, Groups: asked.Spec.Groups, Extra: map[string][]string{}}
	for key, values := range asked.Spec.Extra {
		u.Extra[key] = values
	}
	ok, _ := r.may.Allowed(ctx, auth.Attributes{User: u, Verb: "create", Group: certificatesv1.GroupName, Version: "*",
		Resource: "certificatesigningrequests", Subresource: sub})
	return ok
}

// actions is the table of subresources with code of their own.
func actions(tokens *auth.Tokens) map[string]verb.Action {
	return map[string]verb.Action{
		"serviceaccounts/token": func(ctx context.Context, r request.Request, _ kind.Object, body runtime.Object) (runtime.Object, error) {
			return tokens.Request(ctx, r.Namespace, r.Name, body.(*authenticationv1.TokenRequest), r.Warn)
		},
	}
}
