package pod

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/node/downward"
)

// Facts are the objects that a container's configuration is made from, as
// they are when it starts.
type Facts struct {
	downward.Facts
	ConfigMaps map[string]*corev1.ConfigMap // by name; absent: not found
	Secrets    map[string]*corev1.Secret
	Services   []*corev1.Service // of the pod's namespace, and default/kubernetes
	Files      map[string]string // of fileKeyRef, by volume/path/key
}

// environment is what a container's process finds, in upstream's order of
// precedence: services, envFrom, env.
func environment(pod *corev1.Pod, c *corev1.Container, f *Facts) ([]*runtimeapi.KeyValue, error) {
	services := serviceVariables(pod, f.Services)
	vars := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, ok := vars[name]; !ok {
			order = append(order, name)
		}
		vars[name] = value
	}
	for i := range c.EnvFrom {
		if err := fromSource(pod, &c.EnvFrom[i], f, set); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		e := &c.Env[i]
		value, ok, err := variable(pod, c, e, f, func(name string) (string, bool) {
			if v, ok := vars[name]; ok {
				return v, true
			}
			v, ok := services[name]
			return v, ok
		})
		if err != nil {
			return nil, err
		}
		if ok {
			set(e.Name, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if _, ok := vars[name]; !ok {
			set(name, services[name])
		}
	}
	list := make([]*runtimeapi.KeyValue, 0, len(order))
	for _, name := range order {
		list = append(list, &runtimeapi.KeyValue{Key: name, Value: []byte(vars[name])})
	}
	return list, nil
}

// variable is the value of one env entry; ok is false for an optional one
// without source.
func variable(pod *corev1.Pod, c *corev1.Container, e *corev1.EnvVar, f *Facts, known func(string) (string, bool)) (value string, ok bool, err error) {
	from := e.ValueFrom
	switch {
	case from == nil:
		return expand(e.Value, known), true, nil
	case from.FieldRef != nil:
		value, err = downward.Field(pod, from.FieldRef.FieldPath, f.Facts)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = downward.Resource(pod, c.Name, from.ResourceFieldRef, f.Facts)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		m := f.ConfigMaps[ref.Name]
		if m == nil {
			return missing(ref.Optional, "configmap %q not found", ref.Name)
		}
		if value, ok = m.Data[ref.Key]; !ok {
			return missing(ref.Optional, "couldn't find key %v in ConfigMap %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return value, true, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s := f.Secrets[ref.Name]
		if s == nil {
			return missing(ref.Optional, "secret %q not found", ref.Name)
		}
		data, ok := s.Data[ref.Key]
		if !ok {
			return missing(ref.Optional, "couldn't find key %v in Secret %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return string(data), true, nil
	case from.FileKeyRef != nil:
		return "", false, fmt.Errorf("environment variable %s: fileKeyRef is not supported by this node yet", e.Name)
	}
	return "", true, nil
}

func missing(optional *bool, format string, args ...any) (string, bool, error) {
	if optional != nil && *optional {
		return "", false, nil
	}
	return "", false, fmt.Errorf(format, args...)
}

// fromSource sets all keys of a ConfigMap or Secret that can be names of
// variables.
func fromSource(pod *corev1.Pod, from *corev1.EnvFromSource, f *Facts, set func(name, value string)) error {
	add := func(key, value string) {
		name := from.Prefix + key
		if len(validation.IsRelaxedEnvVarName(name)) == 0 {
			set(name, value)
		}
	}
	switch {
	case from.ConfigMapRef != nil:
		m := f.ConfigMaps[from.ConfigMapRef.Name]
		if m == nil {
			_, _, err := missing(from.ConfigMapRef.Optional, "configmap %q not found", from.ConfigMapRef.Name)
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(m.Data)) {
			add(key, m.Data[key])
		}
	case from.SecretRef != nil:
		s := f.Secrets[from.SecretRef.Name]
		if s == nil {
			_, _, err := missing(from.SecretRef.Optional, "secret %q not found", from.SecretRef.Name)
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			add(key, string(s.Data[key]))
		}
	}
	return nil
}

// expand replaces $(NAME) by known values. $$ is a literal $; what is not
// known stays as it is.
func expand(s string, known func(string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+end]
			if v, ok := known(name); ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

// serviceVariables are those of docker links: NAME_SERVICE_HOST and its
// siblings, for the services of the pod's namespace if the pod wants links,
// and always for the API server.
func serviceVariables(pod *corev1.Pod, services []*corev1.Service) map[string]string {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	vars := map[string]string{}
	// The pod's own services last: one of them named kubernetes wins.
	for _, own := range []bool{false, true} {
		for _, s := range services {
			master := s.Namespace == metaDefault && s.Name == "kubernetes"
			mine := s.Namespace == pod.Namespace && links
			if (own && mine || !own && master) && addressed(s) {
				addService(vars, s)
			}
		}
	}
	return vars
}

const metaDefault = "default"

func addressed(s *corev1.Service) bool {
	return s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone
}

func addService(vars map[string]string, s *corev1.Service) {
	if len(s.Spec.Ports) == 0 {
		return
	}
	upper := func(v string) string { return strings.ToUpper(strings.ReplaceAll(v, "-", "_")) }
	name, ip := upper(s.Name), s.Spec.ClusterIP
	vars[name+"_SERVICE_HOST"] = ip
	vars[name+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i, p := range s.Spec.Ports {
		port := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			vars[name+"_SERVICE_PORT_"+upper(p.Name)] = port
		}
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = "TCP"
		}
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			vars[name+"_PORT"] = url
		}
		prefix := name + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		vars[prefix] = url
		vars[prefix+"_PROTO"] = strings.ToLower(protocol)
		vars[prefix+"_PORT"] = port
		vars[prefix+"_ADDR"] = ip
	}
}

// EnvSources names the ConfigMaps and Secrets of a pod's environments.
func EnvSources(pod *corev1.Pod) (configMaps, secrets []string) {
	add := func(list *[]string, name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	all := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	for i := range pod.Spec.EphemeralContainers {
		all = append(all, corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	for i := range all {
		for _, e := range all[i].EnvFrom {
			if e.ConfigMapRef != nil {
				add(&configMaps, e.ConfigMapRef.Name)
			}
			if e.SecretRef != nil {
				add(&secrets, e.SecretRef.Name)
			}
		}
		for _, e := range all[i].Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add(&configMaps, r.Name)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add(&secrets, r.Name)
			}
		}
	}
	return configMaps, secrets
}
