// Package ownership writes and reads the marks by which we know our own things on a
// Proxmox node: guests (tags and a block in the description), bridges (a comment) and
// files (a header).
//
// Identity is the uid of the object that the thing was made for, not its name or VMID. A
// mark names the installation too, so that two daemons on one cluster leave each other's
// things alone, and for a guest its own VMID, so that a copy (clone, restore) is told from
// the original. Something without a mark is never changed or deleted.
//
// Everything here is pure text.
package ownership

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// Tag is on every guest that the platform made.
	Tag = "proximity"
	// uidTagPrefix starts the tag that carries 16 hex digits of the object's uid. Proxmox tags
	// are lower case and may hold only [a-z0-9_+.-] (pve-tag).
	uidTagPrefix = "prx-"

	begin = "--- proximity: managed, do not edit this block ---"
	end   = "--- proximity: end ---"
)

// Mark says what a thing on a node was made for.
type Mark struct {
	Installation string // id of the daemon's installation
	Kind         string
	Namespace    string // empty for cluster-scoped kinds
	Name         string
	UID          string
	VMID         int // guests only
}

// Relation is what a mark means for an object.
type Relation string

// Relations of a marked or unmarked thing to an object.
const (
	Ours         Relation = "Ours"         // made for this very object
	Unmarked     Relation = "Unmarked"     // somebody else's
	OtherInstall Relation = "OtherInstall" // another installation's
	OtherObject  Relation = "OtherObject"  // ours, but made for another object (or for a lost one of the same name)
	Copy         Relation = "Copy"         // a clone or a restored backup: the mark names another VMID
)

// Relate compares a mark that was found (nil: none) with the one that the object would get.
func Relate(found *Mark, want Mark) Relation {
	switch {
	case found == nil:
		return Unmarked
	case found.Installation != want.Installation:
		return OtherInstall
	case found.UID != want.UID:
		return OtherObject
	case found.VMID != want.VMID:
		return Copy
	}
	return Ours
}

// UIDTag is the tag that identifies an object's guest in lists.
func UIDTag(uid string) string {
	hexDigits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'f' {
			return r
		}
		return -1
	}, strings.ToLower(uid))
	if len(hexDigits) < 16 {
		sum := sha256.Sum256([]byte(uid))
		hexDigits = hex.EncodeToString(sum[:])
	}
	return uidTagPrefix + hexDigits[:16]
}

// IsUIDTag tells whether a tag is of the form that UIDTag makes.
func IsUIDTag(tag string) bool { return strings.HasPrefix(tag, uidTagPrefix) }

// Tags are the tags of an object's guest beside those that a user gave it: existing tags
// are kept, another object's uid tag is not.
func Tags(existing []string, uid string) []string {
	tags := []string{Tag, UIDTag(uid)}
	for _, t := range existing {
		if t != Tag && !IsUIDTag(t) {
			tags = append(tags, t)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// lines is the content of a mark's block.
func (m Mark) lines() []string {
	l := []string{"installation: " + m.Installation, "kind: " + m.Kind}
	if m.Namespace != "" {
		l = append(l, "namespace: "+m.Namespace)
	}
	l = append(l, "name: "+m.Name, "uid: "+m.UID)
	if m.VMID != 0 {
		l = append(l, "vmid: "+strconv.Itoa(m.VMID))
	}
	return l
}

// Describe puts the mark's block into a guest's description, in place of an old one, and
// keeps the user's text around it.
func (m Mark) Describe(existing string) string {
	before, after, _ := cut(existing)
	block := begin + "\n" + strings.Join(m.lines(), "\n") + "\n" + end
	var parts []string
	if t := strings.Trim(before, "\n"); t != "" {
		parts = append(parts, t)
	}
	parts = append(parts, block)
	if t := strings.Trim(after, "\n"); t != "" {
		parts = append(parts, t)
	}
	return strings.Join(parts, "\n")
}

// FromDescription reads the mark from a guest's description, nil when there is none that
// is whole.
func FromDescription(description string) *Mark {
	_, _, block := cut(description)
	if block == "" {
		return nil
	}
	return parse(strings.Split(block, "\n"))
}

// Comment is the mark as one line, for a bridge's comment or a file's header.
func (m Mark) Comment() string {
	return "proximity: " + strings.Join(m.lines(), ", ")
}

// FromComment reads a mark that Comment wrote, on a line of its own, nil when there is none.
func FromComment(comment string) *Mark {
	for line := range strings.Lines(comment) {
		line = strings.TrimLeft(strings.TrimSpace(line), "# ")
		if rest, ok := strings.CutPrefix(line, "proximity: "); ok {
			if m := parse(strings.Split(rest, ", ")); m != nil {
				return m
			}
		}
	}
	return nil
}

// cut splits a description around the first whole block.
func cut(s string) (before, after, block string) {
	i := strings.Index(s, begin)
	if i < 0 {
		return s, "", ""
	}
	j := strings.Index(s[i:], end)
	if j < 0 {
		return s, "", ""
	}
	j += i
	return s[:i], s[j+len(end):], strings.Trim(s[i+len(begin):j], "\n")
}

func parse(lines []string) *Mark {
	var m Mark
	for _, l := range lines {
		key, value, ok := strings.Cut(strings.TrimSpace(l), ": ")
		if !ok {
			return nil
		}
		switch key {
		case "installation":
			m.Installation = value
		case "kind":
			m.Kind = value
		case "namespace":
			m.Namespace = value
		case "name":
			m.Name = value
		case "uid":
			m.UID = value
		case "vmid":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil
			}
			m.VMID = n
		}
	}
	if m.Installation == "" || m.UID == "" || m.Kind == "" {
		return nil
	}
	return &m
}

// String is for messages: App default/nginx-01 (VMID 101).
func (m Mark) String() string {
	name := m.Name
	if m.Namespace != "" {
		name = m.Namespace + "/" + m.Name
	}
	if m.VMID != 0 {
		return fmt.Sprintf("%s %s (VMID %d)", m.Kind, name, m.VMID)
	}
	return m.Kind + " " + name
}
