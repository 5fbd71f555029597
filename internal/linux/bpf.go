package linux

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReplaceDeviceProgram loads a BPF program of type cgroup device and makes it
// the only one on the version 2 group that fd refers to (bpf(2)).
func ReplaceDeviceProgram(fd int, insns []byte) error {
	license := []byte("Apache-2.0\x00")
	// union bpf_attr, BPF_PROG_LOAD: type, count, instructions, license.
	load := struct {
		kind, count    uint32
		insns, license uint64
		logLevel       uint32
		logSize        uint32
		logBuf         uint64
		_              [88]byte
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(insns) / 8),
		insns: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(insns)))), license: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(license))))}
	prog, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(insns)
	runtime.KeepAlive(license)
	if e != 0 {
		return callError("bpf BPF_PROG_LOAD", "cgroup_device", e)
	}
	defer unix.Close(int(prog))
	old, err := devicePrograms(fd)
	if err != nil {
		return err
	}
	attach := struct{ target, prog, kind, flags, replace uint32 }{uint32(fd), uint32(prog), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI, 0}
	if _, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); e != 0 {
		return callError("bpf BPF_PROG_ATTACH", "cgroup_device", e)
	}
	// The old ones go last: access is never without a limit.
	for _, id := range old {
		get := struct{ id, next, flags uint32 }{id: id}
		was, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_GET_FD_BY_ID, uintptr(unsafe.Pointer(&get)), unsafe.Sizeof(get))
		if e != 0 {
			return callError("bpf BPF_PROG_GET_FD_BY_ID", "", e)
		}
		detach := struct{ target, prog, kind, flags, replace uint32 }{uint32(fd), uint32(was), unix.BPF_CGROUP_DEVICE, 0, 0}
		_, _, e = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_DETACH, uintptr(unsafe.Pointer(&detach)), unsafe.Sizeof(detach))
		unix.Close(int(was))
		if e != 0 {
			return callError("bpf BPF_PROG_DETACH", "cgroup_device", e)
		}
	}
	return nil
}

// devicePrograms lists the device programs attached to a group itself.
func devicePrograms(fd int) ([]uint32, error) {
	var ids [64]uint32
	query := struct {
		target, kind, flags, attachFlags uint32
		ids                              uint64
		count                            uint32
		_                                uint32
		progFlags                        uint64
		_                                [24]byte
	}{target: uint32(fd), kind: unix.BPF_CGROUP_DEVICE, ids: uint64(uintptr(unsafe.Pointer(&ids))), count: uint32(len(ids))}
	if _, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&query)), unsafe.Sizeof(query)); e != 0 {
		return nil, callError("bpf BPF_PROG_QUERY", "cgroup_device", e)
	}
	runtime.KeepAlive(&ids)
	return ids[:query.count], nil
}
