package pvesim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
)

// guestStore reads and writes lxc/<vmid>.conf. Files are the truth, as on a real node,
// where an administrator may edit them; parsed ones are cached until they change.
type guestStore struct {
	mu    sync.Mutex
	cache map[int]*guestFile
	locks map[int]chan struct{}
	cpu   map[int]cpuSample
	// history holds what guests did, for their graphs.
	history map[int][]sample
}

// guestFile is a configuration as it was read. It is never changed.
type guestFile struct {
	vmid    int
	conf    *guestconf.Config
	digest  string
	limits  guestLimits
	modTime time.Time
	size    int64
}

// cpuSample is the last look at a guest's used CPU time.
type cpuSample struct {
	at   time.Time
	used time.Duration
}

func (s *guestStore) init() {
	s.cache, s.locks, s.cpu = map[int]*guestFile{}, map[int]chan struct{}{}, map[int]cpuSample{}
	s.history = map[int][]sample{}
}

func (n *Node) confFile(vmid int) string { return n.path("lxc", vmidText(vmid)+".conf") }

// errNoConfig is the 500 for a guest that does not exist.
func (n *Node) errNoConfig(vmid int) error {
	return die("Configuration file 'nodes/%s/lxc/%d.conf' does not exist", n.name, vmid)
}

// load returns a guest's configuration.
func (s *guestStore) load(n *Node, vmid int) (*guestFile, error) {
	st, err := os.Stat(n.confFile(vmid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, n.errNoConfig(vmid)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.cache[vmid]; g != nil && g.modTime.Equal(st.ModTime()) && g.size == st.Size() {
		return g, nil
	}
	raw, err := os.ReadFile(n.confFile(vmid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, n.errNoConfig(vmid)
	}
	if err != nil {
		return nil, err
	}
	g := &guestFile{vmid: vmid, conf: guestconf.Parse(string(raw)), digest: guestconf.Digest(string(raw)), modTime: st.ModTime(), size: st.Size()}
	g.limits = limitsOf(g.conf.Values)
	s.cache[vmid] = g
	return g, nil
}

// writable refuses to write a guest's configuration without quorum: pmxcfs is read-only then.
func (n *Node) writable(vmid int) error {
	if n.quorate() {
		return nil
	}
	return die("unable to open file '/etc/pve/nodes/%s/lxc/%d.conf.tmp.%d' - Permission denied", n.name, vmid, os.Getpid())
}

// store writes a configuration.
func (s *guestStore) store(n *Node, vmid int, c *guestconf.Config) error {
	text, err := c.Format()
	if err != nil {
		return err
	}
	if err := n.writable(vmid); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cache, vmid)
	return writeFile(n.confFile(vmid), []byte(text), 0o640)
}

// claim makes a configuration that says "lock: create", unless there is one on any node:
// the atomic step that decides between two creates of one VMID.
func (s *guestStore) claim(n *Node, vmid int) error {
	n.claims.Lock()
	defer n.claims.Unlock()
	if owner := n.ownerOf(vmid); owner != nil {
		return errExists(owner, vmid)
	}
	// In one piece: who finds the file must find the lock in it, or a guest that is being
	// made looks like one that somebody destroyed.
	s.mu.Lock()
	defer s.mu.Unlock()
	return writeFile(n.confFile(vmid), []byte("lock: create\n"), 0o640)
}

// ownerOf finds the node that has a guest's configuration, nil if none has.
func (c *cluster) ownerOf(vmid int) *Node {
	for _, n := range c.nodes {
		if _, err := os.Lstat(n.confFile(vmid)); err == nil {
			return n
		}
	}
	return nil
}

// errExists is the refusal of check_vmid_unused (PVE::Cluster).
func errExists(owner *Node, vmid int) error {
	return die("CT %d already exists on node '%s'", vmid, owner.name)
}

// remove deletes a configuration.
func (s *guestStore) remove(n *Node, vmid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cache, vmid)
	delete(s.cpu, vmid)
	delete(s.history, vmid)
	if err := os.Remove(n.confFile(vmid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ids lists the guests that have a configuration, in order.
func (s *guestStore) ids(n *Node) []int {
	entries, err := os.ReadDir(n.path("lxc"))
	if err != nil {
		return nil
	}
	var ids []int
	for _, e := range entries {
		name, ok := strings.CutSuffix(filepath.Base(e.Name()), ".conf")
		if vmid, err := strconv.Atoi(name); ok && err == nil {
			ids = append(ids, vmid)
		}
	}
	slices.Sort(ids)
	return ids
}

// all loads every guest; one that vanishes meanwhile is left out.
func (s *guestStore) all(n *Node) []*guestFile {
	var out []*guestFile
	for _, vmid := range s.ids(n) {
		if g, err := s.load(n, vmid); err == nil {
			out = append(out, g)
		}
	}
	return out
}

// lock takes a guest's configuration lock, which start, stop, create and the like hold
// from beginning to end.
func (s *guestStore) lock(ctx context.Context, vmid int, wait time.Duration) (unlock func(), err error) {
	s.mu.Lock()
	l := s.locks[vmid]
	if l == nil {
		l = make(chan struct{}, 1)
		s.locks[vmid] = l
	}
	s.mu.Unlock()
	select { // a free lock is taken even if ctx is over
	case l <- struct{}{}:
		return func() { <-l }, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, die("can't lock file '/run/lock/lxc/pve-config-%d.lock' - got timeout", vmid)
	}
}

// withGuest runs fn with the lock held, on a configuration that is not locked by a
// longer operation, and writes what fn made of it if it returns true.
func (n *Node) withGuest(ctx context.Context, vmid int, fn func(*guestFile, *guestconf.Config) (write bool, err error)) error {
	unlock, err := n.guests.lock(ctx, vmid, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return err
	}
	if err := checkLock(g.conf); err != nil {
		return err
	}
	conf := g.conf.Clone()
	write, err := fn(g, conf)
	if err != nil || !write {
		return err
	}
	return n.guests.store(n, vmid, conf)
}

func checkLock(c *guestconf.Config) error {
	if lock := c.Values["lock"]; lock != "" {
		return die("CT is locked (%s)", lock)
	}
	return nil
}

// running asks the engine; a guest that it does not know is not running.
func (n *Node) running(ctx context.Context, vmid int) bool {
	st, err := n.engine.Status(ctx, vmid)
	return err == nil && st.Running
}

// guestName is the host name, or what Proxmox makes of the VMID.
func guestName(vmid int, values map[string]string) string {
	if name := values["hostname"]; name != "" {
		return name
	}
	return fmt.Sprintf("CT%d", vmid)
}
