package pvesim

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"

	"golang.org/x/crypto/ssh"
)

// Node is one simulated Proxmox VE node. What it has in common with the other nodes of
// its cluster (Close, Access, Faults, Stats, Nodes) acts on all of them. All methods are
// safe for concurrent use.
type Node struct {
	*cluster

	index       int // its place in the cluster, from 0
	name        string
	dir         string
	engine      engine.Engine
	templateDir string
	address     string // CIDR of the uplink

	tasks   *tasks.Store
	guests  guestStore
	storage storageState // volumes of its own storages
	network networkState
	news    broadcast
	started time.Time
	// offlineSince is when the node went away, in nanoseconds since 1970; 0 is online.
	offlineSince atomic.Int64
	conns        connSet
	vzdumpLock   chan struct{} // one backup job at a time
	consoles     consoles
	load         workload
	others       foreign

	creds   Credentials
	cert    tls.Certificate
	sshHost ssh.Signer
}

func newNode(c *cluster, index int, p Peer) *Node {
	n := &Node{
		cluster: c, index: index, name: p.NodeName, engine: p.Engine, templateDir: p.TemplateDir,
		address: p.UplinkAddress, started: time.Now(), dir: c.cfg.Dir, vzdumpLock: make(chan struct{}, 1),
	}
	n.load.init(&c.cfg.Latency)
	if index > 0 { // the first one is where a node without peers is
		n.dir = c.path("nodes", p.NodeName)
	}
	return n
}

// path joins names below the node's directory.
func (n *Node) path(names ...string) string {
	return filepath.Join(append([]string{n.dir}, names...)...)
}

func (n *Node) open() (err error) {
	for _, dir := range []string{n.path("lxc"), n.path("etc", "network"), n.path("ssh"), n.path("tls")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if n.tasks, err = tasks.Open(n.path("tasks"), n.name); err != nil {
		return err
	}
	if err = n.storage.open(n.path("storage.json")); err != nil {
		return err
	}
	if err = n.openNetwork(); err != nil {
		return err
	}
	n.guests.init()
	return nil
}

// Name returns the node's name.
func (n *Node) Name() string { return n.name }

// Credentials returns what a client of this node needs.
func (n *Node) Credentials() Credentials { return n.creds }

// Online reports whether the node is reachable.
func (n *Node) Online() bool { return n.offlineSince.Load() == 0 }

// SetOnline takes the node's network away or gives it back: its listeners close every
// connection, the other nodes answer for it with 595 and see it offline. Its guests and
// tasks go on, as behind a pulled cable.
func (n *Node) SetOnline(online bool) {
	if e, ok := n.engine.(interface{ SetUplink(up bool) }); ok {
		e.SetUplink(online) // tunnels between nodes end, too
	}
	if online {
		n.offlineSince.Store(0)
		return
	}
	n.offlineSince.CompareAndSwap(0, time.Now().UnixNano())
	n.conns.closeAll()
}

// die595 is how a node answers for another one that it cannot reach. 595 is the status
// that AnyEvent::HTTP gives a connection that was not made.
func die595() error {
	return transportError(595, "No route to host")
}

// hop leads a request to the node that its path names: this one, or one that this one
// reaches.
func (n *Node) hop(name string) (*Node, error) {
	if name == "localhost" || name == n.name {
		return n, nil
	}
	to := n.node(name)
	if to == nil {
		return nil, die("hostname lookup '%s' failed - failed to get address info for: %s: Temporary failure in name resolution", name, name)
	}
	if !to.Online() {
		return nil, die595()
	}
	return to, nil
}
