package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem/appliancesim"
)

const (
	// bootGrace is how long a start waits for the guests to boot before it reports the
	// node as ready; like a real node's, its API is there while guests still start.
	bootGrace = 8 * time.Second
	// shutdownTimeout bounds a clean shutdown; guests that have not stopped by then die
	// with the node.
	shutdownTimeout = 3 * time.Minute
)

// pveNode is what this package needs of a simulated node.
type pveNode interface {
	Boot(ctx context.Context) error
	Shutdown(ctx context.Context) error
	ServeAPI(l net.Listener) error
	ServeSSH(l net.Listener) error
	Close() error
}

// credentials are how the daemon logs in to the node.
type credentials struct {
	Fingerprint, TokenID, TokenSecret      string
	SSHUser, SSHPrivateKeyPath, SSHHostKey string
}

// nodeConfig is what a nodeFactory makes a node from.
type nodeConfig struct {
	Dir         string
	TemplateDir string
	Engine      engine.Engine
	Log         *slog.Logger
}

type nodeFactory func(nodeConfig) (pveNode, credentials, error)

// server is the node's process: everything that serves, and the order in which it
// starts and stops.
type server struct {
	args    childArgs
	log     *slog.Logger
	socks   *sockets
	machine *machine
	node    pveNode
	creds   credentials
	forward *forwarder
	tls     *forwarder

	stop     chan struct{} // closed when the node shall shut down
	stopOnce sync.Once
	failed   chan error // a listener ended although nobody closed it
}

// machine is what the node runs on: its engine and the network around it.
type machine struct {
	engine  engine.Engine
	lxcPath string
	close   func()
}

// runServer is the life of the node's process.
func runServer(a childArgs, makeNode nodeFactory, ready *os.File, log *slog.Logger) int {
	s, err := newServer(a, makeNode, log)
	if err != nil {
		log.Error("node can't start", "error", err)
		report(ready, err)
		return 1
	}
	defer s.machine.close()
	defer notifySignals(s.requestStop)()
	s.serve()
	booted := s.boot()
	select {
	case <-booted:
	case <-time.After(bootGrace):
		log.Warn("guests are still booting")
	case <-s.stop:
	}
	report(ready, nil)

	code := 0
	select {
	case <-s.stop:
	case err := <-s.failed:
		log.Error("node stops because it can't serve", "error", err)
		code = 1
	}
	s.shutdown(booted)
	return code
}

func newServer(a childArgs, makeNode nodeFactory, log *slog.Logger) (_ *server, err error) {
	s := &server{args: a, log: log, stop: make(chan struct{}), failed: make(chan error, 8)}
	if a.Engine == EngineLXC {
		// The whole promise that nothing leaves the machine rests on this.
		if own := ownNetNS(); own == "" || a.HostNetNS == "" || own == a.HostNetNS {
			return nil, fmt.Errorf("refusing to run a node in the network namespace it was started from (%s)", own)
		}
	}
	if s.socks, err = inheritSockets(); err != nil {
		return nil, err
	}
	templates, err := a.templateDir()
	if err != nil {
		return nil, err
	}
	if a.Engine == EngineLXC {
		s.machine, err = newLXCMachine(a, log)
	} else {
		s.machine, err = newMemMachine(a, templates, log)
	}
	if err != nil {
		return nil, err
	}
	s.node, s.creds, err = makeNode(nodeConfig{
		Dir: filepath.Join(nodeDir(a.DataDir), "pve"), TemplateDir: templates, Engine: s.machine.engine, Log: log,
	})
	if err != nil {
		s.machine.close()
		return nil, fmt.Errorf("open node: %w", err)
	}
	s.forward = newForwarder(s.machine.engine.Dial, false, log)
	s.tls = newForwarder(s.machine.engine.Dial, true, log)
	return s, nil
}

// newMemMachine needs no root and no kernel: guests and network are objects.
func newMemMachine(a childArgs, templates string, log *slog.Logger) (*machine, error) {
	e, err := mem.New(mem.Config{Dir: filepath.Join(nodeDir(a.DataDir), "guests"), TemplateDir: templates, Log: log})
	if err != nil {
		return nil, fmt.Errorf("open guests: %w", err)
	}
	appliancesim.Install(e)
	return &machine{engine: e, close: func() { _ = e.Close() }}, nil
}

// serve starts everything that listens.
func (s *server) serve() {
	control := controlServer(s.info, s.setForward, s.requestStop)
	s.run("control", func() error { return control.Serve(s.socks.control) })
	s.run("api", func() error { return s.node.ServeAPI(s.socks.api) })
	s.run("ssh", func() error { return s.node.ServeSSH(s.socks.ssh) })
	s.run("forward", func() error { return s.forward.serve(s.socks.forward) })
	s.run("forward-tls", func() error { return s.tls.serve(s.socks.forwardTLS) })
}

func (s *server) run(name string, serve func() error) {
	go func() {
		err := serve()
		if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
			err = errors.New("listener was closed")
		}
		select {
		case <-s.stop: // that is how it ends
		case s.failed <- fmt.Errorf("serve %s: %w", name, err):
		}
	}()
}

// boot boots the node in the background; the channel is closed when that is done. A
// guest that can't start does not keep the node from running.
func (s *server) boot() <-chan struct{} {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // a shutdown does not wait for the rest of the boot
		select {
		case <-s.stop:
		case <-done:
		}
		cancel()
	}()
	go func() {
		defer close(done)
		started := time.Now()
		if err := s.node.Boot(ctx); err != nil {
			s.log.Error("boot is not complete", "error", err)
			return
		}
		s.log.Info("node booted", "took", time.Since(started).Round(time.Millisecond))
	}()
	return done
}

func (s *server) requestStop() { s.stopOnce.Do(func() { close(s.stop) }) }

// shutdown is a node's: guests first, while the network still works.
func (s *server) shutdown(booted <-chan struct{}) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	s.requestStop()
	select {
	case <-booted:
	case <-ctx.Done():
	}
	s.forward.close()
	s.tls.close()
	if err := s.node.Shutdown(ctx); err != nil {
		s.log.Error("shutdown is not clean", "error", err)
	}
	if err := s.node.Close(); err != nil {
		s.log.Error("close node", "error", err)
	}
	s.socks.close()
	s.log.Info("node is down", "took", time.Since(started).Round(time.Millisecond))
}

func (s *server) setForward(t forwardTargets) {
	s.forward.setTarget(t.HTTP)
	s.tls.setTarget(t.HTTPS)
	s.log.Info("forward targets set", "http", t.HTTP, "https", t.HTTPS)
}

func (s *server) info() Info {
	return Info{
		Instance: s.args.Instance, Engine: s.args.Engine, EngineReason: s.args.Reason, LXCPath: s.machine.lxcPath,
		APIURL: "https://" + s.socks.api.Addr().String(), Fingerprint: s.creds.Fingerprint,
		TokenID: s.creds.TokenID, TokenSecret: s.creds.TokenSecret,
		SSHAddr: s.socks.ssh.Addr().String(), SSHUser: s.creds.SSHUser,
		SSHPrivateKeyPath: s.creds.SSHPrivateKeyPath, SSHHostKey: s.creds.SSHHostKey,
		Forward: s.socks.forward.Addr().String(), ForwardTLS: s.socks.forwardTLS.Addr().String(),
	}
}
