// Package guestconf reads and writes the configuration file of a container in
// Proxmox' own format (/etc/pve/lxc/<vmid>.conf): the description as # lines at the
// top, one "key: value" a line, a section [pve:pending] with the changes that wait for the
// next start, and a section for each snapshot.
package guestconf

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// pendingSection is the header of the section with changes for the next start.
const pendingSection = "pve:pending"

// Config is one guest's configuration.
type Config struct {
	// Values holds the options by name. "description" is plain text in which each line
	// ends with a newline, as the API shows it.
	Values map[string]string
	// Pending holds options that get their value at the next start.
	Pending map[string]string
	// Deleted lists options that are removed at the next start, sorted.
	Deleted []string
	// Raw holds lxc.* lines, which may repeat, in their order.
	Raw [][2]string
	// Snapshots holds the configuration of each snapshot by its name, with its
	// "description", "parent", "snaptime" and "snapstate" among the values. They have
	// neither pending changes nor snapshots of their own.
	Snapshots map[string]*Config
}

// New returns an empty configuration.
func New() *Config {
	return &Config{Values: map[string]string{}, Pending: map[string]string{}}
}

// Clone returns an independent copy.
func (c *Config) Clone() *Config {
	out := &Config{
		Values: maps.Clone(c.Values), Pending: maps.Clone(c.Pending),
		Deleted: slices.Clone(c.Deleted), Raw: slices.Clone(c.Raw),
	}
	for name, s := range c.Snapshots {
		out.SetSnapshot(name, s.Clone())
	}
	return out
}

// SetSnapshot adds or replaces a snapshot.
func (c *Config) SetSnapshot(name string, s *Config) {
	if c.Snapshots == nil {
		c.Snapshots = map[string]*Config{}
	}
	c.Snapshots[name] = s
}

// Effective returns the values as they will be after the next start.
func (c *Config) Effective() map[string]string {
	out := maps.Clone(c.Values)
	for _, key := range c.Deleted {
		delete(out, key)
	}
	maps.Copy(out, c.Pending)
	return out
}

// SetDescription stores text so that every line ends with a newline; empty text
// removes it.
func (c *Config) SetDescription(text string) {
	if strings.Trim(text, "\n") == "" {
		delete(c.Values, "description")
		return
	}
	c.Values["description"] = strings.TrimRight(text, "\n") + "\n"
}

var optionRE = regexp.MustCompile(`^\s*([a-zA-Z][a-zA-Z0-9_.-]*)\s*:\s*(\S|\S.*\S)\s*$`)

// Parse reads a file. Lines that are neither options nor comments are ignored, as
// Proxmox ignores them with a warning.
func Parse(text string) *Config {
	c := New()
	at, pending := c, false // where options go
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := section(line); ok {
			if pending = name == pendingSection; !pending {
				at = New()
				c.SetSnapshot(name, at)
			}
			continue
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if !pending {
				at.Values["description"] += decode(comment) + "\n"
			}
			continue
		}
		m := optionRE.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if pending {
			c.parsePending(m[1], m[2])
		} else {
			at.parseOption(m[1], m[2])
		}
	}
	return c
}

func (c *Config) parseOption(key, value string) {
	if strings.HasPrefix(key, "lxc.") {
		c.Raw = append(c.Raw, [2]string{key, value})
		return
	}
	c.Values[key] = value
}

func (c *Config) parsePending(key, value string) {
	if key != "delete" {
		c.Pending[key] = value
		return
	}
	for _, d := range strings.Split(value, ",") {
		if d = strings.TrimLeft(strings.TrimSpace(d), "!"); d != "" {
			c.Deleted = append(c.Deleted, d)
		}
	}
	slices.Sort(c.Deleted)
	c.Deleted = slices.Compact(c.Deleted)
}

func section(line string) (string, bool) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") && len(line) > 2 {
		return line[1 : len(line)-1], true
	}
	return "", false
}

// Format writes the file. It fails on a value with a line break, which would add an
// option of its own.
func (c *Config) Format() (string, error) {
	var b strings.Builder
	if err := c.writeSection(&b); err != nil {
		return "", err
	}
	if len(c.Pending) > 0 || len(c.Deleted) > 0 {
		b.WriteString("\n[" + pendingSection + "]\n")
		pending := maps.Clone(c.Pending)
		if pending == nil {
			pending = map[string]string{}
		}
		if len(c.Deleted) > 0 {
			pending["delete"] = strings.Join(c.Deleted, ",")
		}
		if err := writeOptions(&b, pending); err != nil {
			return "", err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Snapshots)) {
		b.WriteString("\n[" + name + "]\n")
		if err := c.Snapshots[name].writeSection(&b); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// writeSection writes what is in force: description, options, raw lines.
func (c *Config) writeSection(b *strings.Builder) error {
	if d := c.Values["description"]; d != "" {
		for _, line := range strings.Split(strings.TrimSuffix(d, "\n"), "\n") {
			b.WriteString("#" + encode(line) + "\n")
		}
	}
	if err := writeOptions(b, c.Values); err != nil {
		return err
	}
	for _, kv := range c.Raw {
		b.WriteString(kv[0] + ": " + kv[1] + "\n")
	}
	return nil
}

func writeOptions(b *strings.Builder, values map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key == "description" {
			continue
		}
		if strings.ContainsAny(values[key], "\n\r") {
			return fmt.Errorf("detected invalid newline inside property '%s'", key)
		}
		b.WriteString(key + ": " + values[key] + "\n")
	}
	return nil
}

// Digest is what the API shows as digest: SHA-1 of the file.
func Digest(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// encode writes a line of the description: controls, %, : and bytes above 0x7e become
// %XX, so that it cannot be anything but a comment.
func encode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '%' || c == ':' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if raw, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.Write(raw)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
