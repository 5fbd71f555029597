package resource

import (
	"context"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
	"sampan/cluster/kind/volumespec"
)

// device is one device, or a share of it.
type device struct{ driver, pool, name, share string }

func (d device) String() string {
	s := d.driver + "/" + d.pool + "/" + d.name
	if d.share != "" {
		s += "/" + d.share
	}
	return s
}

func deviceOf(r *resourcev1.DeviceRequestAllocationResult) device {
	d := device{driver: r.Driver, pool: r.Pool, name: r.Device}
	if r.ShareID != nil {
		d.share = string(*r.ShareID)
	}
	return d
}

func reported(s *resourcev1.AllocatedDeviceStatus) device {
	d := device{driver: s.Driver, pool: s.Pool, name: s.Device}
	if s.ShareID != nil {
		d.share = *s.ShareID
	}
	return d
}

func allocated(c *resourcev1.ResourceClaim) map[device]bool {
	all := map[device]bool{}
	if a := c.Status.Allocation; a != nil {
		for i := range a.Devices.Results {
			all[deviceOf(&a.Devices.Results[i])] = true
		}
	}
	return all
}

// dropDeallocated takes away what drivers have said about devices that the
// claim had and has no more.
func dropDeallocated(c, old *resourcev1.ResourceClaim) {
	had, has := allocated(old), allocated(c)
	c.Status.Devices = slices.DeleteFunc(c.Status.Devices, func(s resourcev1.AllocatedDeviceStatus) bool {
		d := reported(&s)
		return had[d] && !has[d]
	})
	if len(c.Status.Devices) == 0 {
		c.Status.Devices = nil
	}
}

