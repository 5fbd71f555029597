package auth

import (
	"reflect"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/request"
)

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, " "), APIGroups: strings.Split(groups, " "),
		Resources: strings.Split(resources, " "), ResourceNames: names}
}

func to(kind, namespace, name string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: kind, Namespace: namespace, Name: name}}
}

func bindHere(namespace, name, kind, role string, subjects []rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{ObjectMeta: meta(namespace, name), RoleRef: rbacv1.RoleRef{Kind: kind, Name: role}, Subjects: subjects}
}

func bindAll(name, role string, subjects []rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: meta("", name), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role}, Subjects: subjects}
}

func TestRulesCoverAsUpstream(t *testing.T) {
	a := func(verb, group, resource, name string) Attributes {
		resource, sub, _ := strings.Cut(resource, "/")
		return Attributes{Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name}
	}
	for _, tc := range []struct {
		it   string
		rule rbacv1.PolicyRule
		ask  Attributes
		want bool
	}{
		{"by verb, group and resource", rule("get list", " apps", "pods deployments"), a("list", "apps", "deployments", ""), true},
		{"not another verb", rule("get", "", "pods"), a("list", "", "pods", ""), false},
		{"not another group", rule("get", "", "pods"), a("get", "x", "pods", ""), false},
		{"not a subresource", rule("get", "", "pods"), a("get", "", "pods/log", ""), false},
		{"a subresource", rule("get", "", "pods/log"), a("get", "", "pods/log", ""), true},
		{"not the resource of a subresource", rule("get", "", "pods/log"), a("get", "", "pods", ""), false},
		{"a subresource of all", rule("get", "*", "*/scale"), a("get", "apps", "deployments/scale", ""), true},
		{"not another subresource of all", rule("get", "*", "*/scale"), a("get", "apps", "deployments/status", ""), false},
		{"everything", rule("*", "*", "*"), a("get", "apps", "deployments/status", "x"), true},
		{"no path by resources", rule("*", "*", "*"), Attributes{Verb: "get", Path: "/x"}, false},
		{"one by name", rule("get", "", "pods", "x", "y"), a("get", "", "pods", "y"), true},
		{"not others by name", rule("get", "", "pods", "x"), a("get", "", "pods", "z"), false},
		{"no list by name", rule("list", "", "pods", "x"), a("list", "", "pods", ""), false},
		{"a path", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/a"}}, Attributes{Verb: "get", Path: "/a"}, true},
		{"not a path below", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/a"}}, Attributes{Verb: "get", Path: "/a/b"}, false},
		{"paths below a star", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/a/*"}}, Attributes{Verb: "get", Path: "/a/b"}, true},
		{"no resource by paths", rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}, a("get", "", "pods", ""), false},
	} {
		t.Run(tc.it, func(t *testing.T) {
			if got := covers(&tc.rule, &tc.ask); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestBindingsGiveRoles(t *testing.T) {
	z := authorizer(t,
		&rbacv1.ClusterRole{ObjectMeta: meta("", "reader"), Rules: []rbacv1.PolicyRule{rule("get list", "", "pods")}},
		&rbacv1.Role{ObjectMeta: meta("n", "writer"), Rules: []rbacv1.PolicyRule{rule("create", "", "pods")}},
		bindAll("everywhere", "reader", to("User", "", "ann")),
		bindAll("nowhere", "missing", to("User", "", "eve")),
		bindHere("n", "group", "ClusterRole", "reader", to("Group", "", "staff")),
		bindHere("n", "local", "Role", "writer", to("ServiceAccount", "", "bot")),
		bindHere("m", "local", "Role", "writer", to("ServiceAccount", "n", "bot")))
	bot := ServiceAccount("n", "bot")
	for _, tc := range []struct {
		it              string
		user            request.User
		verb, namespace string
		want            bool
		why             string
	}{
		{"everywhere", user("ann"), "get", "", true, `RBAC: allowed by ClusterRoleBinding "everywhere" of ClusterRole "reader" to User "ann"`},
		{"hence in every namespace", user("ann"), "get", "n", true, `RBAC: allowed by ClusterRoleBinding "everywhere" of ClusterRole "reader" to User "ann"`},
		{"and no more", user("ann"), "create", "n", false, ""},
		{"to a group in a namespace", user("bob", "staff"), "list", "n", true, `RBAC: allowed by RoleBinding "group/n" of ClusterRole "reader" to Group "staff"`},
		{"and not in another", user("bob", "staff"), "list", "m", false, ""},
		{"and not in all", user("bob", "staff"), "list", "", false, ""},
		{"to an account of the same namespace", bot, "create", "n", true, `RBAC: allowed by RoleBinding "local/n" of Role "writer" to ServiceAccount "bot/n"`},
		{"not a role of another namespace", bot, "create", "m", false, `RBAC: role.rbac.authorization.k8s.io "writer" not found`},
		{"not a role that is missing", user("eve"), "get", "", false, `RBAC: clusterrole.rbac.authorization.k8s.io "missing" not found`},
	} {
		t.Run(tc.it, func(t *testing.T) {
			got, why := z.Allowed(t.Context(), Attributes{User: tc.user, Verb: tc.verb, Resource: "pods", Namespace: tc.namespace})
			if got != tc.want || why != tc.why {
				t.Errorf("%v %s\nwant %v %s", got, why, tc.want, tc.why)
			}
		})
	}
	err := z.Check(t.Context(), Attributes{User: user("eve"), Verb: "get", Resource: "pods", Namespace: "n", Name: "p"})
	if want := `pods "p" is forbidden: User "eve" cannot get resource "pods" in API group "" in the namespace "n": RBAC: clusterrole.rbac.authorization.k8s.io "missing" not found`; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	r := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "n"}}
	if err := z.ReviewSelfRules(t.Context(), user("eve"), r); err != nil || !strings.Contains(r.Status.EvaluationError, `"missing" not found`) || r.Status.Incomplete || r.Spec.Namespace != "" {
		t.Errorf("%v %+v", err, r.Status)
	}
	if len(r.Status.NonResourceRules) == 0 || len(r.Status.ResourceRules) == 0 {
		t.Errorf("what all may is missing: %+v", r.Status)
	}
	r.Spec.Namespace = "n"
	if err := z.ReviewSelfRules(t.Context(), Node("box"), r); err != nil || !r.Status.Incomplete {
		t.Errorf("%v %+v", err, r.Status)
	}
}

// A decision is as good as its last change, and remembered until the next.
func TestDecisionsAreRememberedUntilSomethingChanges(t *testing.T) {
	fake := clienttest.New(t, kind.NewTable(core.Kinds(), rbac.Kinds()))
	var version uint64
	b := NewRBAC(RBACConfig{Objects: fake, Changes: func() uint64 { return version }, Policy: policy.Bootstrap()})
	may := func() bool {
		ok, _ := b.allows(t.Context(), Attributes{User: user("ann"), Verb: "get", Resource: "pods", Namespace: "n"})
		return ok
	}
	discovers := func() bool {
		ok, _ := b.allows(t.Context(), Attributes{User: user("ann"), Verb: "get", Path: "/api"})
		return ok
	}
	if may() || !discovers() {
		t.Fatal("ann may what nobody gave her, or not what all may")
	}
	for _, o := range []kind.Object{
		&rbacv1.ClusterRole{ObjectMeta: meta("", "reader"), Rules: []rbacv1.PolicyRule{rule("get", "", "pods")}},
		bindHere("n", "b", "ClusterRole", "reader", to("User", "", "ann")),
	} {
		if _, err := fake.Create(t.Context(), fake.Kinds().ByType(reflect.TypeOf(o)), o); err != nil {
			t.Fatal(err)
		}
	}
	if may() {
		t.Error("gathered again although nothing changed")
	}
	version++
	if !may() {
		t.Error("a change was missed")
	}
	if err := client.Delete[*rbacv1.RoleBinding](t.Context(), fake, "n", "b", nil); err != nil {
		t.Fatal(err)
	}
	version++
	if may() {
		t.Error("what was taken away is still given")
	}
	b.Written()
	if discovers() {
		t.Error("once it is written, only what is stored counts")
	}
}

func TestManyUsersAreNotRememberedForEver(t *testing.T) {
	fake := clienttest.New(t, kind.NewTable(core.Kinds(), rbac.Kinds()))
	b := NewRBAC(RBACConfig{Objects: fake, Changes: func() uint64 { return 1 }, Policy: policy.Bootstrap()})
	for i := range 3 * usersLimit {
		b.allows(t.Context(), Attributes{User: user(strings.Repeat("x", i)), Verb: "get", Path: "/api"})
	}
	if n := len(b.current.Load().users); n > usersLimit {
		t.Errorf("%d users are remembered, at most %d", n, usersLimit)
	}
}

func TestNodesSeeWhatTheirPodsName(t *testing.T) {
	pod := func(name, node string, spec corev1.PodSpec) *corev1.Pod {
		spec.NodeName = node
		return &corev1.Pod{ObjectMeta: meta("n", name), Spec: spec}
	}
	env := corev1.Container{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}}},
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "all"}}}}}
	mine := pod("mine", "box", corev1.PodSpec{ServiceAccountName: "bot", Containers: []corev1.Container{env},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}},
			{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "disk"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "proj"}}}}}}}}})
	theirs := pod("theirs", "other", corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "other"}}})
	mirror := pod("mirror", "box", corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "other"}}})
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: meta("n", "disk"), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "v"}}
	ref := func(namespace, name string) *corev1.SecretReference {
		return &corev1.SecretReference{Namespace: namespace, Name: name}
	}
	volume := &corev1.PersistentVolume{ObjectMeta: meta("", "v"), Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "n", Name: "disk"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			NodePublishSecretRef: ref("far", "publish"), NodeStageSecretRef: ref("", "stage"), ControllerPublishSecretRef: ref("far", "controller")}}}}
	z := authorizer(t, mine, theirs, mirror, claim, volume)
	none := "no relationship found between node 'box' and this object"
	for _, tc := range []struct {
		verb, resource, namespace, name string
		want                            bool
		why                             string
	}{
		{"get", "secrets", "n", "env", true, ""}, {"get", "secrets", "n", "pull", true, ""}, {"watch", "secrets", "n", "vol", true, ""},
		{"get", "configmaps", "n", "all", true, ""}, {"get", "configmaps", "n", "proj", true, ""},
		{"get", "secrets", "n", "other", false, none}, {"get", "secrets", "m", "vol", false, none},
		{"get", "secrets", "far", "publish", true, ""}, {"get", "secrets", "n", "publish", false, none},
		{"get", "secrets", "n", "stage", true, ""}, {"get", "secrets", "far", "controller", false, none},
		{"list", "secrets", "n", "", false, "No Object name found"}, {"delete", "secrets", "n", "vol", false, "can only read resources of this type"},
		{"list", "secrets", "", "", false, "can only read namespaced object of this type"},
		{"get", "persistentvolumeclaims", "n", "disk", true, ""}, {"list", "persistentvolumeclaims", "n", "disk", false, "can only get individual resources of this type"},
		{"create", "serviceaccounts/token", "n", "bot", true, ""}, {"create", "serviceaccounts/token", "n", "default", false, none},
		{"get", "pods", "n", "mine", true, ""}, {"get", "pods", "n", "theirs", false, none}, {"get", "pods", "n", "mirror", true, ""},
		{"list", "pods", "", "", false, "can only list/watch pods with spec.nodeName field selector"},
		{"update", "pods/status", "n", "mine", true, ""}, {"update", "pods", "n", "mine", false, ""},
		{"get", "nodes", "", "box", true, ""}, {"get", "nodes", "", "other", false, "node 'box' cannot read 'other', only its own Node object"},
		{"list", "nodes", "", "", false, "node 'box' cannot read all nodes, only its own Node object"},
		{"update", "nodes/status", "", "box", true, ""}, {"delete", "nodes", "", "box", false, ""},
		{"list", "services", "", "", true, ""}, {"create", "events", "n", "", true, ""}, {"create", "services", "n", "", false, ""},
	} {
		t.Run(tc.verb+" "+tc.resource+" "+tc.name, func(t *testing.T) {
			resource, sub, _ := strings.Cut(tc.resource, "/")
			got, why := z.Allowed(t.Context(), Attributes{User: Node("box"), Verb: tc.verb, Resource: resource, Subresource: sub,
				Namespace: tc.namespace, Name: tc.name})
			if got != tc.want || why != tc.why {
				t.Errorf("%v %q, want %v %q", got, why, tc.want, tc.why)
			}
		})
	}
	lease := Attributes{User: Node("box"), Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "box"}
	if ok, why := z.Allowed(t.Context(), lease); !ok {
		t.Error(why)
	}
	lease.Name = "other"
	if ok, _ := z.Allowed(t.Context(), lease); ok {
		t.Error("a node renews the lease of another")
	}
	r := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "system:node:box", Groups: []string{Nodes},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods",
			FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: "spec.nodeName=box"}}}}
	if err := z.ReviewAccess(t.Context(), r); err != nil || !r.Status.Allowed {
		t.Errorf("%v %+v", err, r.Status)
	}
	r.Spec.Groups = nil
	r.Status = authorizationv1.SubjectAccessReviewStatus{}
	if err := z.ReviewAccess(t.Context(), r); err != nil || r.Status.Allowed {
		t.Errorf("a name without the group is no node: %v %+v", err, r.Status)
	}
}

func BenchmarkAllows(b *testing.B) {
	fake := clienttest.New(b, kind.NewTable(core.Kinds(), rbac.Kinds()))
	z := NewAuthorizer(NewNodeRule(fake), NewRBAC(RBACConfig{Objects: fake, Changes: func() uint64 { return 1 }, Policy: policy.Bootstrap()}))
	for name, u := range map[string]request.User{"controller": ServiceAccount("kube-system", "replicaset-controller"), "scheduler": Component("kube-scheduler")} {
		a := Attributes{User: u, Verb: "list", Resource: "pods", Namespace: "n"}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, _ := z.Allowed(b.Context(), a); !ok {
					b.Fatal("forbidden")
				}
			}
		})
	}
	b.Run("gather", func(b *testing.B) {
		b.ReportAllocs()
		r := z.Rules[2].(*RBAC)
		for b.Loop() {
			if _, err := r.gather(b.Context(), 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
