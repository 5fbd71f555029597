package kind

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Checks that kinds of several groups share. Messages are upstream's.

// Equal compares API values: empty and missing lists and maps are the same,
// quantities and times are compared by value.
func Equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// faults turns the messages of a string check into errors.
func faults(msgs []string, value any, path *field.Path) (errs field.ErrorList) {
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// DNSLabel checks an RFC 1123 label: a host name, a container's name.
func DNSLabel(s string, path *field.Path) field.ErrorList {
	return faults(validation.IsDNS1123Label(s), s, path)
}

// DNSSubdomain checks an RFC 1123 subdomain: the name of most objects.
func DNSSubdomain(s string, path *field.Path) field.ErrorList {
	return faults(validation.IsDNS1123Subdomain(s), s, path)
}

// QualifiedName checks a name with an optional "domain/" in front.
func QualifiedName(s string, path *field.Path) field.ErrorList {
	return faults(validation.IsQualifiedName(s), s, path)
}

// Port checks a port's number.
func Port(n int32, path *field.Path) field.ErrorList {
	return faults(validation.IsValidPortNum(int(n)), n, path)
}

// PortNumOrName checks a port given by number or by name.
func PortNumOrName(p intstr.IntOrString, path *field.Path) field.ErrorList {
	switch p.Type {
	case intstr.Int:
		return faults(validation.IsValidPortNum(p.IntValue()), p.IntValue(), path)
	case intstr.String:
		return faults(validation.IsValidPortName(p.StrVal), p.StrVal, path)
	}
	return field.ErrorList{field.InternalError(path, errUnknownType(p.Type))}
}

type errUnknownType intstr.Type

func (e errUnknownType) Error() string { return "unknown type: " + strconv.Itoa(int(e)) }

// Protocol checks a required transport protocol.
func Protocol(p corev1.Protocol, path *field.Path) field.ErrorList {
	switch p {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		return nil
	}
	return field.ErrorList{field.NotSupported(path, p, []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP})}
}

// OneOf checks an enumeration. The empty value is an error of its own.
func OneOf[T ~string](v T, path *field.Path, valid ...T) field.ErrorList {
	if v == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return OneOfIfSet(v, path, valid...)
}

// OneOfIfSet checks an enumeration that may be left empty.
func OneOfIfSet[T ~string](v T, path *field.Path, valid ...T) field.ErrorList {
	if v == "" {
		return nil
	}
	for _, ok := range valid {
		if v == ok {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, v, valid)}
}

// NotNegative checks a count.
func NotNegative(n int64, path *field.Path) field.ErrorList {
	if n >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, n, "must be greater than or equal to 0").WithOrigin("minimum")}
}

// Immutable reports a change of what may not change.
func Immutable(now, old any, path *field.Path) field.ErrorList {
	if Equal(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, now, "field is immutable").WithOrigin("immutable")}
}

// Declared is Immutable for a field that upstream's types mark so, in a version
// in which that counts (+k8s:immutable): the value is not told then.
func Declared(now, old any, path *field.Path) field.ErrorList {
	if Equal(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, nil, "field is immutable").WithOrigin("immutable")}
}

// UsableIP refuses the addresses that are never behind a service: nobody can
// be reached at them, or only the node itself.
func UsableIP(ip string, path *field.Path) (errs field.ErrorList) {
	a := netutils.ParseIPSloppy(ip)
	switch {
	case a == nil:
		errs = append(errs, field.Invalid(path, ip, "must be a valid IP address").WithOrigin("format=ip-sloppy"))
	case a.IsUnspecified():
		errs = append(errs, field.Invalid(path, ip, "may not be unspecified ("+ip+")"))
	case a.IsLoopback():
		errs = append(errs, field.Invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	case a.IsLinkLocalUnicast():
		errs = append(errs, field.Invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	case a.IsLinkLocalMulticast():
		errs = append(errs, field.Invalid(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}

// LabelValue checks the value of a label.
func LabelValue(s string, path *field.Path) field.ErrorList {
	return faults(validation.IsValidLabelValue(s), s, path)
}
