package volume

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client/clienttest"
	"sampan/internal/linux"
	"sampan/node/downward"
)

func ptr[T any](v T) *T { return &v }

// inOwnMounts runs test on a thread with a mount namespace of its own, which
// ends with the thread.
func inOwnMounts(t *testing.T, test func(t *testing.T, s *Set, api *clienttest.Fake)) {
	t.Helper()
	dir := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is thrown away
		if err := linux.Unshare(syscall.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		api := clienttest.New(t, clienttest.Kinds())
		s := New(Config{Dir: dir, Client: api, Log: slog.Default(), Facts: func() downward.Facts { return downward.Facts{NodeName: "n1"} }, Changed: func(types.UID) {}})
		test(t, s, api)
	}()
	<-done
}

func podWith(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"b": `x"y`, "a": "1"}},
		Spec: corev1.PodSpec{Volumes: volumes, Containers: []corev1.Container{{Name: "c"}}}}
}

func volume(name string, src corev1.VolumeSource) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: src}
}

func mustMount(t *testing.T, s *Set, p *corev1.Pod) (map[string]string, time.Time) {
	t.Helper()
	dirs, again, err := s.Mount(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return dirs, again
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(api *clienttest.Fake, name string, data map[string]string) {
	api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: data})
}

func TestAConfigMapIsWrittenAndReplacedAtOnce(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		put(api, "cfg", map[string]string{"a": "1", "b": "old"})
		p := podWith(volume("v", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, DefaultMode: ptr(int32(0o640))}}))
		dirs, again := mustMount(t, s, p)
		dir := dirs["v"]
		if !again.IsZero() || read(t, dir+"/a") != "1" || dir != filepath.Join(s.c.Dir, "u/volumes/kubernetes.io~configmap/v") {
			t.Errorf("dir %s, again %s", dir, again)
		}
		if info, err := os.Stat(dir + "/a"); err != nil || info.Mode() != 0o640 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		first, _ := os.Readlink(dir + "/..data")
		mustMount(t, s, p)
		if again, _ := os.Readlink(dir + "/..data"); again != first {
			t.Error("files were written again although nothing changed")
		}
		put(api, "cfg", map[string]string{"a": "2", "c": "new"})
		mustMount(t, s, p)
		if read(t, dir+"/a") != "2" || read(t, dir+"/c") != "new" {
			t.Error("the change is not there")
		}
		if _, err := os.Lstat(dir + "/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the old key is still there: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, first)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the old files are still there: %v", err)
		}
	})
}

func TestItemsModesAndMissingKeys(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		put(api, "cfg", map[string]string{"a": "1"})
		src := &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"},
			Items: []corev1.KeyToPath{{Key: "a", Path: "sub/dir/file", Mode: ptr(int32(0o400))}}}
		p := podWith(volume("v", corev1.VolumeSource{ConfigMap: src}))
		dirs, _ := mustMount(t, s, p)
		if info, err := os.Stat(dirs["v"] + "/sub/dir/file"); err != nil || info.Mode() != 0o400 {
			t.Errorf("%v %v", info, err)
		}
		src.Items[0].Key = "none"
		if _, _, err := s.Mount(context.Background(), p); err == nil || err.Error() != `MountVolume.SetUp failed for volume "v" : references non-existent configmap key: none` {
			t.Errorf("missing key: %v", err)
		}
		src.Items[0] = corev1.KeyToPath{Key: "a", Path: "../../escape"}
		if _, _, err := s.Mount(context.Background(), p); err == nil || !strings.Contains(err.Error(), "must be a relative path") {
			t.Errorf("escaping path: %v", err)
		}
		src.Name = "absent"
		if _, _, err := s.Mount(context.Background(), p); err == nil || err.Error() != `MountVolume.SetUp failed for volume "v" : configmap "absent" not found` {
			t.Errorf("missing configmap: %v", err)
		}
		src.Optional = ptr(true)
		if _, _, err := s.Mount(context.Background(), p); err != nil {
			t.Errorf("optional: %v", err)
		}
	})
}

