package flowcontrol

import (
	flowv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Levels are the priority levels that every cluster has, upstream's. The
// first two can't be changed.
func Levels() []*flowv1.PriorityLevelConfiguration {
	all := []*flowv1.PriorityLevelConfiguration{mandatoryLevel(flowv1.PriorityLevelConfigurationNameExempt), mandatoryLevel(flowv1.PriorityLevelConfigurationNameCatchAll)}
	for _, l := range []struct {
		name                  string
		shares, lends         int32
		queues, hand, longest int32
	}{
		{"system", 30, 33, 64, 6, 50},
		{"node-high", 40, 25, 64, 6, 50},
		{"leader-election", 10, 0, 16, 4, 50},
		{"workload-high", 40, 50, 128, 6, 50},
		{"workload-low", 100, 90, 128, 6, 50},
		{"global-default", 20, 50, 128, 6, 50},
	} {
		all = append(all, level(l.name, l.shares, l.lends, flowv1.LimitResponse{Type: flowv1.LimitResponseTypeQueue,
			Queuing: &flowv1.QueuingConfiguration{Queues: l.queues, HandSize: l.hand, QueueLengthLimit: l.longest}}))
	}
	return all
}

// Mandatory says whether the level, and the schema, of that name must be as
// they are.
func Mandatory(name string) bool { return mandatoryLevel(name) != nil }

func level(name string, shares, lends int32, r flowv1.LimitResponse) *flowv1.PriorityLevelConfiguration {
	return &flowv1.PriorityLevelConfiguration{ObjectMeta: meta(name), Spec: flowv1.PriorityLevelConfigurationSpec{Type: flowv1.PriorityLevelEnablementLimited,
		Limited: &flowv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &shares, LendablePercent: &lends, LimitResponse: r}}}
}

// mandatoryLevel is the level that must be as it is, or nil.
func mandatoryLevel(name string) *flowv1.PriorityLevelConfiguration {
	switch name {
	case flowv1.PriorityLevelConfigurationNameExempt:
		return &flowv1.PriorityLevelConfiguration{ObjectMeta: meta(name), Spec: flowv1.PriorityLevelConfigurationSpec{Type: flowv1.PriorityLevelEnablementExempt,
			Exempt: &flowv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: new(int32), LendablePercent: new(int32)}}}
	case flowv1.PriorityLevelConfigurationNameCatchAll:
		return level(name, 5, 0, flowv1.LimitResponse{Type: flowv1.LimitResponseTypeReject})
	}
	return nil
}

// Schemas are the flow schemas that every cluster has, upstream's. The first
// two can't be changed.
func Schemas() []*flowv1.FlowSchema {
	const user, namespace = flowv1.FlowDistinguisherMethodByUserType, flowv1.FlowDistinguisherMethodByNamespaceType
	everybody := groups("system:unauthenticated", "system:authenticated")
	nodes, system := groups("system:nodes"), account("kube-system", "*")
	leases := func(verbs ...string) flowv1.ResourcePolicyRule {
		return flowv1.ResourcePolicyRule{Verbs: verbs, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"}}
	}
	return []*flowv1.FlowSchema{
		mandatorySchema(flowv1.FlowSchemaNameExempt),
		mandatorySchema(flowv1.FlowSchemaNameCatchAll),
		schema("system-nodes", "system", 500, user, everything(nodes)),
		schema("system-node-high", "node-high", 400, user, flowv1.PolicyRulesWithSubjects{Subjects: nodes, ResourceRules: []flowv1.ResourcePolicyRule{
			{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, Namespaces: []string{"*"}, ClusterScope: true},
			leases("*")}}),
		schema("probes", "exempt", 2, "", flowv1.PolicyRulesWithSubjects{Subjects: everybody, NonResourceRules: []flowv1.NonResourcePolicyRule{
			{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}}}),
		schema("system-leader-election", "leader-election", 100, user, flowv1.PolicyRulesWithSubjects{
			Subjects:      append(users("system:kube-controller-manager", "system:kube-scheduler"), system...),
			ResourceRules: []flowv1.ResourcePolicyRule{leases("get", "create", "update")}}),
		schema("kube-controller-manager", "workload-high", 800, namespace, everything(users("system:kube-controller-manager"))),
		schema("kube-scheduler", "workload-high", 800, namespace, everything(users("system:kube-scheduler"))),
		schema("kube-system-service-accounts", "workload-high", 900, namespace, everything(system)),
		schema("service-accounts", "workload-low", 9000, user, everything(groups("system:serviceaccounts"))),
		schema("global-default", "global-default", 9900, user, everything(everybody)),
	}
}

// mandatorySchema is the schema that must be as it is, or nil.
func mandatorySchema(name string) *flowv1.FlowSchema {
	switch name {
	case flowv1.FlowSchemaNameExempt:
		return schema(name, "exempt", 1, "", everything(groups("system:masters")))
	case flowv1.FlowSchemaNameCatchAll:
		return schema(name, "catch-all", 10000, flowv1.FlowDistinguisherMethodByUserType, everything(groups("system:unauthenticated", "system:authenticated")))
	}
	return nil
}

func schema(name, level string, precedence int32, by flowv1.FlowDistinguisherMethodType, rules flowv1.PolicyRulesWithSubjects) *flowv1.FlowSchema {
	f := &flowv1.FlowSchema{ObjectMeta: meta(name), Spec: flowv1.FlowSchemaSpec{MatchingPrecedence: precedence,
		PriorityLevelConfiguration: flowv1.PriorityLevelConfigurationReference{Name: level}, Rules: []flowv1.PolicyRulesWithSubjects{rules}}}
	if by != "" {
		f.Spec.DistinguisherMethod = &flowv1.FlowDistinguisherMethod{Type: by}
	}
	return f
}

// meta says that the program may bring the object up to date.
func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowv1.AutoUpdateAnnotationKey: "true"}}
}

func everything(by []flowv1.Subject) flowv1.PolicyRulesWithSubjects {
	return flowv1.PolicyRulesWithSubjects{Subjects: by,
		ResourceRules:    []flowv1.ResourcePolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true}},
		NonResourceRules: []flowv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}}
}

func groups(names ...string) (all []flowv1.Subject) {
	for _, name := range names {
		all = append(all, flowv1.Subject{Kind: flowv1.SubjectKindGroup, Group: &flowv1.GroupSubject{Name: name}})
	}
	return all
}

func users(names ...string) (all []flowv1.Subject) {
	for _, name := range names {
		all = append(all, flowv1.Subject{Kind: flowv1.SubjectKindUser, User: &flowv1.UserSubject{Name: name}})
	}
	return all
}

func account(namespace, name string) []flowv1.Subject {
	return []flowv1.Subject{{Kind: flowv1.SubjectKindServiceAccount, ServiceAccount: &flowv1.ServiceAccountSubject{Namespace: namespace, Name: name}}}
}
