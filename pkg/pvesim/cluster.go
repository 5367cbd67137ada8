package pvesim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"

	"golang.org/x/crypto/ssh"
)

// cluster is what the nodes have in common: what a real cluster keeps in pmxcfs, and
// the process that they all live in.
type cluster struct {
	datacenter

	cfg    Config
	log    *slog.Logger
	access *access.Store
	schema map[string]*pveschema.Method
	routes *routeNode
	faults FaultScript
	stats  counters
	nodes  []*Node // the first is the one that New returns
	// claims makes the choice between two creates of one VMID, on whatever nodes.
	claims sync.Mutex
	shared storageState // volumes of storages that all nodes see

	signer  access.Signer
	sshUser ssh.PublicKey

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	servers []*http.Server
	closers []net.Listener
	serving sync.WaitGroup
	closed  bool
}

// New opens the state in cfg.Dir, or creates it with credentials, the usual storages and
// the uplink, and returns the first node. Guests do not run until Boot.
func New(cfg Config) (*Node, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	c := &cluster{cfg: cfg, log: cfg.Log}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.open(); err != nil {
		c.cancel()
		return nil, fmt.Errorf("pvesim: %w", err)
	}
	return c.nodes[0], nil
}

func (c *cluster) open() (err error) {
	if c.schema, err = pveschema.Load(); err != nil {
		return err
	}
	if c.routes, err = servedRoutes(); err != nil {
		return err
	}
	if err = os.MkdirAll(c.path(), 0o700); err != nil {
		return err
	}
	file := c.path("access.json")
	if c.access, err = access.Open(file, func(b []byte) error { return writeFile(file, b, 0o600) }); err != nil {
		return err
	}
	if err = c.datacenter.open(c.path, c.cfg); err != nil {
		return err
	}
	if err = c.shared.open(c.path("shared.json")); err != nil {
		return err
	}
	first := Peer{NodeName: c.cfg.NodeName, Engine: c.cfg.Engine, TemplateDir: c.cfg.TemplateDir, UplinkAddress: c.cfg.UplinkAddress}
	for i, p := range append([]Peer{first}, c.cfg.Peers...) {
		n := newNode(c, i, p)
		if err := n.open(); err != nil {
			return fmt.Errorf("node %s: %w", p.NodeName, err)
		}
		c.nodes = append(c.nodes, n)
	}
	if err := c.openCredentials(); err != nil {
		return err
	}
	if c.cfg.ResourceLag > 0 {
		c.serving.Go(c.publishLoop)
	}
	return nil
}

// node finds a node by its name, nil if there is none.
func (c *cluster) node(name string) *Node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Nodes returns all nodes of the cluster, the first one first.
func (c *cluster) Nodes() []*Node { return c.nodes }

// quorate reports whether more than half of the nodes are online.
func (c *cluster) quorate() bool {
	online := 0
	for _, n := range c.nodes {
		if n.Online() {
			online++
		}
	}
	return online*2 > len(c.nodes) && !c.quorumLost.Load()
}

// SetQuorate takes the cluster's quorum away, which makes it read-only, or gives it back.
func (c *cluster) SetQuorate(quorate bool) { c.quorumLost.Store(!quorate) }

// errNoQuorum is what check_cfs_quorum of PVE::Cluster dies with.
var errNoQuorum = errors.New("cluster not ready - no quorum?")

// needQuorum refuses what writes below /etc/pve while most nodes are away.
func (c *cluster) needQuorum() error {
	if c.quorate() {
		return nil
	}
	return errNoQuorum
}

// Access returns the users, tokens, roles and the access control list, for tests that
// need others than the seeded ones.
func (c *cluster) Access() *access.Store { return c.access }

// Faults returns the script of faults to inject.
func (c *cluster) Faults() *FaultScript { return &c.faults }

// Stats returns what was requested of the nodes so far.
func (c *cluster) Stats() Stats { return c.stats.snapshot() }

// closeGrace bounds the wait for tasks and requests at Close.
const closeGrace = 10 * time.Second

// Close stops serving on all nodes, interrupts tasks and waits for both. Guests keep
// running; call Shutdown before to stop them.
func (c *cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	servers, closers := c.servers, c.closers
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	var err error
	for _, n := range c.nodes {
		err = errors.Join(err, n.tasks.Close(ctx))
	}
	c.cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Close())
	}
	for _, l := range closers {
		_ = l.Close() // closed already when its server is
	}
	done := make(chan struct{})
	go func() { c.serving.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, errors.New("pvesim: connections are still open"))
	}
	return err
}

// track registers a listener to be closed with the cluster; false when it is closed.
func (c *cluster) track(l net.Listener, s *http.Server) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.closers = append(c.closers, l)
	if s != nil {
		c.servers = append(c.servers, s)
	}
	return true
}
