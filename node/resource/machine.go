package resource

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sampan/internal/fault"
)

// Machine is what this machine has and says of itself.
type Machine struct {
	CPUs         int
	MemoryBytes  int64
	DiskBytes    int64 // of the file system that holds the pods
	Kernel       string
	OSImage      string
	MachineID    string
	BootID       string
	SystemUUID   string
	Architecture string
}

// ReadMachine looks at /proc, /sys and /etc; dir is on the file system that
// holds the pods. Names that a machine does not have stay empty.
func ReadMachine(dir string) (Machine, error) {
	m := Machine{CPUs: runtime.NumCPU(), Architecture: runtime.GOARCH}
	var err error
	if m.MemoryBytes, err = totalMemory(); err != nil {
		return m, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return m, &fault.Error{Op: "statfs", On: dir, Err: err}
	}
	m.DiskBytes = int64(fs.Blocks) * fs.Bsize
	m.Kernel = firstLine("/proc/sys/kernel/osrelease")
	m.BootID = firstLine("/proc/sys/kernel/random/boot_id")
	m.MachineID = firstLine("/etc/machine-id")
	m.SystemUUID = firstLine("/sys/class/dmi/id/product_uuid")
	if m.SystemUUID == "" {
		m.SystemUUID = m.MachineID
	}
	m.OSImage = osImage()
	return m, nil
}

// Capacity is what the Node reports.
func (m Machine) Capacity(maxPods int) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(m.CPUs), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(m.MemoryBytes, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(m.DiskBytes, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(maxPods), resource.DecimalSI),
	}
}

// Allocatable is capacity less what is reserved for the system.
func Allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	left := capacity.DeepCopy()
	for name, q := range reserved {
		if have, ok := left[name]; ok {
			have.Sub(q)
			if have.Sign() < 0 {
				have = resource.Quantity{Format: have.Format}
			}
			left[name] = have
		}
	}
	return left
}

func totalMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, &fault.Error{Op: "read size of memory", On: "/proc/meminfo", Err: err}
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, &fault.Error{Op: "read size of memory", On: "/proc/meminfo", Err: err}
			}
			return kib << 10, nil
		}
	}
	return 0, &fault.Error{Op: "read size of memory", On: "/proc/meminfo", Fix: "mount proc with its MemTotal line"}
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// osImage is PRETTY_NAME of os-release(5).
func osImage() string {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				return strings.Trim(strings.TrimSpace(v), `"'`)
			}
		}
	}
	return "Linux"
}
