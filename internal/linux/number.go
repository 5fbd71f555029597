package linux

import "golang.org/x/sys/unix"

// Numbers of the calls that programs are made of.
const (
	SysOpenat        = unix.SYS_OPENAT
	SysOpenat2       = unix.SYS_OPENAT2
	SysClose         = unix.SYS_CLOSE
	SysWrite         = unix.SYS_WRITE
	SysRead          = unix.SYS_READ
	SysMkdirat       = unix.SYS_MKDIRAT
	SysMknodat       = unix.SYS_MKNODAT
	SysSymlinkat     = unix.SYS_SYMLINKAT
	SysFchownat      = unix.SYS_FCHOWNAT
	SysFchown        = unix.SYS_FCHOWN
	SysFchmodat      = unix.SYS_FCHMODAT
	SysDup3          = unix.SYS_DUP3
	SysIoctl         = unix.SYS_IOCTL
	SysSendmsg       = unix.SYS_SENDMSG
	SysSetsid        = unix.SYS_SETSID
	SysUnshare       = unix.SYS_UNSHARE
	SysSetns         = unix.SYS_SETNS
	SysSethostname   = unix.SYS_SETHOSTNAME
	SysSetdomainname = unix.SYS_SETDOMAINNAME
	SysFsopen        = unix.SYS_FSOPEN
	SysFsconfig      = unix.SYS_FSCONFIG
	SysFsmount       = unix.SYS_FSMOUNT
	SysMoveMount     = unix.SYS_MOVE_MOUNT
	SysOpenTree      = unix.SYS_OPEN_TREE
	SysMountSetattr  = unix.SYS_MOUNT_SETATTR
	SysPivotRoot     = unix.SYS_PIVOT_ROOT
	SysUmount2       = unix.SYS_UMOUNT2
	SysChdir         = unix.SYS_CHDIR
	SysFchdir        = unix.SYS_FCHDIR
	SysUmask         = unix.SYS_UMASK
	SysGetpid        = unix.SYS_GETPID
	SysPrctl         = unix.SYS_PRCTL
	SysCapset        = unix.SYS_CAPSET
	SysSetgroups     = unix.SYS_SETGROUPS
	SysSetresuid     = unix.SYS_SETRESUID
	SysSetresgid     = unix.SYS_SETRESGID
	SysPrlimit64     = unix.SYS_PRLIMIT64
	SysSeccomp       = unix.SYS_SECCOMP
	SysCloseRange    = unix.SYS_CLOSE_RANGE
	SysExecve        = unix.SYS_EXECVE
	SysExecveat      = unix.SYS_EXECVEAT
	SysRtSigprocmask = unix.SYS_RT_SIGPROCMASK
)

// Constants of those calls' arguments, named as their manual pages do.
const (
	AtFDCWD       = unix.AT_FDCWD
	AtEmptyPath   = unix.AT_EMPTY_PATH
	AtRecursive   = unix.AT_RECURSIVE
	AtNoFollow    = unix.AT_SYMLINK_NOFOLLOW
	OpenTreeClone = unix.OPEN_TREE_CLONE

	ResolveNoSymlinks   = unix.RESOLVE_NO_SYMLINKS
	ResolveNoMagicLinks = unix.RESOLVE_NO_MAGICLINKS
	ResolveInRoot       = unix.RESOLVE_IN_ROOT

	MoveFromEmpty = unix.MOVE_MOUNT_F_EMPTY_PATH
	MoveToEmpty   = unix.MOVE_MOUNT_T_EMPTY_PATH
	MoveToLink    = unix.MOVE_MOUNT_T_SYMLINKS

	ConfigFlag   = unix.FSCONFIG_SET_FLAG
	ConfigString = unix.FSCONFIG_SET_STRING
	ConfigCreate = unix.FSCONFIG_CMD_CREATE

	AttrReadOnly    = unix.MOUNT_ATTR_RDONLY
	AttrNoSuid      = unix.MOUNT_ATTR_NOSUID
	AttrNoDev       = unix.MOUNT_ATTR_NODEV
	AttrNoExec      = unix.MOUNT_ATTR_NOEXEC
	AttrAtime       = unix.MOUNT_ATTR__ATIME
	AttrNoAtime     = unix.MOUNT_ATTR_NOATIME
	AttrStrictAtime = unix.MOUNT_ATTR_STRICTATIME
	AttrNoDirAtime  = unix.MOUNT_ATTR_NODIRATIME
	AttrNoSymFollow = unix.MOUNT_ATTR_NOSYMFOLLOW

	Shared     = unix.MS_SHARED
	Slave      = unix.MS_SLAVE
	Private    = unix.MS_PRIVATE
	Unbindable = unix.MS_UNBINDABLE
	Detach     = unix.MNT_DETACH

	SetDeathSignal   = unix.PR_SET_PDEATHSIG
	SetKeepCaps      = unix.PR_SET_KEEPCAPS
	SetNoNewPrivs    = unix.PR_SET_NO_NEW_PRIVS
	DropBounding     = unix.PR_CAPBSET_DROP
	Ambient          = unix.PR_CAP_AMBIENT
	AmbientClearAll  = unix.PR_CAP_AMBIENT_CLEAR_ALL
	AmbientRaise     = unix.PR_CAP_AMBIENT_RAISE
	CapabilityHeader = unix.LINUX_CAPABILITY_VERSION_3

	SeccompFilter = unix.SECCOMP_SET_MODE_FILTER
	CloseOnExec   = unix.CLOSE_RANGE_CLOEXEC

	LockTerminal       = unix.TIOCSPTLCK
	PeerOfTerminal     = unix.TIOCGPTPEER
	ControllingTTY     = unix.TIOCSCTTY
	SetTerminalSizeReq = unix.TIOCSWINSZ
)

// MountAttr is struct mount_attr, mount_setattr(2).
type MountAttr = unix.MountAttr
