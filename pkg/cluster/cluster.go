// Package cluster is a connection to one Proxmox VE cluster (or single node) as
// controllers use it: the API, the way into guests and, where it exists, the way onto the
// node. Connections are made by the daemon; the objects of kind Cluster say what they are
// for.
package cluster

import (
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
	proxmox.StorageReader
	proxmox.TemplateDownloader
	proxmox.TaskWaiter
}

// Connection is the way to one cluster.
type Connection struct {
	Name   string
	API    API
	Guests guest.Runner
	// Host edits node files that the API cannot; nil without host access.
	Host guest.Host
	// Installation is the id of this daemon's installation, part of every mark.
	Installation string
}

// Set holds the connections by name. It is safe for concurrent use.
type Set struct {
	mu    sync.RWMutex
	conns map[string]*Connection
}

// NewSet returns a set of these connections.
func NewSet(conns ...*Connection) *Set {
	s := &Set{conns: map[string]*Connection{}}
	for _, c := range conns {
		s.conns[c.Name] = c
	}
	return s
}

// NotConnectedError: there is no connection of that name.
type NotConnectedError struct {
	Name  string
	Known []string
}

func (e *NotConnectedError) Error() string {
	return fmt.Sprintf("there is no Proxmox connection named %q in the daemon's configuration; known are: %s", e.Name, strings.Join(e.Known, ", "))
}

// Get returns the connection of that name ("" is DefaultName) or a *NotConnectedError.
func (s *Set) Get(name string) (*Connection, error) {
	if name == "" {
		name = DefaultName
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.conns[name]; c != nil {
		return c, nil
	}
	known := make([]string, 0, len(s.conns))
	for n := range s.conns {
		known = append(known, n)
	}
	slices.Sort(known)
	return nil, &NotConnectedError{Name: name, Known: known}
}
