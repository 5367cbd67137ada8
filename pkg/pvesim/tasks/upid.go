package tasks

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// UPID identifies a task:
// UPID:{node}:{pid}:{pstart}:{starttime}:{type}:{id}:{user}: with hexadecimal numbers.
type UPID struct {
	Node   string
	PID    int64
	PStart int64 // ticks since the node started
	Start  int64 // seconds since 1970
	Type   string
	ID     string
	User   string // user@realm or user@realm!token
}

// ErrUPID is returned for text that is no UPID.
var ErrUPID = errors.New("unable to parse worker upid")

func (u UPID) String() string {
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", u.Node, u.PID, u.PStart, u.Start, u.Type, escapeID(u.ID), u.User)
}

// Owner splits the user into user@realm and the token id, which may be "".
func (u UPID) Owner() (user, token string) {
	user, token, _ = strings.Cut(u.User, "!")
	return user, token
}

var upidRE = regexp.MustCompile(`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):$`)

// ParseUPID reads a UPID.
func ParseUPID(s string) (UPID, error) {
	m := upidRE.FindStringSubmatch(s)
	if m == nil {
		return UPID{}, ErrUPID
	}
	hex := func(s string) int64 {
		n, _ := strconv.ParseInt(s, 16, 64) // the pattern allows hexadecimal digits only
		return n
	}
	return UPID{Node: m[1], PID: hex(m[2]), PStart: hex(m[3]), Start: hex(m[4]), Type: m[5], ID: unescapeID(m[6]), User: m[7]}, nil
}

// escapeID encodes what would end a field of the UPID.
func escapeID(id string) string {
	var b strings.Builder
	for i := 0; i < len(id); i++ {
		if c := id[i]; c <= ' ' || c == ':' || c == '/' || c == '%' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescapeID(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
