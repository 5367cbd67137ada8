// Package daemon is the wiring of proximityd, to be read from top to bottom: data
// directory, store, Proxmox seam, controllers, servers. Every other package gets what it
// needs from here; nothing but this package knows all of them.
//
// Run returns when its context ends and everything has stopped. A daemon that is killed
// leaves nothing that the next start cannot take up: acknowledged changes are in the
// database, tasks of Proxmox are found again by their UPID, the embedded node goes on by
// itself and is re-attached.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers"
	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/gitops/webhook"
	"github.com/proximity-pve/proximity/pkg/pvesim/embedded"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/server"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/version"
)

// nodeShutdownPatience bounds a clean shutdown of the embedded node: every guest may take
// its time to stop, several at once.
const nodeShutdownPatience = 3 * time.Minute

// firstLookPatience bounds how long a daemon that booted its embedded node waits, before it
// says that it is ready, for the first look at every object.
const firstLookPatience = 5 * time.Second

// Run runs the daemon until ctx ends.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return err
	}
	boundMemory()
	log := newLogger(cfg)
	leaveNoCore(log)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	registry := kinds.Registry()
	st, err := admin.OpenDatabase(ctx, cfg.DataDir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	records := openTrail(cfg, log)
	defer records.close()
	installation, err := installationID(cfg.DataDir)
	if err != nil {
		return err
	}
	keys, err := sealingKeys(ctx, cfg, st, registry)
	if err != nil {
		return err
	}

	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), storeCollector{st}, applianceCollector{st})

	var node *embedded.Handle
	if cfg.Embedded {
		if node, err = startNode(ctx, &cfg, log); err != nil {
			return err
		}
		if !cfg.KeepNode {
			defer stopNode(node, log)
		}
		defer node.Close()
	}

	clusters, dialer, configured, err := connections(cfg, installation, metrics, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := clusters.Close(); err != nil {
			log.Debug("close the connections to Proxmox", "error", err)
		}
	}()
	authorizer := auth.NewAuthorizer()
	policy := access.NewPolicy(st, registry, authorizer)
	if err := policy.Refresh(ctx); err != nil {
		return fmt.Errorf("read who may do what: %w", err)
	}
	applier := apply.New(st, registry).WithKeys(keys)
	endpoint, certs, err := certificates(cfg, log)
	if err != nil {
		return err
	}
	accounts, err := users(ctx, cfg, log, st, applier.System(), registry, keys, policy, certs)
	if err != nil {
		return err
	}
	applier = applier.WithGuard(access.NewGuard(registry, policy, accounts.Follower()))
	if err := applier.EnsureNamespaces(ctx); err != nil {
		return fmt.Errorf("make the first namespaces: %w", err)
	}
	if err := ensureCluster(ctx, applier.System(), registry, cfg); err != nil {
		return fmt.Errorf("make Cluster %s: %w", cluster.DefaultName, err)
	}
	secrets := secretref.New(keys)
	repositories, err := follow(ctx, cfg, st, registry, applier, authorizer, secrets)
	if err != nil {
		return fmt.Errorf("repositories: %w", err)
	}
	all, usage := controllers.WithUsage(controllers.Deps{
		Clusters: clusters, Dial: dialer.Dial, Configured: configured, Secrets: secrets, GitOps: repositories.GitOps, Log: log,
		Kept:       keptState{dir: filepath.Join(cfg.DataDir, "appliances"), keys: keys},
		Patience:   cfg.Repair,
		AppWorkers: appWorkers(cfg.Proxmox.Limits),
	})
	manager := runtime.NewManager(st, log, metrics, all...)

	return serve(ctx, cfg, log, st, records, metrics, node, applier, manager, usageDesk{usage, runtime.NewClient(st)}, identities{authorizer, policy, accounts, endpoint, certs}, repositories.webhooks)
}