func validateClaimStatus(c, old *resourcev1.ResourceClaim) (errs field.ErrorList) {
	path, s := field.NewPath("status"), &c.Status
	reserved := path.Child("reservedFor")
	errs = append(errs, set(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, func(r *resourcev1.ResourceClaimConsumerReference, path *field.Path) (errs field.ErrorList) {
		for _, f := range []struct{ name, value string }{{"resource", r.Resource}, {"name", r.Name}, {"uid", string(r.UID)}} {
			if f.value == "" {
				errs = append(errs, field.Required(path.Child(f.name), ""))
			}
		}
		return errs
	}, func(r *resourcev1.ResourceClaimConsumerReference) types.UID { return r.UID }, reserved)...)
	has := allocated(c)
	errs = append(errs, set(s.Devices, len(s.Devices), func(d *resourcev1.AllocatedDeviceStatus, path *field.Path) field.ErrorList {
		return deviceStatus(d, has, path)
	}, reported, path.Child("devices"))...)
	switch {
	case len(s.ReservedFor) > 0 && s.Allocation == nil:
		errs = append(errs, field.Forbidden(reserved, "may not be specified when `allocated` is not set"))
	case len(s.ReservedFor) > 0 && c.DeletionTimestamp != nil &&
		slices.ContainsFunc(s.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool {
			return !slices.Contains(old.Status.ReservedFor, r)
		}):
		errs = append(errs, field.Forbidden(reserved, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
	}
	at := path.Child("allocation")
	switch {
	case s.Allocation == nil:
	case old.Status.Allocation != nil:
		errs = append(errs, kind.Immutable(s.Allocation, old.Status.Allocation, at).WithOrigin("update")...)
	default:
		errs = append(errs, allocation(s.Allocation, requestsOf(&c.Spec.Devices), at)...)
	}
	return errs
}

func allocation(a *resourcev1.AllocationResult, names requests, path *field.Path) (errs field.ErrorList) {
	devices := path.Child("devices")
	errs = append(errs, each(a.Devices.Results, resourcev1.AllocationResultsMaxSize, func(r *resourcev1.DeviceRequestAllocationResult, path *field.Path) (errs field.ErrorList) {
		errs = append(errs, names.ref(&r.Request, path.Child("request"))...)
		errs = append(errs, volumespec.DriverNameAnyCase(r.Driver, path.Child("driver"))...)
		errs = append(errs, poolName(r.Pool, path.Child("pool"))...)
		errs = append(errs, kind.DNSLabel(r.Device, path.Child("device"))...)
		errs = append(errs, bindingConditions(r.BindingConditions, r.BindingFailureConditions, path)...)
		errs = append(errs, each(r.Tolerations, resourcev1.DeviceTolerationsMaxLength, toleration, path.Child("tolerations"))...)
		if r.ShareID != nil {
			errs = append(errs, uid(string(*r.ShareID), path.Child("shareID"))...)
		}
		return errs
	}, devices.Child("results"))...)
	errs = append(errs, each(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, func(c *resourcev1.DeviceAllocationConfiguration, path *field.Path) (errs field.ErrorList) {
		errs = append(errs, kind.OneOf(c.Source, path.Child("source"), resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)...)
		errs = append(errs, set(c.Requests, resourcev1.DeviceRequestsMaxSize, names.ref, itself, path.Child("requests"))...)
		return append(errs, configuration(&c.DeviceConfiguration, false, path)...)
	}, devices.Child("config"))...)
	if a.NodeSelector != nil {
		errs = append(errs, podspec.ValidateNodeSelector(a.NodeSelector, path.Child("nodeSelector"))...)
	}
	return errs
}

func uid(s string, path *field.Path) field.ErrorList {
	return validate.UUID(context.Background(), operation.Operation{}, path, &s, nil)
}

func deviceStatus(d *resourcev1.AllocatedDeviceStatus, has map[device]bool, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, driverName(d.Driver, path.Child("driver"))...)
	errs = append(errs, poolName(d.Pool, path.Child("pool"))...)
	errs = append(errs, kind.DNSLabel(d.Device, path.Child("device"))...)
	if d.ShareID != nil {
		errs = append(errs, uid(*d.ShareID, path.Child("shareID"))...)
	}
	if id := reported(d); !has[id] {
		errs = append(errs, field.Invalid(path, struct{ Driver, Pool, Device, ShareID string }{id.driver, id.pool, id.name, id.share}, "must be an allocated device in the claim"))
	}
	conditions := path.Child("conditions")
	if n := len(d.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(conditions, n, resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, conditions)...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, rawObject(*d.Data, false, resourcev1.AllocatedDeviceStatusDataMaxLength, path.Child("data"))...)
	}
	if n := d.NetworkData; n != nil {
		at := path.Child("networkData")
		if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
			errs = append(errs, field.TooLong(at.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength).WithOrigin("maxBytes"))
		}
		if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
			errs = append(errs, field.TooLong(at.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength).WithOrigin("maxBytes"))
		}
		errs = append(errs, set(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, func(ip *string, path *field.Path) field.ErrorList {
			return validation.IsValidInterfaceAddress(path, *ip)
		}, itself, at.Child("ips"))...)
	}
	return errs
}

// templateMeta checks the labels and annotations that a template gives; it
// gives nothing else.
func templateMeta(s *resourcev1.ResourceClaimTemplateSpec, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, metav1validation.ValidateLabels(s.Labels, path.Child("labels"))...)
	for key := range s.Annotations {
		errs = append(errs, kind.QualifiedName(key, path.Child("annotations"))...)
	}
	m := &s.ObjectMeta
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"name", m.Name != ""},
		{"generateName", m.GenerateName != ""},
		{"namespace", m.Namespace != ""},
		{"selfLink", m.SelfLink != ""},
		{"uID", m.UID != ""}, // sic
		{"resourceVersion", m.ResourceVersion != ""},
		{"generation", m.Generation != 0},
		{"creationTimestamp", !m.CreationTimestamp.IsZero()},
		{"deletionTimestamp", m.DeletionTimestamp != nil},
		{"deletionGracePeriodSeconds", m.DeletionGracePeriodSeconds != nil},
		{"ownerReferences", m.OwnerReferences != nil},
		{"finalizers", m.Finalizers != nil},
		{"managedFields", m.ManagedFields != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.name), "cannot be set"))
		}
	}
	return errs
}
