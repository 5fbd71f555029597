package volumespec

import (
	"cmp"
	"net"
	stdpath "path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DefaultSource fills what a volume's source leaves out.
func DefaultSource(s *corev1.PersistentVolumeSpec) {
	if h := s.HostPath; h != nil && h.Type == nil {
		unset := corev1.HostPathUnset
		h.Type = &unset
	}
	if i := s.ISCSI; i != nil {
		i.ISCSIInterface = cmp.Or(i.ISCSIInterface, "default")
	}
	if r := s.RBD; r != nil {
		r.RBDPool = cmp.Or(r.RBDPool, "rbd")
		r.RadosUser = cmp.Or(r.RadosUser, "admin")
		r.Keyring = cmp.Or(r.Keyring, "/etc/ceph/keyring")
	}
	if a := s.AzureDisk; a != nil {
		if a.CachingMode == nil {
			mode := corev1.AzureDataDiskCachingReadWrite
			a.CachingMode = &mode
		}
		if a.Kind == nil {
			shared := corev1.AzureSharedBlobDisk
			a.Kind = &shared
		}
		if a.FSType == nil {
			ext4 := "ext4"
			a.FSType = &ext4
		}
		if a.ReadOnly == nil {
			a.ReadOnly = new(bool)
		}
	}
	if o := s.ScaleIO; o != nil {
		o.StorageMode = cmp.Or(o.StorageMode, "ThinProvisioned")
		o.FSType = cmp.Or(o.FSType, "xfs")
	}
}

// source checks that a volume is made of one thing, and the rules of that.
func source(s *corev1.PersistentVolumeSpec, name string, path *field.Path) (errs field.ErrorList) {
	all := types(&s.PersistentVolumeSource)
	if len(all) == 0 {
		return field.ErrorList{field.Required(path, "must specify a volume type")}
	}
	for _, other := range all[1:] {
		if other == "cephfs" {
			other = "cephFS" // as upstream names it here
		}
		errs = append(errs, field.Forbidden(path.Child(other), "may not specify more than 1 volume type"))
	}
	at := path.Child(all[0])
	need := func(value string, names ...string) {
		if value == "" {
			errs = append(errs, field.Required(at.Child(names[0], names[1:]...), ""))
		}
	}
	switch all[0] {
	case "hostPath":
		if need(s.HostPath.Path, "path"); s.HostPath.Path != "" {
			errs = append(errs, noBacksteps(s.HostPath.Path, at.Child("path"))...)
			if s.HostPath.Type != nil {
				errs = append(errs, kind.OneOfIfSet(*s.HostPath.Type, at.Child("type"), corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
					corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket, corev1.HostPathUnset)...)
			}
		}
	case "local":
		if need(s.Local.Path, "path"); s.Local.Path != "" {
			errs = append(errs, noBacksteps(s.Local.Path, at.Child("path"))...)
		}
		if s.NodeAffinity == nil {
			errs = append(errs, field.Required(path.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
	case "nfs":
		need(s.NFS.Server, "server")
		need(s.NFS.Path, "path")
		if !stdpath.IsAbs(s.NFS.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path"))
		}
	case "csi":
		errs = append(errs, csi(s.CSI, at)...)
	case "iscsi":
		errs = append(errs, iscsi(s.ISCSI, name, at)...)
	case "fc":
		errs = append(errs, fibre(s.FC, at)...)
	case "gcePersistentDisk":
		at = path.Child("persistentDisk") // as upstream names it
		need(s.GCEPersistentDisk.PDName, "pdName")
		errs = append(errs, partition(s.GCEPersistentDisk.Partition, at)...)
	case "awsElasticBlockStore":
		need(s.AWSElasticBlockStore.VolumeID, "volumeID")
		errs = append(errs, partition(s.AWSElasticBlockStore.Partition, at)...)
	case "glusterfs":
		need(s.Glusterfs.EndpointsName, "endpoints")
		need(s.Glusterfs.Path, "path")
		if ns := s.Glusterfs.EndpointsNamespace; ns != nil && *ns == "" {
			errs = append(errs, field.Invalid(at.Child("endpointsNamespace"), *ns, "if the endpointnamespace is set, it must be a valid namespace name"))
		} else if ns != nil {
			for _, msg := range validation.ValidateNamespaceName(*ns, false) {
				errs = append(errs, field.Invalid(at.Child("endpointsNamespace"), *ns, msg))
			}
		}
	case "flocker":
		errs = append(errs, flocker(s.Flocker, at)...)
	case "rbd":
		if len(s.RBD.CephMonitors) == 0 {
			errs = append(errs, field.Required(at.Child("monitors"), ""))
		}
		need(s.RBD.RBDImage, "image")
	case "cephfs":
		if len(s.CephFS.Monitors) == 0 {
			errs = append(errs, field.Required(at.Child("monitors"), ""))
		}
	case "quobyte":
		errs = append(errs, quobyte(s.Quobyte, at)...)
	case "cinder":
		need(s.Cinder.VolumeID, "volumeID")
		errs = append(errs, secretOf(s.Cinder.SecretRef, at)...)
	case "flexVolume":
		need(s.FlexVolume.Driver, "driver")
		errs = append(errs, flexOptions(s.FlexVolume.Options, at.Child("options"))...)
	case "azureFile":
		need(s.AzureFile.SecretName, "secretName")
		need(s.AzureFile.ShareName, "shareName")
		if ns := s.AzureFile.SecretNamespace; ns != nil {
			need(*ns, "secretNamespace")
		}
	case "azureDisk":
		errs = append(errs, azureDisk(s.AzureDisk, at)...)
	case "vsphereVolume":
		need(s.VsphereVolume.VolumePath, "volumePath")
	case "photonPersistentDisk":
		need(s.PhotonPersistentDisk.PdID, "pdID")
	case "portworxVolume":
		need(s.PortworxVolume.VolumeID, "volumeID")
	case "scaleIO":
		need(s.ScaleIO.Gateway, "gateway")
		need(s.ScaleIO.System, "system")
		need(s.ScaleIO.VolumeName, "volumeName")
	case "storageos":
		if need(s.StorageOS.VolumeName, "volumeName"); s.StorageOS.VolumeName != "" {
			errs = append(errs, kind.DNSLabel(s.StorageOS.VolumeName, at.Child("volumeName"))...)
		}
		if ns := s.StorageOS.VolumeNamespace; ns != "" {
			errs = append(errs, kind.DNSLabel(ns, at.Child("volumeNamespace"))...)
		}
		if r := s.StorageOS.SecretRef; r != nil {
			need(r.Name, "secretRef", "name")
			need(r.Namespace, "secretRef", "namespace")
		}
	}
	return errs
}

func noBacksteps(p string, path *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(filepath.ToSlash(p), "/"), "..") {
		return field.ErrorList{field.Invalid(path, p, "must not contain '..'")}
	}
	return nil
}

func partition(n int32, path *field.Path) field.ErrorList {
	if n >= 0 && n <= 255 {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("partition"), n, utilvalidation.InclusiveRangeError(1, 255))}
}

func csi(c *corev1.CSIPersistentVolumeSource, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, DriverName(c.Driver, path.Child("driver"))...)
	if c.VolumeHandle == "" {
		errs = append(errs, field.Required(path.Child("volumeHandle"), ""))
	}
	for _, r := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef}, {"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef}, {"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		if r.ref == nil {
			continue
		}
		at := path.Child(r.name)
		if r.ref.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, kind.DNSSubdomain(r.ref.Name, at.Child("name"))...)
		}
		if r.ref.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		} else {
			errs = append(errs, kind.DNSLabel(r.ref.Namespace, at.Child("namespace"))...)
		}
	}
	return errs
}

