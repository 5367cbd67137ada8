// Package servertest runs the whole API server of the daemon in the process of a test: real
// gRPC and REST over TLS on loopback, with a token, on a store that the test opened.
//
// A Server can be stopped and started again. Its store stays, or is replaced by another one
// on the same data, and its ports change, as those of a daemon that was started again do.
package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/server"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Version is what the server says of itself.
const Version = "v0.0.0-test"

// Server is a server that can be stopped and started. Its methods are safe for concurrent
// use.
type Server struct {
	// Applier makes the way into the store; nil: the daemon's own. Set it before Start.
	Applier func(store.Store, *resource.Registry) server.Applier

	dir   string
	reg   *resource.Registry
	certs *auth.Certificates
	token string
	keys  *seal.Keyring // of this Server alone

	mu     sync.Mutex
	store  store.Store
	rpc    string // addresses while it runs
	rest   string
	cancel context.CancelFunc // nil: stopped
	done   chan error
}

// New makes a server that keeps its certificates and its token in dir. It is not started.
func New(dir string, st store.Store, reg *resource.Registry) (*Server, error) {
	certs, err := auth.EnsureCA(dir, nil)
	if err != nil {
		return nil, err
	}
	token, err := auth.EnsureToken(filepath.Join(dir, "token"))
	if err != nil {
		return nil, err
	}
	return &Server{dir: dir, reg: reg, certs: certs, token: token, keys: seal.NewEphemeral(), store: st}, nil
}

// SetStore makes the next Start serve another store.
func (s *Server) SetStore(st store.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = st
}

// Start serves on new ports of loopback, and makes the namespaces that every daemon has.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return errors.New("the server runs already")
	}
	admission := apply.New(s.store, s.reg).WithKeys(s.keys)
	applier := server.Applier(admission)
	if s.Applier != nil {
		applier = s.Applier(s.store, s.reg)
	}
	srv, err := server.New(server.Config{
		Store: s.store, Applier: applier, Registry: s.reg, Auth: auth.NewTokenAuthenticator(s.token),
		TLS: s.certs.TLS, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Ready: func() error { return nil }, Version: Version,
	})
	if err != nil {
		return err
	}
	if _, has := s.reg.Get("Namespace"); has {
		if err := admission.EnsureNamespaces(context.Background()); err != nil {
			return err
		}
	}
	rest, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, rest.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan error, 1)
	s.rest, s.rpc = "https://"+rest.Addr().String(), rpc.Addr().String()
	go func(done chan<- error) { done <- srv.Serve(ctx, rest, rpc) }(s.done)
	return nil
}

// Stop ends the server; open watches end with it. Stopping a stopped one does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil {
		return nil
	}
	s.cancel()
	s.cancel, s.rpc, s.rest = nil, "", ""
	return <-s.done
}

func (s *Server) address() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rpc == "" {
		return "", errors.New("the server is stopped")
	}
	return s.rpc, nil
}

// ClientConfig is the configuration of a client that finds the server wherever it is
// started.
func (s *Server) ClientConfig() client.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	address := s.rpc
	if address == "" {
		address = "127.0.0.1:1"
	}
	return client.Config{Address: address, Resolve: s.address, REST: s.rest, CAFile: s.certs.CAFile, Token: s.token, Registry: s.reg, UserAgent: "servertest"}
}

// Client returns a new client; the caller closes it.
func (s *Server) Client() (*client.Client, error) { return client.New(s.ClientConfig()) }

// EndpointFile writes the file by which programs find the server as it runs now.
func (s *Server) EndpointFile() (string, error) {
	cfg := s.ClientConfig()
	path := filepath.Join(s.dir, "endpoint.json")
	data, err := json.Marshal(client.Endpoint{REST: cfg.REST, GRPC: cfg.Address, CA: cfg.CAFile, TokenFile: filepath.Join(s.dir, "token"), Engine: "mem"})
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, data, 0o600)
}

// HTTP returns a client of the REST API, the API's base address and the token.
func (s *Server) HTTP() (c *http.Client, base, token string, err error) {
	cfg := s.ClientConfig()
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, "", "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, cfg.REST, s.token, nil
}
