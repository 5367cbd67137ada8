package lxc

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// A guest that is made for the first time costs two requests of its own, to create and to start
// it. What would be asked in between is either refused by Proxmox or shown by a list:
//
//   - Whether it exists already. Its VMID is reserved for it and the list of guests lacks it. If
//     there is one all the same (a crash came before its making was written down, or the list may
//     not show it), Proxmox refuses to make another: a VMID is given once in a cluster. After any
//     answer but a task, and after the task, it is looked for directly.
//   - How it is after it was made. Our own task said that it made what we asked for, so it is taken
//     for that as long as its node's list, asked for anew each time, bears it out: our tags, name
//     and limits, and no lock. The only thing that is done to it on this ground is to start it.
//     The first time that its configuration is read (by the audit of package bulk) that must be
//     exactly what was asked for; otherwise it is looked at like any other.

// made is what a guest was made with by a task that ended well.
type made struct {
	node   string
	mark   ownership.Mark
	values map[string]string // of its configuration, without the root file system
	nics   map[int]proxmox.NIC
	disk   string // storage of the root file system
	size   int64  // in bytes
}

func newMade(d *Desired) *made {
	values := d.Settings()
	values["unprivileged"] = "1"
	values["tags"] = proxmox.JoinTags(ownership.Tags(nil, d.Mark.UID))
	values["description"] = d.Mark.Describe("")
	setIf(values, "features", nestingFeature.String(), d.Nesting)
	return &made{node: d.Node, mark: d.Mark, values: values, nics: d.NICs, disk: d.Storage, size: int64(d.DiskGiB) << 30}
}

// asMade looks at a guest that has just been made, without reading its configuration.
func (d *Driver) asMade(ctx context.Context, mark ownership.Mark) (Observed, bool) {
	with, _ := d.Memory.AsMade()
	m, ok := with.(*made)
	if !ok || m.mark != mark {
		return Observed{}, false
	}
	begin := time.Now()
	status, err := d.API.LXCStatus(ctx, m.node, mark.VMID)
	if err != nil || !m.shownBy(status) {
		return Observed{}, false
	}
	o := Observed{
		Present: true, Node: m.node, Relation: ownership.Ours, Mark: &m.mark, Running: status.Running(),
		Config: proxmox.NewLXCConfig(m.values), AsMade: true,
	}
	d.Memory.SawAsMade(begin, m.node, status, o, func(c proxmox.LXCConfig) (any, bool) {
		read := o
		read.Config = c
		return read, m.is(c)
	})
	return o, true
}

// shownBy tells whether a list shows the guest as it was made.
func (m *made) shownBy(s proxmox.LXCStatus) bool {
	const mib = 1 << 20
	cores, limited := m.values["cores"]
	return s.Lock == "" && !bool(s.Template) && s.Name == m.values["hostname"] && proxmox.JoinTags(proxmox.SplitTags(s.Tags)) == m.values["tags"] &&
		strconv.FormatInt(int64(s.MaxMem)/mib, 10) == m.values["memory"] && strconv.FormatInt(int64(s.MaxSwap)/mib, 10) == m.values["swap"] &&
		(!limited || strconv.FormatFloat(float64(s.CPUs), 'f', -1, 64) == cores)
}

// ofServer are keys that the server sets by itself.
var ofServer = []string{"arch", "ostype", "rootfs"}

// is tells whether a configuration is exactly what the guest was made with.
func (m *made) is(c proxmox.LXCConfig) bool {
	if c.Digest == "" || c.Lock != "" || len(c.Raw) > 0 {
		return false
	}
	for key := range c.Values() {
		if _, ours := m.values[key]; !ours && !slices.Contains(ofServer, key) {
			return false
		}
	}
	for key, want := range m.values {
		have := c.Value(key)
		switch {
		case strings.HasPrefix(key, "net"), key == "onboot" && have == "" && want == "0":
		case key == "description" && c.Description() == want, key == "tags" && proxmox.JoinTags(c.Tags()) == want:
		case have != want:
			return false
		}
	}
	for n, want := range m.nics {
		if have, ok, err := c.NIC(n); err != nil || !ok || !have.Equal(want) {
			return false
		}
	}
	root, err := c.RootFS()
	return err == nil && root.Storage() == m.disk && root.Size == m.size
}
