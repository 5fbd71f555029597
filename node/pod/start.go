package pod

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Reasons of containers that could not be started.
const (
	reasonConfig    = "CreateContainerConfigError"
	reasonCreate    = "CreateContainerError"
	reasonRun       = "RunContainerError"
	reasonPostStart = "PostStartHookError"
)

// start makes a container of an image that is there, starts it, and runs its
// postStart hook.
func (t *task) start() func() {
	c := containerOf(t.pod, t.Container)
	fail := func(reason string, err error) func() {
		if t.ctx.Err() != nil {
			return nil
		}
		message := status.Convert(err).Message()
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: %s", message)
		now := time.Now()
		return func() {
			k := t.Worker.of(c.Name)
			k.Trouble, k.ImageRef = &Trouble{Reason: reason, Message: message, At: now, Until: now.Add(firstBackoff)}, ""
		}
	}
	cfg, err := t.configure(c)
	if err != nil {
		return fail(reasonConfig, err)
	}
	box := t.seen.Sandbox()
	host := t.c.Host()
	sandbox, err := SandboxConfig(t.pod, box.GetMetadata().GetAttempt(), host)
	if err != nil {
		return fail(reasonConfig, err)
	}
	if err := os.MkdirAll(filepath.Join(sandbox.LogDirectory, c.Name), 0o755); err != nil {
		return fail(reasonConfig, err)
	}
	made, err := t.c.Runtime.CreateContainer(t.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: box.Id, Config: cfg, SandboxConfig: sandbox})
	if err != nil {
		return fail(reasonCreate, err)
	}
	t.event(t.pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
	if _, err := t.c.Runtime.StartContainer(t.ctx, &runtimeapi.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		note := fail(reasonRun, err)
		return func() {
			if note != nil {
				note()
			}
			t.Worker.of(c.Name).Crash = t.Crash
		}
	}
	t.event(t.pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	t.discard(made.ContainerId)

	var trouble *Trouble
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		t.Wake(Runtimes) // it runs; that its hook does too shows in "started"
		trouble = t.postStart(c, made.ContainerId)
	}
	return func() {
		k := t.Worker.of(c.Name)
		k.Trouble, k.ImageRef, k.Crash = trouble, "", t.Crash
	}
}

// postStart runs the hook. If it fails the container is stopped, and its
// restart policy decides.
func (t *task) postStart(c *corev1.Container, id string) *Trouble {
	err := t.hook(t.ctx, c, id, c.Lifecycle.PostStart)
	if err == nil || t.ctx.Err() != nil {
		return nil
	}
	t.c.Log.Warn("postStart hook failed", "key", t.key(), "container", c.Name, "err", err)
	t.event(t.pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	kill := *t
	kill.Step = Step{Do: Kill, Container: c.Name, ID: id, Event: "FailedPostStartHook", Deadline: time.Now().Add(grace(t.pod))}
	kill.kill()
	now := time.Now()
	return &Trouble{Reason: reasonPostStart, Message: "PostStartHook failed", At: now, Until: now.Add(firstBackoff)}
}

// discard removes runs of the container that nobody can ask for any more: all
// but the last.
func (t *task) discard(id string) {
	kept := false
	for _, c := range t.seen.Containers {
		if c.Name() != t.Container || c.Id == id || c.running() {
			continue
		}
		if !kept && c.exited() {
			kept = true
			continue
		}
		if _, err := t.c.Runtime.RemoveContainer(t.ctx, &runtimeapi.RemoveContainerRequest{ContainerId: c.Id}); err != nil && !gone(err) {
			t.c.Log.Warn("old container not removed", "key", t.key(), "id", c.Id, "err", err)
			continue
		}
		log := filepath.Join(LogDirectory(t.c.Host().LogDir, t.pod.Namespace, t.pod.Name, string(t.pod.UID)), LogPath(c.Name(), restartCount(c)))
		old, _ := filepath.Glob(log + "*") // with its rotated siblings; the pattern is fixed
		for _, f := range old {
			os.Remove(f) // else it goes with the pod
		}
	}
}

// configure gathers what the container's configuration needs, and makes it.
func (t *task) configure(c *corev1.Container) (*runtimeapi.ContainerConfig, error) {
	host := t.c.Host()
	facts, err := t.c.API.Facts(t.ctx, t.pod)
	if err != nil {
		return nil, err
	}
	facts.PodIPs = t.podIPs()
	r := &ContainerRequest{Container: c, Attempt: t.Attempt, ImageRef: t.known.ImageRef, Facts: facts}
	img, err := t.c.Runtime.ImageStatus(t.ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: t.known.ImageRef}})
	if err != nil {
		return nil, err
	}
	if img.Image != nil {
		r.Image.Username = img.Image.Username
		if img.Image.Uid != nil {
			r.Image.UID = &img.Image.Uid.Value
		}
	}
	for i := range t.pod.Spec.EphemeralContainers {
		if e := &t.pod.Spec.EphemeralContainers[i]; e.Name == c.Name && e.TargetContainerName != "" {
			target := t.seen.Current(e.TargetContainerName)
			if target == nil {
				return nil, fmt.Errorf("unable to find target container %s", e.TargetContainerName)
			}
			r.Target = target.Id
		}
	}
	if r.Mounts, err = t.mounts(c, facts, host); err != nil {
		return nil, err
	}
	return ContainerConfig(t.pod, r, host)
}

