package proxmox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// LXCConfig is a guest's configuration: key -> value as text, booleans as 1 and 0. A key
// that is absent has the server's default. The zero value is an empty configuration.
type LXCConfig struct {
	values map[string]string
	// Digest identifies this state of the configuration file; see LXCUpdate.
	Digest string
	// Lock is what holds the guest (create, backup, migrate, ...), or "".
	Lock string
	// Raw are the lxc.* lines, which the API can only read.
	Raw [][2]string
}

// NewLXCConfig makes a configuration from its values, for tests and planners.
func NewLXCConfig(values map[string]string) LXCConfig {
	return LXCConfig{values: maps.Clone(values)}
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *LXCConfig) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*l = LXCConfig{values: make(map[string]string, len(all))}
	for key, raw := range all {
		if key == "lxc" {
			var lines [][2]Text
			if err := json.Unmarshal(raw, &lines); err != nil {
				return fmt.Errorf("lxc: %w", err)
			}
			for _, line := range lines {
				l.Raw = append(l.Raw, [2]string{string(line[0]), string(line[1])})
			}
			continue
		}
		var v Text
		if err := json.Unmarshal(raw, &v); err != nil {
			// A key of a newer version with more than a scalar: keep it as it is, so that
			// the keys we know stay readable.
			v = Text(raw)
		}
		switch key {
		case "digest":
			l.Digest = string(v)
		case "lock":
			l.Lock = string(v)
		default:
			l.values[key] = string(v)
		}
	}
	return nil
}

// Values returns a copy of all keys but digest, lock and lxc.
func (l LXCConfig) Values() map[string]string { return maps.Clone(l.values) }

// Get returns a key's value.
func (l LXCConfig) Get(key string) (string, bool) {
	v, ok := l.values[key]
	return v, ok
}

// Value returns a key's value, or "".
func (l LXCConfig) Value(key string) string { return l.values[key] }

// Bool returns a key's truth value; absent is false.
func (l LXCConfig) Bool(key string) bool {
	v, _ := ParseBool(l.values[key])
	return v
}

// Int returns a key's number, or def when it is absent or none.
func (l LXCConfig) Int(key string, def int) int {
	n, err := strconv.Atoi(l.values[key])
	if err != nil {
		return def
	}
	return n
}

// Hostname returns the guest's name, "" for the default CT<vmid>.
func (l LXCConfig) Hostname() string { return l.values["hostname"] }

// Unprivileged reports whether the guest's root is nobody on the node.
func (l LXCConfig) Unprivileged() bool { return l.Bool("unprivileged") }

// Template reports whether the guest was turned into a template and can only be cloned.
func (l LXCConfig) Template() bool { return l.Bool("template") }

// Tags returns the guest's tags, normalised.
func (l LXCConfig) Tags() []string { return SplitTags(l.values["tags"]) }

// Description returns the guest's description without the newline the server adds.
func (l LXCConfig) Description() string { return TrimDescription(l.values["description"]) }

// Features returns the guest's feature flags. One that cannot be read has none.
func (l LXCConfig) Features() PropertyString {
	p, err := ParsePropertyString(l.values["features"])
	if err != nil {
		return nil
	}
	return p
}

// NIC returns net[n]; ok is false when the guest has none.
func (l LXCConfig) NIC(n int) (nic NIC, ok bool, err error) {
	v, ok := l.values["net"+strconv.Itoa(n)]
	if !ok {
		return NIC{}, false, nil
	}
	nic, err = ParseNIC(v)
	return nic, true, err
}

// NICs returns all net[n] by n.
func (l LXCConfig) NICs() (map[int]NIC, error) {
	out := map[int]NIC{}
	for key, value := range l.values {
		n, ok := keyIndex(key, "net")
		if !ok {
			continue
		}
		nic, err := ParseNIC(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out[n] = nic
	}
	return out, nil
}

// RootFS returns the guest's root volume.
func (l LXCConfig) RootFS() (Volume, error) {
	v, err := ParseVolume(l.values["rootfs"])
	if err != nil {
		return Volume{}, fmt.Errorf("rootfs: %w", err)
	}
	return v, nil
}

// MountPoints returns all mp[n] by n.
func (l LXCConfig) MountPoints() (map[int]Volume, error) {
	out := map[int]Volume{}
	for key, value := range l.values {
		n, ok := keyIndex(key, "mp")
		if !ok {
			continue
		}
		v, err := ParseVolume(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out[n] = v
	}
	return out, nil
}

// keyIndex returns n when key is family followed by the number n.
func keyIndex(key, family string) (int, bool) {
	digits, ok := strings.CutPrefix(key, family)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && strconv.Itoa(n) == digits
}

// LXCConfig reads a guest's configuration with its pending changes merged in.
func (c *Client) LXCConfig(ctx context.Context, node string, vmid int) (LXCConfig, error) {
	if err := checkGuest(node, vmid); err != nil {
		return LXCConfig{}, err
	}
	return fetch[LXCConfig](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/config", node, vmid))
}

// LXCConfigNow reads the configuration that a running guest was started with, plus what
// was changed live: pending changes are left out.
func (c *Client) LXCConfigNow(ctx context.Context, node string, vmid int) (LXCConfig, error) {
	if err := checkGuest(node, vmid); err != nil {
		return LXCConfig{}, err
	}
	r := route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/config", node, vmid).withBool("current", true)
	return fetch[LXCConfig](ctx, c, r)
}

// PendingChange is a row of GET .../pending: a key with what holds now and what will
// hold after the next start.
type PendingChange struct {
	Key string `json:"key"`
	// Value is what holds now; Pending what will.
	Value   Text `json:"value"`
	Pending Text `json:"pending"`
	// Delete: the key will be gone (2: forcibly).
	Delete Int `json:"delete"`
	// set tells a pending value of "" from none.
	set bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *PendingChange) UnmarshalJSON(b []byte) error {
	type plain PendingChange
	var present struct {
		Pending json.RawMessage `json:"pending"`
	}
	if err := json.Unmarshal(b, (*plain)(p)); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &present); err != nil {
		return err
	}
	p.set = present.Pending != nil
	return nil
}

// IsPending reports whether the key will change at the next start. The server also lists
// the keys that will not.
func (p PendingChange) IsPending() bool { return p.set || p.Delete != 0 }

// LXCPending lists a guest's configuration keys with their pending changes.
func (c *Client) LXCPending(ctx context.Context, node string, vmid int) ([]PendingChange, error) {
	if err := checkGuest(node, vmid); err != nil {
		return nil, err
	}
	return fetch[[]PendingChange](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/pending", node, vmid))
}
