package pvesim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"

	"golang.org/x/crypto/ssh"
)

// Node is one simulated Proxmox VE node. All methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *slog.Logger
	engine  engine.Engine
	access  *access.Store
	tasks   *tasks.Store
	schema  map[string]*pveschema.Method
	routes  *routeNode
	guests  guestStore
	storage storageState
	network networkState
	faults  FaultScript
	stats   counters
	started time.Time

	creds   Credentials
	signer  access.Signer
	cert    tls.Certificate
	sshHost ssh.Signer
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
// the uplink. Guests do not run until Boot.
func New(cfg Config) (*Node, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, engine: cfg.Engine, started: time.Now()}
	for _, dir := range []string{n.path("lxc"), n.path("etc", "network"), n.path("ssh"), n.path("tls")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("pvesim: %w", err)
		}
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.open(); err != nil {
		n.cancel()
		return nil, fmt.Errorf("pvesim: %w", err)
	}
	return n, nil
}

func (n *Node) open() (err error) {
	if n.schema, err = pveschema.Load(); err != nil {
		return err
	}
	if n.routes, err = buildRoutes(n.schema); err != nil {
		return err
	}
	file := n.path("access.json")
	if n.access, err = access.Open(file, func(b []byte) error { return writeFile(file, b, 0o600) }); err != nil {
		return err
	}
	if n.tasks, err = tasks.Open(n.path("tasks"), n.cfg.NodeName); err != nil {
		return err
	}
	if err = n.openCredentials(); err != nil {
		return err
	}
	if err = n.openStorage(); err != nil {
		return err
	}
	if err = n.openNetwork(); err != nil {
		return err
	}
	n.guests.init()
	return nil
}

// Credentials returns what a client needs.
func (n *Node) Credentials() Credentials { return n.creds }

// Access returns the users, tokens, roles and the access control list, for tests that
// need others than the seeded ones.
func (n *Node) Access() *access.Store { return n.access }

// Faults returns the script of faults to inject.
func (n *Node) Faults() *FaultScript { return &n.faults }

// Stats returns what was requested of the node so far.
func (n *Node) Stats() Stats { return n.stats.snapshot() }

// closeGrace bounds the wait for tasks and requests at Close.
const closeGrace = 10 * time.Second

// Close stops serving, interrupts tasks and waits for both. Guests keep running; call
// Shutdown before to stop them.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	servers, closers := n.servers, n.closers
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	err := n.tasks.Close(ctx)
	n.cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Close())
	}
	for _, l := range closers {
		_ = l.Close() // closed already when its server is
	}
	done := make(chan struct{})
	go func() { n.serving.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, errors.New("pvesim: connections are still open"))
	}
	return err
}

// track registers a listener to be closed with the node; false when it is closed.
func (n *Node) track(l net.Listener, s *http.Server) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.closers = append(n.closers, l)
	if s != nil {
		n.servers = append(n.servers, s)
	}
	return true
}