func (t *task) podIPs() []string {
	if t.pod.Spec.HostNetwork {
		return t.c.HostIPs()
	}
	var ips []string
	if net := t.seen.Sandbox().GetNetwork(); net.GetIp() != "" {
		ips = append(ips, net.Ip)
		for _, more := range net.AdditionalIps {
			ips = append(ips, more.Ip)
		}
	}
	return ips
}

// mounts are the container's volumes, its /etc/hosts and the file for its last
// words.
func (t *task) mounts(c *corev1.Container, facts *Facts, host *Host) ([]*runtimeapi.Mount, error) {
	if len(c.VolumeDevices) > 0 {
		return nil, fmt.Errorf("block volumes are not supported by this node yet: container %s, device %s", c.Name, c.VolumeDevices[0].DevicePath)
	}
	var all []*runtimeapi.Mount
	ownHosts := false
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		dir, ok := t.dirs[m.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
		}
		if len(m.BindMountOptions) > 0 {
			return nil, fmt.Errorf("bindMountOptions are not supported by this node yet: container %s, volume %s", c.Name, m.Name)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			env, err := environment(t.pod, c, facts)
			if err != nil {
				return nil, err
			}
			if sub, err = expandStrict(m.SubPathExpr, env); err != nil {
				return nil, err
			}
		}
		image := imageVolume(t.pod, m.Name)
		if sub != "" && image == nil {
			var err error
			if dir, err = t.c.Volumes.SubPath(t.ctx, t.pod, m, dir, sub); err != nil {
				return nil, fmt.Errorf("failed to create subPath directory for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		path := m.MountPath
		if !filepath.IsAbs(path) {
			path = filepath.Join("/", path)
		}
		ownHosts = ownHosts || path == "/etc/hosts"
		if image != nil {
			ref, err := t.imageRef(image.Reference)
			if err != nil {
				return nil, err
			}
			all = append(all, &runtimeapi.Mount{ContainerPath: path, Readonly: true, ImageSubPath: sub,
				Image: &runtimeapi.ImageSpec{Image: ref, UserSpecifiedImage: image.Reference}})
			continue
		}
		all = append(all, &runtimeapi.Mount{
			ContainerPath: path, HostPath: dir, Readonly: m.ReadOnly, Propagation: propagation(m.MountPropagation),
			RecursiveReadOnly: m.ReadOnly && m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled,
		})
	}
	dir := filepath.Join(t.c.Dir, string(t.pod.UID))
	if !ownHosts {
		path := filepath.Join(dir, "etc-hosts")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, HostsFile(t.pod, t.podIPs(), host), 0o644); err != nil {
			return nil, err
		}
		all = append(all, &runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: path})
	}
	if c.TerminationMessagePath != "" {
		path := filepath.Join(dir, "containers", c.Name, wordsFile(c.Name, t.Attempt))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return nil, err
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask: any user of the container writes it
			return nil, err
		}
		all = append(all, &runtimeapi.Mount{ContainerPath: c.TerminationMessagePath, HostPath: path})
	}
	return all, nil
}

// imageRef is what the runtime calls an image that was pulled before.
func (t *task) imageRef(image string) (string, error) {
	name, err := fullName(image)
	if err != nil {
		return "", err
	}
	have, err := t.c.Runtime.ImageStatus(t.ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		return "", err
	}
	if have.Image == nil {
		return "", fmt.Errorf("image %q of a volume is gone since it was found", image)
	}
	return have.Image.Id, nil
}

func wordsFile(name string, attempt uint32) string {
	h := fnv.New32a()
	h.Write([]byte(name))
	return fmt.Sprintf("%08x", h.Sum32()+attempt)
}

func propagation(p *corev1.MountPropagationMode) runtimeapi.MountPropagation {
	if p == nil {
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
	}
	switch *p {
	case corev1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case corev1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}

// expandStrict is expand where every name must be known (subPathExpr).
func expandStrict(s string, env []*runtimeapi.KeyValue) (string, error) {
	var unknown string
	out := expand(s, func(name string) (string, bool) {
		for _, e := range env {
			if e.Key == name {
				return string(e.Value), true
			}
		}
		unknown = name
		return "", false
	})
	if unknown != "" {
		return "", fmt.Errorf("missing value for %s", strconv.Quote(unknown))
	}
	return out, nil
}
