package pvesim

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Config says what node to be.
type Config struct {
	// Dir is where the node's state lives; it is made if it does not exist.
	Dir string
	// NodeName is the node's name in paths and UPIDs; "" is pve.
	NodeName string
	// Engine makes guests real. Close does not close it.
	Engine engine.Engine
	// TemplateDir holds the templates of storage local (*.tar.zst, *.tar.xz, *.tar.gz).
	// Files in it are never written or removed.
	TemplateDir string
	// Log receives what happens on the node; nil discards it.
	Log *slog.Logger

	// Uplink is the bridge that exists before any configuration; "" is vmbr0.
	Uplink string
	// UplinkAddress, UplinkGateway and UplinkPort are what the first interfaces file says
	// of the uplink; "" is 192.168.50.2/24, 192.168.50.1 and none.
	UplinkAddress, UplinkGateway, UplinkPort string

	// Storages are what the node has beside its templates; nil is DefaultStorages. Each is
	// on every node of a cluster.
	Storages []Storage

	// Peers are the other nodes of the cluster, at most 15.
	Peers []Peer
	// ClusterName is what /cluster/status shows; "" is none for one node and "simulated"
	// for several.
	ClusterName string

	// Version is what Proxmox VE to be; "" is 9.1.
	Version Version
	// ClockOffset is how far the node's clock is ahead of this machine's.
	ClockOffset time.Duration
	// Packages are the installed Debian packages of Proxmox VE with their versions; nil is
	// what belongs to the simulated version. Consoles of containers take API tokens from
	// pve-container 6.1.3 on.
	Packages map[string]string

	// AuthDelay is how long a refused authentication takes; the real one takes 3 s.
	AuthDelay time.Duration
	// LockTimeout is how long a guest's configuration lock is waited for; 0 is the real
	// one's 10 s.
	LockTimeout time.Duration
	// Latency is how long requests and tasks take; RealisticLatency is that of a real node.
	Latency Latency
	// ExecLatency is what pct exec costs before the command runs (half a second on a real
	// node).
	ExecLatency time.Duration
	// ResourceLag is how old what /cluster/resources and /nodes tell may be, the cycle of
	// pvestatd: 10 s on a real node, 0 shows things as they are.
	ResourceLag time.Duration
	// TaskLatency is how long a task of that type (vzcreate, vzstart...) takes beyond what
	// the engine does.
	TaskLatency map[string]time.Duration
}

// Peer is a further node of the cluster. Everything that it does not say is as on the
// first one.
type Peer struct {
	NodeName string
	// Engine makes its guests real; every node needs one of its own.
	Engine engine.Engine
	// TemplateDir is as in Config; "" is the first node's.
	TemplateDir string
	// UplinkAddress is as in Config; "" is the first node's, counted up.
	UplinkAddress string
}

// maxNodes bounds a cluster.
const maxNodes = 16

// Storage is a storage of the cluster. What the configuration says counts until the
// first change by the API.
type Storage struct {
	ID      string
	Type    string // dir, lvmthin, zfspool...
	Content []string
	Bytes   int64
	// Disabled and Nodes ("" is all) bound its use.
	Disabled bool     `json:",omitempty"`
	Nodes    []string `json:",omitempty"`
	// Options are the others by their names in the API (path, vgname, prune-backups); nil is
	// what an installation has.
	Options map[string]string `json:",omitempty"`
	// Shared says that all nodes see the same volumes.
	Shared bool
}

// DefaultStorages are those of a node that was installed on one disk.
func DefaultStorages() []Storage {
	return []Storage{
		{ID: "local", Type: "dir", Content: []string{"iso", "vztmpl", "backup"}, Bytes: 94 << 30},
		{ID: "local-lvm", Type: "lvmthin", Content: []string{"rootdir", "images"}, Bytes: 349 << 30},
	}
}

// The version that the node claims to be.
const (
	pveVersion = "9.1.4"
	pveRepoID  = "fa8458a99cb0a449"
)

// defaultLockTimeout is what PVE::AbstractConfig waits for a configuration lock.
const defaultLockTimeout = 10 * time.Second

func (c *Config) fill() error {
	switch {
	case c.Dir == "":
		return errors.New("pvesim: no directory")
	case c.Engine == nil:
		return errors.New("pvesim: no engine")
	}
	for _, d := range []struct {
		field *string
		value string
	}{
		{&c.NodeName, "pve"},
		{&c.Uplink, "vmbr0"},
		{&c.UplinkAddress, "192.168.50.2/24"},
		{&c.UplinkGateway, "192.168.50.1"},
		{&c.UplinkPort, "none"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if err := c.fillPeers(); err != nil {
		return err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Storages == nil {
		c.Storages = DefaultStorages()
	}
	if c.Packages == nil {
		c.Packages = defaultPackages()
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = defaultLockTimeout
	}
	return nil
}

// fillPeers checks the other nodes and completes what they leave out.
func (c *Config) fillPeers() error {
	if len(c.Peers) >= maxNodes {
		return fmt.Errorf("pvesim: %d nodes, at most %d are simulated", len(c.Peers)+1, maxNodes)
	}
	if len(c.Peers) > 0 && c.ClusterName == "" {
		c.ClusterName = "simulated"
	}
	uplink, err := netip.ParsePrefix(c.UplinkAddress)
	if err != nil {
		return fmt.Errorf("pvesim: uplink address: %w", err)
	}
	c.Peers = slices.Clone(c.Peers)
	names := map[string]bool{c.NodeName: true}
	for i := range c.Peers {
		p := &c.Peers[i]
		switch {
		case p.NodeName == "" || names[p.NodeName]:
			return fmt.Errorf("pvesim: peer %d has no name of its own (%q)", i, p.NodeName)
		case p.Engine == nil:
			return fmt.Errorf("pvesim: peer %s has no engine", p.NodeName)
		}
		names[p.NodeName] = true
		uplink = netip.PrefixFrom(uplink.Addr().Next(), uplink.Bits())
		if p.UplinkAddress == "" {
			p.UplinkAddress = uplink.String()
		}
		if p.TemplateDir == "" {
			p.TemplateDir = c.TemplateDir
		}
	}
	return nil
}
