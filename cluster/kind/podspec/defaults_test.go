package podspec_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind/podspec"
)

func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		what     string
		in, want string
	}{
		{"a pod", `containers: [{name: a, image: nginx}]`, `
containers:
- image: nginx
  imagePullPolicy: Always
  name: a
  resources: {}
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: File
dnsPolicy: ClusterFirst
enableServiceLinks: true
restartPolicy: Always
schedulerName: default-scheduler
securityContext: {}
terminationGracePeriodSeconds: 30
`},
		{"what is set stays", `{containers: [], dnsPolicy: Default, enableServiceLinks: false, restartPolicy: Never, schedulerName: x, terminationGracePeriodSeconds: 0, serviceAccount: me}`, `
containers: []
dnsPolicy: Default
enableServiceLinks: false
restartPolicy: Never
schedulerName: x
securityContext: {}
serviceAccount: me
serviceAccountName: me
terminationGracePeriodSeconds: 0
`},
		{"probes, hooks, ports and quantities", `{containers: [{name: a, image: "r:5000/x:1", ports: [{containerPort: 80}], livenessProbe: {httpGet: {port: 80}}, startupProbe: {grpc: {port: 1}},
  lifecycle: {preStop: {httpGet: {port: 80}}}, resources: {limits: {cpu: 0.0001}}, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}], hostNetwork: true, restartPolicy: Always}`, `
containers:
- env:
  - name: A
    valueFrom:
      fieldRef:
        apiVersion: v1
        fieldPath: metadata.name
  image: r:5000/x:1
  imagePullPolicy: IfNotPresent
  lifecycle:
    preStop:
      httpGet:
        path: /
        port: 80
        scheme: HTTP
  livenessProbe:
    failureThreshold: 3
    httpGet:
      path: /
      port: 80
      scheme: HTTP
    periodSeconds: 10
    successThreshold: 1
    timeoutSeconds: 1
  name: a
  ports:
  - containerPort: 80
    hostPort: 80
    protocol: TCP
  resources:
    limits:
      cpu: 1m
    requests:
      cpu: 1m
  startupProbe:
    failureThreshold: 3
    grpc:
      port: 1
      service: ""
    periodSeconds: 10
    successThreshold: 1
    timeoutSeconds: 1
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: File
dnsPolicy: ClusterFirst
enableServiceLinks: true
hostNetwork: true
restartPolicy: Always
schedulerName: default-scheduler
securityContext: {}
terminationGracePeriodSeconds: 30
`},
		{"volumes", `{containers: [], volumes: [{name: a}, {name: b, hostPath: {path: /}}, {name: c, secret: {secretName: s}}, {name: d, projected: {sources: [{serviceAccountToken: {path: t}}, {downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}]}}]}`, `
containers: []
dnsPolicy: ClusterFirst
enableServiceLinks: true
restartPolicy: Always
schedulerName: default-scheduler
securityContext: {}
terminationGracePeriodSeconds: 30
volumes:
- emptyDir: {}
  name: a
- hostPath:
    path: /
    type: ""
  name: b
- name: c
  secret:
    defaultMode: 420
    secretName: s
- name: d
  projected:
    defaultMode: 420
    sources:
    - serviceAccountToken:
        expirationSeconds: 3600
        path: t
    - downwardAPI:
        items:
        - fieldRef:
            apiVersion: v1
            fieldPath: metadata.name
          path: p
`},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := &corev1.Pod{}
			if err := yaml.UnmarshalStrict([]byte(c.in), &p.Spec); err != nil {
				t.Fatal(err)
			}
			podspec.DefaultPod(p)
			got, err := yaml.Marshal(&p.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if "\n"+string(got) != c.want {
				t.Errorf("defaulted\n%s\nwant%s", got, c.want)
			}
		})
	}
}

func TestPullPolicyFollowsTheTag(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"nginx": corev1.PullAlways, "nginx:latest": corev1.PullAlways, "nginx:1": corev1.PullIfNotPresent,
		"host:5000/nginx": corev1.PullAlways, "host:5000/nginx:1": corev1.PullIfNotPresent,
		"nginx@sha256:0123456789012345678901234567890123456789012345678901234567890123": corev1.PullIfNotPresent,
		"": corev1.PullIfNotPresent,
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
		podspec.DefaultPod(p)
		if got := p.Spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("%q is pulled %s, want %s", image, got, want)
		}
	}
}

func TestATemplateIsDefaultedLessThanAPod(t *testing.T) {
	tmpl := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{HostNetwork: true,
		Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}}
	podspec.DefaultTemplate(tmpl)
	if tmpl.Spec.EnableServiceLinks != nil || tmpl.Spec.Containers[0].Ports[0].HostPort != 0 {
		t.Errorf("a template says what its author said: %+v", tmpl.Spec)
	}
	tmpl.Spec.Containers[0].Name, tmpl.Spec.Containers[0].Image = "a", "a"
	compare(t, podspec.ValidateTemplate(tmpl, nil, nil))
}
