package proxmox

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// TaskDownload is the Type of a task that fetches a template; its ID is the file's name.
const TaskDownload = "download"

// UPID is the identity of a Proxmox VE task: unique in the cluster and stable, so it
// can be stored and followed after a restart. The zero value is no task.
//
// Its text form is UPID:node:pid:pstart:starttime:type:id:user: with upper-case
// hexadecimal numbers (pve-common, PVE/UPID.pm).
type UPID struct {
	Node string
	// PID and PStart identify the worker process on Node.
	PID    uint32
	PStart uint64
	// Start is in seconds of the Unix epoch, by the node's clock.
	Start uint32
	// Type is the kind of work, e.g. vzcreate, vzstart, srvreload.
	Type string
	// ID is what is worked on, often a VMID; it may be empty, and is %XX-encoded.
	ID string
	// User is user@realm or user@realm!token.
	User string
}

// maxUPIDLen bounds what the parser looks at: node 63, type and id and user a few
// dozen bytes each.
const maxUPIDLen = 512

var upidPattern = regexp.MustCompile(`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-F]{8}):([0-9A-F]{8,9}):([0-9A-F]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):$`)

// ParseUPID reads the text form. It accepts exactly what String writes.
func ParseUPID(s string) (UPID, error) {
	if len(s) > maxUPIDLen {
		return UPID{}, fmt.Errorf("not a UPID: %d bytes long", len(s))
	}
	m := upidPattern.FindStringSubmatch(s)
	if m == nil {
		return UPID{}, fmt.Errorf("not a UPID: %.80q", s)
	}
	pid, err1 := strconv.ParseUint(m[2], 16, 32)
	pstart, err2 := strconv.ParseUint(m[3], 16, 64)
	start, err3 := strconv.ParseUint(m[4], 16, 32)
	if err := errors.Join(err1, err2, err3); err != nil {
		return UPID{}, fmt.Errorf("not a UPID: %w", err)
	}
	u := UPID{Node: m[1], PID: uint32(pid), PStart: pstart, Start: uint32(start), Type: m[5], ID: m[6], User: m[7]}
	if u.String() != s {
		return UPID{}, fmt.Errorf("not a UPID: %.80q is not in canonical form", s)
	}
	return u, nil
}

// String returns the text form, or "" for the zero value.
func (u UPID) String() string {
	if u.IsZero() {
		return ""
	}
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", u.Node, u.PID, u.PStart, u.Start, u.Type, u.ID, u.User)
}

// IsZero reports whether u names no task.
func (u UPID) IsZero() bool { return u == UPID{} }

// StartTime is when the task began, by the node's clock.
func (u UPID) StartTime() time.Time { return time.Unix(int64(u.Start), 0).UTC() }

// VMID returns the guest that the task works on; ok is false when ID is no VMID.
func (u UPID) VMID() (vmid int, ok bool) {
	n, err := strconv.Atoi(u.ID)
	return n, err == nil && ValidVMID(n)
}

// Token returns the API token's name when a token started the task, else "".
func (u UPID) Token() string {
	_, token, _ := strings.Cut(u.User, "!")
	return token
}

// DecodedID is ID without its %XX encoding.
func (u UPID) DecodedID() string {
	id, err := url.PathUnescape(u.ID)
	if err != nil {
		return u.ID
	}
	return id
}

// MarshalText implements encoding.TextMarshaler.
func (u UPID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero value.
func (u *UPID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*u = UPID{}
		return nil
	}
	p, err := ParseUPID(string(b))
	if err == nil {
		*u = p
	}
	return err
}
