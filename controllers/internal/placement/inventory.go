package placement

import (
	"slices"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Inventory is what Proxmox says of a cluster's nodes, storages and guests. It must not be
// changed.
type Inventory struct {
	// At is when the oldest part of it was asked for.
	At     time.Time
	Nodes  []NodeFacts // sorted by name
	Guests map[int]GuestFacts
}

// NodeFacts are those of a node. Sizes are in bytes; 0 is unknown.
type NodeFacts struct {
	Name        string
	Online      bool
	Maintenance bool // of the high availability manager
	Memory      int64
	MemoryUsed  int64
	// Storages are the enabled ones, sorted by name; Unread says why they are not known.
	Storages []StorageFacts
	Unread   string
}

// StorageFacts are those of a storage as a node sees it. Sizes are in bytes.
type StorageFacts struct {
	Name, Type string
	Content    []string
	Active     bool
	Shared     bool
	Total      int64
	Used       int64
	Avail      int64
	// Metadata is that of the thin pool below it, 0 when there is none or it is not told.
	Metadata, MetadataUsed int64
	// Templates are the volume ids of those that it has, nil when they were not asked for.
	Templates []string
}

// GuestFacts are those of a guest, ours or not.
type GuestFacts struct {
	Node         string
	Running      bool
	Ours         bool // it carries a uid of this platform
	Memory, Used int64
}

// Node returns a node's facts.
func (i *Inventory) Node(name string) (NodeFacts, bool) {
	at := slices.IndexFunc(i.Nodes, func(n NodeFacts) bool { return n.Name == name })
	if at < 0 {
		return NodeFacts{}, false
	}
	return i.Nodes[at], true
}

// Storage returns a node's storage by its name.
func (n NodeFacts) Storage(name string) (StorageFacts, bool) {
	at := slices.IndexFunc(n.Storages, func(s StorageFacts) bool { return s.Name == name })
	if at < 0 {
		return StorageFacts{}, false
	}
	return n.Storages[at], true
}

// Holds tells whether the storage takes a type of content.
func (s StorageFacts) Holds(content string) bool { return slices.Contains(s.Content, content) }

// thick tells whether a disk takes all of its size at once.
func (s StorageFacts) thick() bool { return s.Type == "lvm" || s.Type == "iscsidirect" }

// fullShare is how full data or metadata may be. The last part of a pool is never given
// away: everything that is on it fails when it is full.
const fullShare = 0.95

// Full says what of the storage is full, "" when nothing is. It is told in whole percent, so
// that the text changes seldom.
func (s StorageFacts) Full() (what string, percent int) {
	share := func(used, total int64) float64 {
		if total <= 0 {
			return 0
		}
		return float64(used) / float64(total)
	}
	if f := share(s.Used, s.Total); f >= fullShare {
		return "", int(f * 100)
	}
	if f := share(s.MetadataUsed, s.Metadata); f >= fullShare {
		return "the metadata of ", int(f * 100)
	}
	return "", 0
}

// HasTemplateStorage tells whether templates can be fetched to the node.
func (n NodeFacts) HasTemplateStorage() bool {
	return slices.ContainsFunc(n.Storages, func(s StorageFacts) bool { return s.Active && s.Holds(proxmox.ContentTemplate) })
}

// HasTemplate tells whether a template that matches is on the node.
func (n NodeFacts) HasTemplate(matches func(proxmox.Volid) bool) bool {
	for _, s := range n.Storages {
		if s.Active && slices.ContainsFunc(s.Templates, func(v string) bool { return matches(proxmox.Volid{Volid: v}) }) {
			return true
		}
	}
	return false
}