// serve runs the servers, the controllers and the forwarder's target until ctx ends.
func serve(ctx context.Context, cfg Config, log *slog.Logger, st *admin.Database, opening *openingTrail, metrics *prometheus.Registry, node *embedded.Handle, applier *apply.Applier, manager *runtime.Manager, usage usageDesk, who identities, webhooks *webhook.Receiver) error {
	endpoint, certs := who.endpoint, who.certs
	records, err := opening.opened()
	if err != nil {
		return err
	}
	rest, err := listen(cfg.Listen, cfg.anyPort, log)
	if err != nil {
		return fmt.Errorf("listen for REST: %w; choose another address with --listen", err)
	}
	defer rest.Close()
	grpc, err := listen(cfg.GRPCListen, cfg.anyPort, log)
	if err != nil {
		return fmt.Errorf("listen for gRPC: %w; choose another address with --grpc-listen", err)
	}
	defer grpc.Close()
	srv, err := server.New(server.Config{
		Store: st, Applier: applier, Registry: kinds.Registry(), Auth: who.accounts, Access: who.authorizer, Accounts: who.accounts, OnAccessChange: who.onChange, Trail: records.Trail, TLS: certs.TLS, ClientCAs: certs.ClientCAs(), Log: log,
		Metrics: metrics, Version: version.String(), Ready: func() error { return ready(st) },
		Planner: planner{manager}, Usage: usage, Database: databaseFile{st, cfg.DataDir}, Webhooks: webhooks,
	})
	if err != nil {
		return err
	}

	collector := runtime.NewCollector(st, kinds.Registry(), log, metrics)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(ctx, rest, grpc); err != nil {
			cancel(fmt.Errorf("serve: %w", err))
		}
	})
	wg.Go(func() { manager.Run(ctx) })
	wg.Go(func() { usage.desk.Run(ctx) })
	wg.Go(func() { collector.Run(ctx) })
	wg.Go(func() { who.policy.Run(ctx, log) })
	wg.Go(func() { who.accounts.Run(ctx) })
	wg.Go(func() { records.run(ctx, st) })
	if node != nil {
		wg.Go(func() { followAppliance(ctx, st, node, log) })
		endpoint.fromNode(node.Info())
	}
	endpoint.REST, endpoint.GRPC = "https://"+dialable(rest.Addr()), dialable(grpc.Addr())
	if err := writeEndpoint(cfg.DataDir, endpoint); err != nil {
		cancel(fmt.Errorf("write endpoint.json: %w", err))
	} else {
		if node != nil && !node.Attached() {
			// The node was booted a moment ago; what is stored speaks of before.
			lctx, lcancel := context.WithTimeout(ctx, firstLookPatience)
			manager.LookedOnce(lctx)
			lcancel()
		}
		log.Info("serving", "rest", endpoint.REST, "grpc", endpoint.GRPC, "data", cfg.DataDir, "version", version.String())
		who.welcome(cfg, endpoint)
		fmt.Fprintln(cfg.Stdout, "ready")
	}
	<-ctx.Done()
	err = os.Remove(endpointFile(cfg.DataDir))
	wg.Wait()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	log.Info("stopped")
	return err
}

// listen opens an address; with anyPort a port that is in use is replaced by a free one.
func listen(address string, anyPort bool, log *slog.Logger) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if !anyPort || !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	host, port, _ := net.SplitHostPort(address)
	log.Info("port is in use, taking another", "port", port)
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// dialable is the address for clients on this machine: a listener on all addresses is
// reached over the loopback.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}

func (e *Endpoint) fromNode(i embedded.Info) {
	e.Forward, e.ForwardTLS, e.Engine = i.Forward, i.ForwardTLS, i.Engine
	e.Node = EndpointNode{PID: i.PID, LXCPath: i.LXCPath}
}

// databaseFile is the server's port to the database.
type databaseFile struct {
	st  *admin.Database
	dir string
}

func (d databaseFile) Snapshot(w io.Writer) error {
	_, err := d.st.Snapshot(w)
	return err
}

func (d databaseFile) Check(ctx context.Context) (*v1alpha1.DatabaseReport, error) {
	return admin.CheckRunning(ctx, d.st.Store, d.dir)
}

func (d databaseFile) Defrag(ctx context.Context) (before, after int64, err error) {
	info, err := d.st.Defrag(ctx)
	return info.Before, info.After, err
}

// ready: the daemon can take changes.
func ready(st store.Store) error {
	if s := st.Stats(); s.ReadOnly {
		return fmt.Errorf("the database takes no more changes: %s", s.LastFailure)
	}
	return nil
}

func newLogger(cfg Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(cfg.Stderr, &slog.HandlerOptions{Level: level}))
}
