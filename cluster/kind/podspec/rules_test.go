package podspec_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind/podspec"
)

// pod reads a pod's spec and fills it in. Containers default to one called
// app.
func pod(t *testing.T, spec string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatalf("%v in\n%s", err, spec)
	}
	if p.Spec.Containers == nil && !strings.Contains(spec, "containers: []") {
		p.Spec.Containers = []corev1.Container{{Name: "app", Image: "nginx:1"}}
	}
	podspec.DefaultPod(p)
	return p
}

func compare(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("errors\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestPodRules(t *testing.T) {
	for _, c := range []struct {
		rule string
		spec string
		want []string // none: accepted
	}{
		{"the least pod is an image with a name", `{}`, nil},
		{"a pod has a container", `containers: []`, []string{`spec.containers: Required value`}},
		{"a container has a name and an image", `containers: [{}]`, []string{
			`spec.containers[0].name: Required value`, `spec.containers[0].image: Required value`}},
		{"a container's name is a label", `containers: [{name: A_b, image: a}]`, []string{
			`spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`}},
		{"names are unique, init containers included", `{containers: [{name: a, image: a}], initContainers: [{name: a, image: a}]}`, []string{
			`spec.initContainers[0].name: Duplicate value: "a"`}},
		{"a claim is named, or made from a template", `{containers: [{name: a, image: a}], resourceClaims: [{name: a}, {name: b, resourceClaimName: c, resourceClaimTemplateName: t}, {name: c, resourceClaimName: A_}]}`, []string{
			"spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
			"spec.resourceClaims[1]: Invalid value: {\"name\":\"b\",\"resourceClaimName\":\"c\",\"resourceClaimTemplateName\":\"t\"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
			`spec.resourceClaims[2].resourceClaimName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		{"an image has no blanks around it", `containers: [{name: a, image: "nginx "}]`, []string{
			`spec.containers[0].image: Invalid value: "nginx ": must not have leading or trailing whitespace`}},
		{"there are three restart policies", `restartPolicy: Sometimes`, []string{
			`spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`}},
		{"pull policies are listed", `containers: [{name: a, image: a, imagePullPolicy: Maybe}]`, []string{
			`spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"`}},

		{"a port has a number", `containers: [{name: a, image: a, ports: [{name: http}]}]`, []string{
			`spec.containers[0].ports[0].containerPort: Required value`}},
		{"a port is at most 65535", `containers: [{name: a, image: a, ports: [{containerPort: 70000}]}]`, []string{
			`spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive`}},
		{"port names are unique in a container", `containers: [{name: a, image: a, ports: [{name: x, containerPort: 1},{name: x, containerPort: 2}]}]`, []string{
			`spec.containers[0].ports[1].name: Duplicate value: "x"`}},
		{"a host port is taken once", `containers: [{name: a, image: a, ports: [{containerPort: 1, hostPort: 9}]},{name: b, image: a, ports: [{containerPort: 1, hostPort: 9}]}]`, []string{
			`spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//9"`}},
		{"on the host network ports are the host's", `{hostNetwork: true, containers: [{name: a, image: a, ports: [{containerPort: 1, hostPort: 9}]}]}`, []string{
			"spec.containers[0].ports[0].hostPort: Invalid value: 9: must match `containerPort` when `hostNetwork` is true"}},

		{"a variable has a name", `containers: [{name: a, image: a, env: [{value: x}]}]`, []string{`spec.containers[0].env[0].name: Required value`}},
		{"a variable's name has no =", `containers: [{name: a, image: a, env: [{name: "A=B"}]}]`, []string{
			`spec.containers[0].env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='`}},
		{"a variable has a value or a source", `containers: [{name: a, image: a, env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]`, []string{
			"spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"}},
		{"a fieldRef names a field there is", `containers: [{name: a, image: a, env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]}]`, []string{
			`spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x`}},
		{"labels are for files, one label for variables", `containers: [{name: a, image: a, env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}]}]`, nil},
		{"a key has a name", `containers: [{name: a, image: a, env: [{name: A, valueFrom: {configMapKeyRef: {name: c}}}]}]`, []string{
			`spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value`}},
		{"a divisor of memory is a size", `containers: [{name: a, image: a, env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 3}}}]}]`, []string{
			`spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource`}},

		{"a volume is of one type", `volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]`, []string{
			`spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type`}},
		{"a volume that says nothing is an emptyDir", `volumes: [{name: v}]`, nil},
		{"volume names are unique", `volumes: [{name: v},{name: v}]`, []string{`spec.volumes[1].name: Duplicate value: "v"`}},
		{"a mount is of a volume there is", `containers: [{name: a, image: a, volumeMounts: [{name: v, mountPath: /v}]}]`, []string{
			`spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
		{"a place is mounted on once", `{volumes: [{name: v}], containers: [{name: a, image: a, volumeMounts: [{name: v, mountPath: /v},{name: v, mountPath: /v}]}]}`, []string{
			`spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/v": must be unique`}},
		{"a sub path stays below", `{volumes: [{name: v}], containers: [{name: a, image: a, volumeMounts: [{name: v, mountPath: /v, subPath: a/../..}]}]}`, []string{
			`spec.containers[0].volumeMounts.subPath: Invalid value: "a/../..": must not contain '..'`}},
		{"only the privileged mount for others", `{volumes: [{name: v}], containers: [{name: a, image: a, volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]}]}`, []string{
			`spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers`}},
		{"modes are octal and at most 0777", `volumes: [{name: v, configMap: {name: c, defaultMode: 4095}}]`, []string{
			`spec.volumes[0].configMap.defaultMode: Invalid value: 4095: must be a number between 0 and 0777 (octal), both inclusive`}},
		{"a projected file stays inside", `volumes: [{name: v, secret: {secretName: s, items: [{key: k, path: ..data}]}}]`, []string{
			`spec.volumes[0].secret.items[0].path: Invalid value: "..data": must not start with '..'`}},
		{"projected sources do not collide", `volumes: [{name: v, projected: {sources: [{secret: {name: s, items: [{key: k, path: p}]}},{configMap: {name: c, items: [{key: k, path: p}]}}]}}]`, []string{
			`spec.volumes[0].projected: Invalid value: "c": conflicting duplicate paths`}},
		{"a token lives ten minutes at least", `{serviceAccountName: s, volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, expirationSeconds: 60}}]}}]}`, []string{
			`spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes`}},
		{"a host path's type is known", `volumes: [{name: v, hostPath: {path: /x, type: Disk}}]`, []string{
			`spec.volumes[0].hostPath.type: Unsupported value: "Disk": supported values: "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", ""`}},

		{"a probe does something", `containers: [{name: a, image: a, livenessProbe: {}}]`, []string{
			`spec.containers[0].livenessProbe: Required value: must specify a handler type`}},
		{"a probe does one thing", `containers: [{name: a, image: a, readinessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}}]`, []string{
			`spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type`}},
		{"one success keeps a container alive", `containers: [{name: a, image: a, livenessProbe: {successThreshold: 2, tcpSocket: {port: 1}}}]`, []string{
			`spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1`}},
		{"readiness does not end a container", `containers: [{name: a, image: a, readinessProbe: {terminationGracePeriodSeconds: 5, tcpSocket: {port: 1}}}]`, []string{
			`spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes`}},
		{"init containers are not probed", `initContainers: [{name: i, image: a, livenessProbe: {tcpSocket: {port: 1}}}]`, []string{
			`spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always`}},
		{"sidecars are", `initContainers: [{name: i, image: a, restartPolicy: Always, livenessProbe: {tcpSocket: {port: 1}}}]`, nil},
		{"a hook sleeps no longer than the grace period", `{terminationGracePeriodSeconds: 5, containers: [{name: a, image: a, lifecycle: {preStop: {sleep: {seconds: 9}}}}]}`, []string{
			`spec.containers[0].lifecycle.preStop.sleep: Invalid value: 9: must be non-negative and less than terminationGracePeriodSeconds (5)`}},

		{"a request is at most the limit", `containers: [{name: a, image: a, resources: {limits: {memory: 100Mi}, requests: {memory: 200Mi}}}]`, []string{
			`spec.containers[0].resources.requests: Invalid value: "200Mi": must be less than or equal to memory limit of 100Mi`}},
		{"amounts are not negative", `containers: [{name: a, image: a, resources: {limits: {cpu: -1}}}]`, []string{
			`spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0`,
			`spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		{"what a pod costs besides is an amount", `overhead: {memory: -1}`, []string{
			`spec.overhead.limits[memory]: Invalid value: "-1": must be greater than or equal to 0`}},
		{"a pod as a whole uses no claims, and names them right", `resources: {claims: [{name: x}]}`, []string{
			`spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level`,
			`spec.resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims which is empty`}},
		{"a short name is a standard resource", `containers: [{name: a, image: a, resources: {limits: {gpus: 1}}}]`, []string{
			`spec.containers[0].resources.limits[gpus]: Invalid value: "gpus": must be a standard resource type or fully qualified`,
			`spec.containers[0].resources.limits[gpus]: Invalid value: "gpus": must be a standard resource for containers`,
			`spec.containers[0].resources.requests[gpus]: Invalid value: "gpus": must be a standard resource type or fully qualified`,
			`spec.containers[0].resources.requests[gpus]: Invalid value: "gpus": must be a standard resource for containers`}},
		{"devices are whole", `containers: [{name: a, image: a, resources: {limits: {example.com/gpu: 1500m}}}]`, []string{
			`spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer`,
			`spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer`}},

		{"pages are whole", `containers: [{name: a, image: a, resources: {limits: {cpu: 1, hugepages-2Mi: 3Mi}}}]`, []string{
			`spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			`spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`}},
		{"pages come with memory", `containers: [{name: a, image: a, resources: {limits: {hugepages-2Mi: 4Mi}}}]`, []string{
			`spec.containers[0].resources: Forbidden: HugePages require cpu or memory`}},
		{"a claim is one of the pod's", `containers: [{name: a, image: a, resources: {claims: [{name: x}]}}]`, []string{
			`spec.containers[0].resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims which is empty`}},
		{"a pod's limits hold for its containers", `{resources: {limits: {cpu: 1}}, containers: [{name: a, image: a, resources: {limits: {cpu: 2}, requests: {cpu: 1}}}]}`, []string{
			`spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1`}},
		{"a pod asks for cpu, memory and pages", `resources: {limits: {example.com/gpu: 1}}`, []string{
			`spec.resources.limits[example.com/gpu]: Unsupported value: "example.com/gpu": supported values: "cpu", "hugepages-", "memory"`}},
		{"a pod's profile has a type", `securityContext: {appArmorProfile: {}}`, []string{
			`spec.securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set`}},
		{"only a local profile has a name", `securityContext: {appArmorProfile: {type: Unconfined, localhostProfile: x}}`, []string{
			`spec.securityContext.appArmorProfile.localhostProfile: Invalid value: "x": can only be set when AppArmor type is Localhost`}},
		{"a local profile is below the profiles", `containers: [{name: a, image: a, securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}}]`, []string{
			`spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: "../x": must not contain '..'`}},
		{"the privileged cannot be kept from more", `containers: [{name: a, image: a, securityContext: {privileged: true, allowPrivilegeEscalation: false}}]`, []string{
			"spec.containers[0].securityContext: Invalid value: {\"privileged\":true,\"allowPrivilegeEscalation\":false}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"}},
		{"what is the host's is set on the host", `{hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.ip_forward, value: "1"}]}}`, []string{
			`spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.ip_forward": may not be specified when 'hostNetwork' is true`}},
		{"own users and the host's network exclude each other", `{hostNetwork: true, hostUsers: false}`, []string{
			"spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false"}},
		{"processes are shared with one or the other", `{hostPID: true, shareProcessNamespace: true}`, []string{
			`spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled`}},
		{"a downward file has one source", `volumes: [{name: v, downwardAPI: {items: [{path: p}]}}]`, []string{
			`spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required`}},
		{"a downward file of a resource names the container", `volumes: [{name: v, downwardAPI: {items: [{path: p, resourceFieldRef: {resource: limits.cpu}}]}}]`, []string{
			`spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required value`}},
		{"labels as a file", `volumes: [{name: v, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.labels}}]}}]`, nil},
		{"an address is no file", `volumes: [{name: v, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: status.podIP}}]}}]`, []string{
			`spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"`}},
		{"a pod's certificate goes somewhere", `{serviceAccountName: s, volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: x.io/s, keyType: ED25519}}]}}]}`, []string{
			`spec.volumes[0].projected.sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath`}},
		{"a pod's certificate lives between an hour and 91 days", `{serviceAccountName: s, volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: x.io/s, keyType: ED25519, keyPath: k, maxExpirationSeconds: 3599}}, {podCertificate: {signerName: x.io/s, keyType: DSA, keyPath: l, maxExpirationSeconds: 7862401}}]}}]}`, []string{
			`spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be >= 3600`,
			`spec.volumes[0].projected.sources[1].podCertificate.keyType: Unsupported value: "DSA": supported values: "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"`,
			`spec.volumes[0].projected.sources[1].podCertificate.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be <= 7862400`}},
		{"a bundle has a name or a signer", `volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: p}}]}}]`, []string{
			`spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified`}},
		{"nodes are chosen by name only among fields", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: spec.x, operator: In, values: [a]}]}]}}}`, []string{
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "spec.x": not a valid field selector key`}},
		{"weights go to 100", `affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, podAffinityTerm: {topologyKey: a}}]}}`, []string{
			`spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100`}},
		{"spreading has a step", `topologySpreadConstraints: [{topologyKey: a, whenUnsatisfiable: DoNotSchedule}]`, []string{
			`spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero`}},
		{"user ids are not negative", `securityContext: {runAsUser: -1}`, []string{
			`spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive`}},
		{"a local profile has a name", `securityContext: {seccompProfile: {type: Localhost}}`, []string{
			`spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost`}},
		{"sysctls have names", `securityContext: {sysctls: [{name: "a..b", value: "1"}]}`, []string{
			`spec.securityContext.sysctls[0].name: Invalid value: "a..b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`}},

		{"a selector term is there", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}`, []string{
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term`}},
		{"In needs values", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}]}]}}}`, []string{
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"}},
		{"only NoExecute waits", `tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 3}]`, []string{
			"spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"}},
		{"no key means all keys", `tolerations: [{effect: NoSchedule}]`, []string{
			"spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""}},

		{"None needs a server", `dnsPolicy: None`, []string{"spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"}},
		{"three servers are the most", `dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}`, []string{
			`spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]: must not have more than 3 nameservers`}},
		{"search domains may be odd", `dnsConfig: {searches: [".", "a_b.c", "x."]}`, nil},
		{"a host name is a label", `hostname: a.b`, []string{
			`spec.hostname: Invalid value: "a.b": must not contain dots`}},
		{"guests come later", `ephemeralContainers: [{name: e, image: a}]`, []string{`spec.ephemeralContainers: Forbidden: cannot be set on create`}},
		{"a gated pod is on no node", `{schedulingGates: [{name: g}], nodeName: n}`, []string{
			`spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared`}},
		{"a deadline is positive", `activeDeadlineSeconds: 0`, []string{
			`spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive`}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			compare(t, podspec.ValidatePod(pod(t, c.spec), nil), c.want...)
		})
	}
}
