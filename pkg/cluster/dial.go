package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/guest/console"
	"github.com/proximity-pve/proximity/pkg/guest/local"
	"github.com/proximity-pve/proximity/pkg/guest/ssh"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Dialer makes connections. Making one sends nothing: whether it works is seen when it is
// used.
type Dialer struct {
	// Installation is part of every mark.
	Installation string
	// UserAgent is what the API sees; "" is the client's own.
	UserAgent string
	Log       *slog.Logger
	// Observe is told of every exchange with the API; see proxmox.Config.
	Observe func(cluster, method, path string, status int, took time.Duration)
}

// Dial makes the connection of that name. Close it.
func (d Dialer) Dial(name string, s Settings) (*Connection, error) {
	client := proxmox.Config{
		Endpoints: s.Endpoints, Fingerprints: s.Fingerprints, CAPEM: s.CABundle,
		TokenID: s.TokenID, TokenSecret: s.TokenSecret, Username: s.Username, Password: s.Password,
		UserAgent: d.UserAgent, Log: d.Log,
		Concurrency: s.Limits.Requests, NodeConcurrency: s.Limits.NodeRequests, StorageTasks: s.Limits.StorageTasks,
	}
	if d.Observe != nil {
		client.Observe = func(method, path string, status int, took time.Duration) {
			d.Observe(name, method, path, status, took)
		}
	}
	api, err := proxmox.New(client)
	if err != nil {
		return nil, err
	}
	c := &Connection{
		Name: name, API: api, Installation: d.Installation,
		Limits: s.Limits, Endpoint: s.Endpoints[0], Identity: s.Identity(), Mode: s.Access.Mode, ends: &ends{},
	}
	c.ends.later(func() error { api.Close(); return nil })
	if s.Access.Mode == AccessConsole {
		err = c.throughConsoles(s.Access, client, api)
	} else {
		err = c.enter(s.Access, d.Log)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("the way into guests (%s): %w", s.Access.Mode, err)
	}
	return c, nil
}

// enter adds the way into guests.
func (c *Connection) enter(a Access, log *slog.Logger) error {
	var exec guest.NodeExec
	var err error
	switch a.Mode {
	case AccessLocal:
		exec, err = localExec()
	case AccessSSH:
		exec, err = sshExec(a, log)
	default:
		err = fmt.Errorf("there is no way called %q; allowed are %s, %s and %s", a.Mode, AccessSSH, AccessLocal, AccessConsole)
	}
	if err != nil {
		return err
	}
	mode := guest.ModeAttach
	if a.Command == "pct" {
		mode = guest.ModePct
	}
	way, err := guest.NewOnNode(exec, mode)
	if err != nil {
		return err
	}
	c.Guests, c.Host = way, way
	c.ends.later(way.Close)
	address := a.address()
	c.NodeHost = func(node string) string {
		host, _, err := net.SplitHostPort(address(node))
		if err != nil {
			return node
		}
		return host
	}
	return nil
}

// throughConsoles enters guests by the API alone. Where a user is given, it opens the
// consoles that the token may not.
func (c *Connection) throughConsoles(a Access, client proxmox.Config, api *proxmox.Client) error {
	cfg := console.Config{API: api, Log: client.Log}
	if a.Password != "" {
		client.TokenID, client.TokenSecret = "", ""
		client.Username, client.Password = a.User, a.Password
		login, err := proxmox.New(client)
		if err != nil {
			return err
		}
		cfg.Login = login
		c.ends.later(func() error { login.Close(); return nil })
	}
	way, err := console.New(cfg)
	if err != nil {
		return err
	}
	c.Guests = way
	c.ends.later(way.Close) // before the clients: leaving a guest in good order needs them
	return nil
}

func localExec() (guest.NodeExec, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	// A Proxmox node is called by its short host name.
	name, _, _ = strings.Cut(name, ".")
	return local.New(name, 0)
}

func sshExec(a Access, log *slog.Logger) (guest.NodeExec, error) {
	c := ssh.Config{User: a.User, PrivateKey: a.PrivateKey, HostKeys: a.HostKeys, Log: log, Address: a.address()}
	if a.KnownHostsFile != "" {
		c.KnownHosts = []string{a.KnownHostsFile}
	}
	return ssh.New(c)
}

// ProbeNode reads a harmless file on the node, to see whether the way onto it works.
func (c *Connection) ProbeNode(ctx context.Context, node string) error {
	if c.Host == nil {
		return errors.New("there is no way onto the node")
	}
	_, err := c.Host.ReadInterfaces(ctx, node)
	return err
}

// Close ends the connection; a second time does nothing. Requests that are under way may
// fail.
func (c *Connection) Close() error {
	if c.ends == nil {
		return nil
	}
	return c.ends.run()
}

// ends is what is done, last first, when a connection is closed.
type ends struct {
	mu   sync.Mutex
	list []func() error
}

func (e *ends) later(f func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, f)
}

func (e *ends) run() error {
	e.mu.Lock()
	list := e.list
	e.list = nil
	e.mu.Unlock()
	var errs []error
	for _, end := range slices.Backward(list) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}
