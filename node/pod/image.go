package pod

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pull finds the image of a container, and those that it mounts, or fetches
// them, as their pull policies say.
func (t *task) pull() func() {
	c := containerOf(t.pod, t.Container)
	for i := range c.VolumeMounts {
		v := imageVolume(t.pod, c.VolumeMounts[i].Name)
		if v == nil {
			continue
		}
		if ref, trouble := t.ensure(&corev1.Container{Name: c.Name, Image: v.Reference, ImagePullPolicy: v.PullPolicy}); ref == "" {
			return trouble
		}
	}
	ref, trouble := t.ensure(c)
	if ref == "" {
		return trouble
	}
	return t.found(c.Name, ref)
}

// imageVolume is the source of a volume that is an image, else nil.
func imageVolume(pod *corev1.Pod, name string) *corev1.ImageVolumeSource {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return pod.Spec.Volumes[i].Image
		}
	}
	return nil
}

// ensure brings c's image here and returns what the runtime calls it, or what
// to note of the trouble; neither if it was interrupted.
func (t *task) ensure(c *corev1.Container) (ref string, note func()) {
	trouble := func(reason, message string, until time.Time) func() {
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: %s", reason)
		now := time.Now()
		return func() {
			t.Worker.of(c.Name).Trouble = &Trouble{Reason: reason, Message: message, At: now, Until: until}
		}
	}
	again := time.Now().Add(firstBackoff)
	name, err := fullName(c.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %s", c.Image, err)
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "InspectFailed", "%s", message)
		return "", trouble("InvalidImageName", message, again)
	}
	spec := &runtimeapi.ImageSpec{Image: name, UserSpecifiedImage: c.Image, Annotations: t.pod.Annotations}
	have, err := t.c.Runtime.ImageStatus(t.ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil {
		if t.ctx.Err() != nil {
			return "", nil
		}
		message := fmt.Sprintf("Failed to inspect image %q: %s", c.Image, text(err))
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "InspectFailed", "%s", message)
		return "", trouble("ImageInspectError", message, again)
	}
	present := have.Image != nil
	if present && pullPolicy(c) != corev1.PullAlways {
		t.event(t.pod, c.Name, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", c.Image)
		return have.Image.Id, nil
	}
	if pullPolicy(c) == corev1.PullNever {
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "ErrImageNeverPull", "%s", message)
		return "", trouble("ErrImageNeverPull", message, again)
	}

	t.event(t.pod, c.Name, corev1.EventTypeNormal, "Pulling", "Pulling image %q", c.Image)
	began := time.Now()
	sandbox, _ := SandboxConfig(t.pod, 0, t.c.Host()) // only described to the registry; its faults were met before
	ref, err = t.pullAs(name, spec, sandbox)
	if err != nil {
		if t.ctx.Err() != nil {
			return "", nil
		}
		message := text(err)
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", c.Image, message)
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: %s", reasonPull)
		now := time.Now()
		return "", func() {
			k := t.Worker.of(c.Name)
			k.Pull = k.Pull.Next(now, now)
			k.Trouble = &Trouble{Reason: reasonPull, At: now, Until: k.Pull.Until(now),
				Message: fmt.Sprintf("failed to pull image %q: %s", c.Image, message)}
		}
	}
	took := time.Since(began).Truncate(time.Millisecond)
	size := uint64(0)
	if now, err := t.c.Runtime.ImageStatus(t.ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}}); err == nil && now.Image != nil {
		size = now.Image.Size
	}
	t.event(t.pod, c.Name, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.", c.Image, took, took, size)
	return ref, nil
}

func (t *task) found(container, ref string) func() {
	return func() {
		k := t.Worker.of(container)
		k.ImageRef, k.Trouble, k.Pull = ref, nil, Backoff{}
	}
}

// pullAs tries each of the pod's credentials for the registry, and at last
// none.
func (t *task) pullAs(name string, spec *runtimeapi.ImageSpec, sandbox *runtimeapi.PodSandboxConfig) (ref string, err error) {
	tries := append(credentials(name, t.c.API.PullSecrets(t.ctx, t.pod)), nil)
	for _, auth := range tries {
		var r *runtimeapi.PullImageResponse
		if r, err = t.c.Runtime.PullImage(t.ctx, &runtimeapi.PullImageRequest{Image: spec, Auth: auth, SandboxConfig: sandbox}); err == nil {
			return r.ImageRef, nil
		}
	}
	return "", err
}

func pullPolicy(c *corev1.Container) corev1.PullPolicy {
	if c.ImagePullPolicy != "" {
		return c.ImagePullPolicy
	}
	return corev1.PullIfNotPresent
}

// fullName adds the tag latest to a name that has neither tag nor digest.
func fullName(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	if !reference.IsNameOnly(named) {
		return image, nil
	}
	return image + ":latest", nil
}

// credentials are the logins of the secrets that fit the image's registry.
func credentials(image string, secrets []*corev1.Secret) []*runtimeapi.AuthConfig {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil
	}
	host, repository := reference.Domain(named), named.Name()
	type entry struct {
		Username, Password, Auth string
		IdentityToken            string `json:"identitytoken"`
	}
	var all []*runtimeapi.AuthConfig
	for _, s := range secrets {
		var entries map[string]entry
		switch s.Type {
		case corev1.SecretTypeDockerConfigJson:
			var file struct{ Auths map[string]entry }
			if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file) != nil {
				continue // the API has validated it; another writer's mistake is not the pod's
			}
			entries = file.Auths
		case corev1.SecretTypeDockercfg:
			if json.Unmarshal(s.Data[corev1.DockerConfigKey], &entries) != nil {
				continue
			}
		}
		for key, e := range entries {
			if !fitsRegistry(key, host, repository) {
				continue
			}
			if e.Username == "" && e.Auth != "" {
				if b, err := base64.StdEncoding.DecodeString(e.Auth); err == nil {
					e.Username, e.Password, _ = strings.Cut(string(b), ":")
				}
			}
			all = append(all, &runtimeapi.AuthConfig{Username: e.Username, Password: e.Password, Auth: e.Auth, IdentityToken: e.IdentityToken, ServerAddress: host})
		}
	}
	return all
}

// fitsRegistry matches a key of docker's config, such as
// https://index.docker.io/v1/ or registry:5000/team, with an image.
func fitsRegistry(key, host, repository string) bool {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	if host == "docker.io" && (strings.HasPrefix(key, "index.docker.io") || strings.HasPrefix(key, "registry-1.docker.io")) {
		return true
	}
	key = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(key, "/"), "/v1"), "/v2")
	if wild, ok := strings.CutPrefix(key, "*."); ok {
		sub, rest, found := strings.Cut(host, ".")
		return found && sub != "" && rest == wild
	}
	return key == host || repository == key || strings.HasPrefix(repository, key+"/")
}