func secretOf(r *corev1.SecretReference, path *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if r.Name == "" {
		errs = append(errs, field.Required(path.Child("secretRef", "name"), ""))
	}
	if r.Namespace == "" {
		errs = append(errs, field.Required(path.Child("secretRef", "namespace"), ""))
	}
	return errs
}

// Names of iSCSI initiators and targets, RFC 3720 section 3.2.6.3.
var (
	iqn = regexp.MustCompile(`^iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`)
	eui = regexp.MustCompile(`^eui\.[[:xdigit:]]{16}$`)
	naa = regexp.MustCompile(`^naa\.[[:xdigit:]]{32}$`)
)

func iscsiName(s string, path *field.Path) field.ErrorList {
	for prefix, form := range map[string]*regexp.Regexp{"iqn": iqn, "eui": eui, "naa": naa} {
		if strings.HasPrefix(s, prefix) && form.MatchString(s) {
			return nil
		}
	}
	return field.ErrorList{field.Invalid(path, s, "must be valid format")}
}

func iscsi(i *corev1.ISCSIPersistentVolumeSource, name string, path *field.Path) (errs field.ErrorList) {
	if i.TargetPortal == "" {
		errs = append(errs, field.Required(path.Child("targetPortal"), ""))
	}
	if i.InitiatorName != nil && len(name+":"+i.TargetPortal) > 64 {
		errs = append(errs, field.Invalid(path.Child("targetportal"), i.TargetPortal,
			"Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
	}
	if i.IQN == "" {
		errs = append(errs, field.Required(path.Child("iqn"), ""))
	} else {
		errs = append(errs, iscsiName(i.IQN, path.Child("iqn"))...)
	}
	if i.Lun < 0 || i.Lun > 255 {
		errs = append(errs, field.Invalid(path.Child("lun"), i.Lun, utilvalidation.InclusiveRangeError(0, 255)))
	}
	if (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil {
		errs = append(errs, field.Required(path.Child("secretRef"), ""))
	}
	if i.SecretRef != nil && i.SecretRef.Name == "" {
		errs = append(errs, field.Required(path.Child("secretRef", "name"), ""))
	}
	if i.InitiatorName != nil {
		errs = append(errs, iscsiName(*i.InitiatorName, path.Child("initiatorname"))...)
	}
	return errs
}

func fibre(f *corev1.FCVolumeSource, path *field.Path) (errs field.ErrorList) {
	at := path.Child("targetWWNs")
	switch {
	case len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0:
		errs = append(errs, field.Required(at, "must specify either targetWWNs or wwids, but not both"))
	case len(f.TargetWWNs) != 0 && len(f.WWIDs) != 0:
		errs = append(errs, field.Invalid(at, f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if len(f.TargetWWNs) == 0 {
		return errs
	}
	if f.Lun == nil {
		return append(errs, field.Required(path.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	if *f.Lun < 0 || *f.Lun > 255 {
		errs = append(errs, field.Invalid(path.Child("lun"), f.Lun, utilvalidation.InclusiveRangeError(0, 255)))
	}
	return errs
}

func flocker(f *corev1.FlockerVolumeSource, path *field.Path) (errs field.ErrorList) {
	switch {
	case f.DatasetName == "" && f.DatasetUUID == "":
		errs = append(errs, field.Required(path, "one of datasetName and datasetUUID is required"))
	case f.DatasetName != "" && f.DatasetUUID != "":
		errs = append(errs, field.Invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(f.DatasetName, "/") {
		errs = append(errs, field.Invalid(path.Child("datasetName"), f.DatasetName, "must not contain '/'"))
	}
	return errs
}

func quobyte(q *corev1.QuobyteVolumeSource, path *field.Path) (errs field.ErrorList) {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case q.Registry == "":
		errs = append(errs, field.Required(path.Child("registry"), pairs))
	case len(q.Tenant) >= 65:
		errs = append(errs, field.Required(path.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for _, pair := range strings.Split(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(path.Child("registry"), q.Registry, pairs))
			}
		}
	}
	if q.Volume == "" {
		errs = append(errs, field.Required(path.Child("volume"), ""))
	}
	return errs
}

func flexOptions(options map[string]string, path *field.Path) (errs field.ErrorList) {
	for key := range options {
		domain, _, _ := strings.Cut(key, "/")
		if d := "." + strings.ToLower(domain); strings.HasSuffix(d, ".kubernetes.io") || strings.HasSuffix(d, ".k8s.io") {
			errs = append(errs, field.Invalid(path.Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func azureDisk(a *corev1.AzureDiskVolumeSource, path *field.Path) (errs field.ErrorList) {
	if a.DiskName == "" {
		errs = append(errs, field.Required(path.Child("diskName"), ""))
	}
	if a.DataDiskURI == "" {
		errs = append(errs, field.Required(path.Child("diskURI"), ""))
	}
	if a.CachingMode != nil {
		errs = append(errs, kind.OneOf(*a.CachingMode, path.Child("cachingMode"),
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	}
	if a.Kind == nil {
		return errs
	}
	errs = append(errs, kind.OneOf(*a.Kind, path.Child("kind"), corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)...)
	if managed := *a.Kind == corev1.AzureManagedDisk; managed && !strings.HasPrefix(a.DataDiskURI, "/subscriptions/") {
		errs = append(errs, field.NotSupported(path.Child("diskURI"), a.DataDiskURI,
			[]string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
	} else if !managed && !strings.HasPrefix(a.DataDiskURI, "https://") {
		errs = append(errs, field.NotSupported(path.Child("diskURI"), a.DataDiskURI,
			[]string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
	return errs
}
