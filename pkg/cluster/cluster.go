// Package cluster is a connection to one Proxmox VE cluster (or single node) as
// controllers use it: the API, the way into guests and, where it exists, the way onto the
// node. The controller of kind Cluster makes connections of what its objects and their
// Secrets say, with a Dialer; the others find them in a Set, by name.
package cluster

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// DefaultName is the Cluster that objects without a clusterRef belong to.
const DefaultName = "default"

// API is the part of the Proxmox VE API that controllers use. *proxmox.Client has it.
type API interface {
	proxmox.ClusterReader
	proxmox.GuestReader
	proxmox.GuestWriter
	proxmox.PowerController
	proxmox.NetworkAdmin
	proxmox.SDNReader
	proxmox.SDNNodeReader
	proxmox.SDNAdmin
	proxmox.FirewallAdmin
	proxmox.StorageReader
	proxmox.TemplateDownloader
	proxmox.ImageFetcher
	proxmox.Inspector
	proxmox.HistoryReader
	proxmox.TaskWaiter
	// Tasks lists a node's tasks, newest first.
	Tasks(ctx context.Context, node string, f proxmox.TaskFilter) ([]proxmox.TaskListEntry, error)
}

// Connection is the way to one cluster. A copy is the same way with, say, another API in
// front; closing either closes both.
type Connection struct {
	Name   string
	API    API
	Guests guest.Runner
	// Host edits node files that the API cannot; nil without host access.
	Host guest.Host
	// Installation is the id of this daemon's installation, part of every mark.
	Installation string

	// Endpoint, Identity and Mode are what the connection was made of, for people.
	Endpoint, Identity, Mode string
	// NodeHost is what is dialled to get onto a node; nil where nothing is.
	NodeHost func(node string) string
	// Limits bounds what is done at the same time; the API keeps those that are about requests.
	Limits Limits

	// ends is shared by all copies, and so is never replaced: copies are made at any time,
	// also while the connection is being closed. nil: nothing to close.
	ends *ends
}

// Set holds the connections by name. It is safe for concurrent use. Those who use a
// connection ask for it each time they need it: it may have been replaced.
type Set struct {
	mu    sync.RWMutex
	conns map[string]*entry
}

type entry struct {
	conn   *Connection
	digest [sha256.Size]byte
}

// MaxConnections bounds a Set.
const MaxConnections = 64

// NewSet returns a set of these connections.
func NewSet(conns ...*Connection) *Set {
	s := &Set{conns: map[string]*entry{}}
	for _, c := range conns {
		s.conns[c.Name] = &entry{conn: c}
	}
	return s
}

// Ensure returns the connection of that name, made of these settings: the one there is, or
// a new one in its place; changed tells which. A connection that is replaced is closed:
// what is under way on it fails and is looked at again. When the new one cannot be made the
// old one stays.
func (s *Set) Ensure(name string, settings Settings, dial func(string, Settings) (*Connection, error)) (conn *Connection, changed bool, err error) {
	want := settings.digest()
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.conns[name]
	if old != nil && old.digest == want {
		return old.conn, false, nil
	}
	if old == nil && len(s.conns) >= MaxConnections {
		return nil, false, fmt.Errorf("there are %d connections to Proxmox already, more are not kept", MaxConnections)
	}
	if conn, err = dial(name, settings); err != nil {
		return nil, false, err
	}
	s.conns[name] = &entry{conn: conn, digest: want}
	if old != nil {
		_ = old.conn.Close() // nothing is lost with it
	}
	return conn, true, nil
}

// Remove closes and forgets the connection of that name, if there is one.
func (s *Set) Remove(name string) error {
	s.mu.Lock()
	old := s.conns[name]
	delete(s.conns, name)
	s.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.conn.Close()
}

// Close closes all connections.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, e := range s.conns {
		errs = append(errs, e.conn.Close())
	}
	s.conns = map[string]*entry{}
	return errors.Join(errs...)
}

// NotConnectedError: there is no connection of that name.
type NotConnectedError struct {
	Name  string
	Known []string
}

func (e *NotConnectedError) Error() string {
	return fmt.Sprintf("there is no connection to the Proxmox cluster %q; connected are: %s", e.Name, cmp.Or(strings.Join(e.Known, ", "), "none"))
}

// Get returns the connection of that name ("" is DefaultName) or a *NotConnectedError.
func (s *Set) Get(name string) (*Connection, error) {
	if name == "" {
		name = DefaultName
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.conns[name]; e != nil {
		return e.conn, nil
	}
	known := make([]string, 0, len(s.conns))
	for n := range s.conns {
		known = append(known, n)
	}
	slices.Sort(known)
	return nil, &NotConnectedError{Name: name, Known: known}
}
