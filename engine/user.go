package engine

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"sampan/internal/fault"
)

// account is who a process runs as.
type account struct {
	UID, GID uint32
	Groups   []uint32
	Home     string // from passwd; empty if the user is not in it
}

// resolveUser finds out who spec ("", "name", "uid", "name:group", "uid:gid")
// is, by an image's passwd and group files; either may be empty. The rules are
// Docker's: a number need not be in passwd, a name must; supplementary groups
// are those that list the user, where a group is given only with merge.
func resolveUser(spec string, merge bool, passwd, group io.Reader) (account, error) {
	name, groupName, hasGroup := strings.Cut(spec, ":")
	var a account
	number, numeric := id(name)
	if name == "" {
		numeric = true
	}
	userName, found := "", false
	err := colonLines(passwd, 7, func(f []string) bool {
		uid, ok := id(f[2])
		if !ok || (f[0] != name || name == "") && !(numeric && uid == number) {
			return true
		}
		gid, _ := id(f[3])
		a.UID, a.GID, a.Home, userName, found = uid, gid, f[5], f[0], true
		return false
	})
	if err != nil {
		return a, err
	}
	if !found {
		if !numeric {
			return a, &fault.Error{Class: fault.Invalid, Op: "find user", On: name,
				Err: errors.New("unable to find user " + name + ": no matching entries in passwd file")}
		}
		a.UID = number
	}
	gid, gidNumeric := id(groupName)
	groupFound := !hasGroup || groupName == ""
	err = colonLines(group, 4, func(f []string) bool {
		g, ok := id(f[2])
		if !ok {
			return true
		}
		if hasGroup && groupName != "" {
			if !groupFound && (f[0] == groupName || gidNumeric && g == gid) {
				a.GID, groupFound = g, true
			}
			if !merge {
				return true
			}
		}
		if userName != "" && slices.Contains(strings.Split(f[3], ","), userName) && !slices.Contains(a.Groups, g) {
			a.Groups = append(a.Groups, g)
		}
		return true
	})
	if err != nil {
		return a, err
	}
	if !groupFound {
		if !gidNumeric {
			return a, &fault.Error{Class: fault.Invalid, Op: "find group", On: groupName,
				Err: errors.New("unable to find group " + groupName + ": no matching entries in group file")}
		}
		a.GID = gid
	}
	return a, nil
}

func id(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

// colonLines calls fn with the fields of each line that has enough of them
// until fn says stop. A line longer than 64 KiB is an error, as is a nil-less
// reader's.
func colonLines(r io.Reader, fields int, fn func([]string) bool) error {
	if r == nil {
		return nil
	}
	s := bufio.NewScanner(r)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		for len(f) < fields {
			f = append(f, "")
		}
		if !fn(f) {
			return nil
		}
	}
	if err := s.Err(); err != nil {
		return &fault.Error{Class: fault.Invalid, Op: "read", On: "/etc/passwd or /etc/group of the image", Err: err}
	}
	return nil
}
