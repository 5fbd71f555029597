package podspec

import "sampan/cluster/kind"

// Gaps are the fields of a pod spec that nothing acts on yet, wherever the
// spec is.
var Gaps = gaps()

func gaps() (all []kind.Gap) {
	add := func(why string, paths ...string) {
		for _, p := range paths {
			all = append(all, kind.Gap{Path: p, Why: why})
		}
	}
	each := func(why string, fields ...string) {
		for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
			for _, f := range fields {
				all = append(all, kind.Gap{Path: list + "[*]." + f, Why: why})
			}
		}
	}
	add("the node mounts emptyDir, hostPath, configMap, secret, projected, downwardAPI and image; a pod with another volume waits with FailedMount",
		"volumes[*].gcePersistentDisk", "volumes[*].awsElasticBlockStore", "volumes[*].gitRepo", "volumes[*].nfs", "volumes[*].iscsi",
		"volumes[*].glusterfs", "volumes[*].persistentVolumeClaim", "volumes[*].rbd", "volumes[*].flexVolume", "volumes[*].cinder",
		"volumes[*].cephfs", "volumes[*].flocker", "volumes[*].fc", "volumes[*].azureFile", "volumes[*].vsphereVolume",
		"volumes[*].quobyte", "volumes[*].azureDisk", "volumes[*].photonPersistentDisk", "volumes[*].portworxVolume",
		"volumes[*].scaleIO", "volumes[*].storageos", "volumes[*].csi", "volumes[*].ephemeral")
	add("files of a volume belong to root and to fsGroup",
		"volumes[*].secret.defaultUser", "volumes[*].configMap.defaultUser", "volumes[*].downwardAPI.defaultUser", "volumes[*].projected.defaultUser",
		"volumes[*].secret.items[*].user", "volumes[*].configMap.items[*].user", "volumes[*].downwardAPI.items[*].user",
		"volumes[*].projected.sources[*].serviceAccountToken.user", "volumes[*].projected.sources[*].clusterTrustBundle.user", "volumes[*].projected.sources[*].podCertificate.user",
		"volumes[*].projected.sources[*].secret.items[*].user",
		"volumes[*].projected.sources[*].configMap.items[*].user", "volumes[*].projected.sources[*].downwardAPI.items[*].user")
	add("an emptyDir is writable for everybody (0777)", "volumes[*].emptyDir.mode")

	each("block volumes come with persistent volumes", "volumeDevices")
	each("devices come with resource.k8s.io", "resources.claims")
	each("bind mounts take no further options", "volumeMounts[*].bindMountOptions")
	each("there is no Windows node", "securityContext.windowsOptions")
	each("no kernel that this runs on has been tried with SELinux", "securityContext.seLinuxOptions")
	each("masked paths stay masked", "securityContext.procMount!=Default")

	for _, probe := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
		each("probes speak HTTP/1.1", probe+".httpGet.protocol")
		each("gRPC probes speak without TLS", probe+".grpc.mode=TLS")
	}
	each("hooks speak HTTP/1.1", "lifecycle.postStart.httpGet.protocol", "lifecycle.preStop.httpGet.protocol")

	add("devices come with resource.k8s.io", "resourceClaims")
	add("pods are scheduled one by one", "schedulingGroup")
	add("evictions have no other responders", "evictionResponders")
	add("images are pulled without credentials", "imagePullSecrets")
	add("user namespaces for pods are not there yet; a pod that asks for one does not start", "hostUsers=false")
	add("there is no Windows node", "securityContext.windowsOptions")
	add("no kernel that this runs on has been tried with SELinux", "securityContext.seLinuxOptions", "securityContext.seLinuxChangePolicy")
	return all
}
