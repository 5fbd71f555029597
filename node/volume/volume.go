// Package volume makes the directories that containers mount: a file for each
// type of volume. What comes from API objects is written atomically, and again
// when the object changes.
//
// It knows nothing of containers; mounts into them are the runtime's.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/internal/fault"
	"sampan/internal/linux"
	"sampan/node/downward"
)

// Config is what a Set needs.
type Config struct {
	Dir    string // <Dir>/<pod UID>/volumes/… are the volumes, as a kubelet has them
	Client client.Client
	Facts  func() downward.Facts // of the node
	Log    *slog.Logger

	// Alone has each secret and config map watched by its name, which is all
	// that a node's identity gives. Else one watch over each kind is enough:
	// where the objects are in this process anyway, it costs less.
	Alone bool

	// Changed is called when an object that a pod's volumes or environment
	// name was made, changed or deleted. It must not block.
	Changed func(uid types.UID)
}

// Set makes and removes the volumes of a node's pods. It is safe for
// concurrent use by one caller per pod.
type Set struct {
	c       Config
	sources sources

	mu           sync.Mutex // guards all below
	tokens       map[tokenKey]token
	certificates map[podCertificateKey]podCertificate
}

// New returns a Set that touches nothing yet.
func New(c Config) *Set {
	s := &Set{c: c, tokens: map[tokenKey]token{}, certificates: map[podCertificateKey]podCertificate{}}
	s.sources.init(c)
	return s
}

// Run follows the objects that volumes are made of until ctx ends.
func (s *Set) Run(ctx context.Context) error { return s.sources.run(ctx) }

// mounter makes one type of volume.
type mounter struct {
	plugin string // the directory's name, upstream's
	is     func(v *corev1.VolumeSource) bool
	// mount makes v in dir, or refreshes it, and returns the path to mount.
	mount func(s *Set, ctx context.Context, r *request) (path string, err error)
}

// request is one volume of a pod.
type request struct {
	pod   *corev1.Pod
	v     *corev1.Volume
	dir   string
	again *time.Time // earliest wish to be called again
}

func (r *request) renew(at time.Time) {
	if r.again.IsZero() || at.Before(*r.again) {
		*r.again = at
	}
}

var kinds = []mounter{
	{"empty-dir", func(v *corev1.VolumeSource) bool { return v.EmptyDir != nil }, (*Set).emptyDir},
	{"host-path", func(v *corev1.VolumeSource) bool { return v.HostPath != nil }, (*Set).hostPath},
	{"configmap", func(v *corev1.VolumeSource) bool { return v.ConfigMap != nil }, (*Set).configMap},
	{"secret", func(v *corev1.VolumeSource) bool { return v.Secret != nil }, (*Set).secret},
	{"projected", func(v *corev1.VolumeSource) bool { return v.Projected != nil }, (*Set).projected},
	{"downward-api", func(v *corev1.VolumeSource) bool { return v.DownwardAPI != nil }, (*Set).downwardAPI},
}

// Mount makes or refreshes all volumes of a pod. It returns the path of each
// and when a token in one wants renewal, the zero time for never. After an
// error it may be called again; what is there already stays.
func (s *Set) Mount(ctx context.Context, pod *corev1.Pod) (dirs map[string]string, again time.Time, err error) {
	s.sources.use(pod)
	dirs = map[string]string{}
	var first error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image != nil {
			dirs[v.Name] = "" // the runtime mounts it
			continue
		}
		path, err := s.one(ctx, &request{pod: pod, v: v, again: &again})
		if err != nil && first == nil {
			first = fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err)
		}
		dirs[v.Name] = path
	}
	if first != nil {
		return nil, time.Time{}, first
	}
	return dirs, again, nil
}

func (s *Set) one(ctx context.Context, r *request) (string, error) {
	for _, t := range kinds {
		if t.is(&r.v.VolumeSource) {
			r.dir = filepath.Join(s.podDir(r.pod.UID), "volumes", "kubernetes.io~"+t.plugin, r.v.Name)
			return t.mount(s, ctx, r)
		}
	}
	return "", &fault.Error{Class: fault.Invalid, Op: "make volume", On: r.v.Name,
		Err: errors.New("volumes of this type are not supported by this node yet"),
		Fix: "use emptyDir, hostPath, configMap, secret, projected, downwardAPI or image"}
}

func (s *Set) podDir(uid types.UID) string { return filepath.Join(s.c.Dir, string(uid)) }

// Unmount removes all volumes of a pod. It may be called again, and for pods that
// never had any.
func (s *Set) Unmount(ctx context.Context, uid types.UID) error {
	s.sources.leave(uid)
	s.mu.Lock()
	for k := range s.tokens {
		if k.pod == uid {
			delete(s.tokens, k)
		}
	}
	for k := range s.certificates {
		if k.pod == uid {
			delete(s.certificates, k)
		}
	}
	s.mu.Unlock()
	for _, dir := range []string{"volume-subpaths", "volumes"} {
		if err := removeTree(filepath.Join(s.podDir(uid), dir)); err != nil {
			return err
		}
	}
	return nil
}

// removeTree unmounts what is mounted at the known depth below dir, and then
// removes it. Nothing is removed while a mount remains: it may be a host's
// directory.
func removeTree(dir string) error {
	const depth = 2 // volumes/PLUGIN/NAME, volume-subpaths/VOLUME/PATH
	var mounts []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		level := strings.Count(rel, string(filepath.Separator)) + 1
		if level >= depth {
			mounts = append(mounts, path)
		}
		if d.IsDir() && level >= depth {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return &fault.Error{Op: "find mounts of volumes", On: dir, Err: err}
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		for {
			ok, err := linux.UnmountAt(mounts[i])
			if err != nil {
				return &fault.Error{Op: "unmount volume", On: mounts[i], Err: err}
			}
			if !ok {
				break
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return &fault.Error{Op: "remove volumes", On: dir, Err: err}
	}
	return nil
}