func TestAProjectedVolumeHasAllItsSourcesInMemory(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		put(api, "kube-root-ca.crt", map[string]string{"ca.crt": "CA"})
		api.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sec"}, Data: map[string][]byte{"pw": []byte("x")}})
		api.Put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot"}})
		asked := 0
		api.Answer("serviceaccounts/token", func(body kruntime.Object) (kruntime.Object, error) {
			asked++
			r := body.(*authenticationv1.TokenRequest).DeepCopy()
			if r.Spec.BoundObjectRef.UID != "u" || *r.Spec.ExpirationSeconds != 3607 {
				t.Errorf("request is %+v", r.Spec)
			}
			r.Status = authenticationv1.TokenRequestStatus{Token: "TOKEN", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
			return r, nil
		})
		p := podWith(volume("v", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(3607))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}, {Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
		}}}))
		p.Spec.ServiceAccountName = "robot"
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(4321))}
		dirs, again := mustMount(t, s, p)
		for name, want := range map[string]string{"token": "TOKEN", "ca.crt": "CA", "pw": "x", "namespace": "ns", "labels": "a=\"1\"\nb=\"x\\\"y\""} {
			if got := read(t, filepath.Join(dirs["v"], name)); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		var st syscall.Stat_t
		if err := syscall.Stat(dirs["v"]+"/token", &st); err != nil || st.Gid != 4321 || st.Mode&0o777 != 0o640 {
			t.Errorf("token has gid %d mode %o, %v", st.Gid, st.Mode, err)
		}
		if left := time.Until(again); left < 47*time.Minute || left > 49*time.Minute {
			t.Errorf("renewal in %s, want 4/5 of an hour", left)
		}
		mustMount(t, s, p)
		if asked != 1 {
			t.Errorf("%d tokens were asked for, want 1", asked)
		}
		if mounted, err := linux.MountPoint(dirs["v"]); !mounted || err != nil {
			t.Errorf("not a tmpfs: %v", err)
		}
		for range 2 {
			if err := s.Unmount(context.Background(), "u"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(filepath.Join(s.c.Dir, "u", "volumes")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("volumes are left: %v", err)
		}
	})
}

func TestEmptyDirs(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		size := resource.MustParse("1Mi")
		p := podWith(volume("disk", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
			volume("memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}}))
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(77))}
		dirs, _ := mustMount(t, s, p)
		for name, dir := range dirs {
			var st syscall.Stat_t
			if err := syscall.Stat(dir, &st); err != nil || st.Mode&0o7777 != 0o2777 || st.Gid != 77 {
				t.Errorf("%s: mode %o gid %d, %v", name, st.Mode, st.Gid, err)
			}
		}
		if err := os.WriteFile(dirs["memory"]+"/big", make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("more than sizeLimit can be written: %v", err)
		}
		if err := os.WriteFile(dirs["disk"]+"/kept", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		mustMount(t, s, p)
		if read(t, dirs["disk"]+"/kept") != "x" {
			t.Error("a refresh emptied the volume")
		}
	})
}

func TestHostPathTypesAreChecked(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			path string
			kind corev1.HostPathType
			want string
		}{
			{"", corev1.HostPathDirectory, ""}, {"/file", corev1.HostPathFile, ""}, {"/new", corev1.HostPathDirectoryOrCreate, ""}, {"/newfile", corev1.HostPathFileOrCreate, ""},
			{"/file", corev1.HostPathDirectory, "hostPath type check failed: DIR/file is not a directory"}, {"/none", corev1.HostPathFile, "hostPath type check failed: DIR/none is not a file"},
			{"", corev1.HostPathSocket, "hostPath type check failed: DIR is not a socket file"}, {"/file", corev1.HostPathBlockDev, "hostPath type check failed: DIR/file is not a block device"},
		} {
			p := podWith(volume("v", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir + c.path, Type: &c.kind}}))
			_, _, err := s.Mount(context.Background(), p)
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
				t.Errorf("%s as %s: %v, want %q", c.path, c.kind, err, want)
			}
		}
		if err := s.Unmount(context.Background(), "u"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir + "/file"); err != nil {
			t.Errorf("removal of volumes touched the host: %v", err)
		}
	})
}

func TestSubPathsStayInTheVolume(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		outside := t.TempDir()
		if err := os.WriteFile(outside+"/secret", []byte("no"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := podWith(volume("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
		dirs, _ := mustMount(t, s, p)
		m := &corev1.VolumeMount{Name: "v"}
		made, err := s.SubPath(context.Background(), p, m, dirs["v"], "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(made+"/f", []byte("1"), 0o600); err != nil || read(t, dirs["v"]+"/a/b/f") != "1" {
			t.Errorf("what is written by the subPath is not in the volume: %v", err)
		}
		if info, err := os.Stat(dirs["v"] + "/a/b"); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("a new subPath has mode %v, %v", info.Mode(), err)
		}
		if again, err := s.SubPath(context.Background(), p, m, dirs["v"], "a/b"); err != nil || again != made {
			t.Errorf("the second time: %s, %v", again, err)
		}
		if file, err := s.SubPath(context.Background(), p, m, dirs["v"], "a/b/f"); err != nil || read(t, file) != "1" {
			t.Errorf("a file: %v", err)
		}
		if err := os.Symlink(outside, dirs["v"]+"/link"); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"link/secret", "../x", "/etc", "a/../../x", "link"} {
			if path, err := s.SubPath(context.Background(), p, m, dirs["v"], bad); err == nil {
				t.Errorf("%s leads to %s", bad, path)
			}
		}
		if err := s.Unmount(context.Background(), "u"); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(filepath.Join(s.c.Dir, "u")); len(left) > 0 {
			t.Errorf("%s is left", left[0].Name())
		}
	})
}

func TestUnsupportedVolumesSaySo(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		p := podWith(volume("v", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}))
		if _, _, err := s.Mount(context.Background(), p); err == nil || !strings.Contains(err.Error(), "not supported by this node yet") {
			t.Errorf("error is %v", err)
		}
	})
}
