package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/openapi"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Config is what a server is made of. Planner, Usage and Streams may be nil: then what needs
// them is not offered. Without Access only the local administrator may do anything; without
// Accounts there are no users.
// Everything else is needed.
type Config struct {
	Store    store.Store
	Applier  Applier
	Registry *resource.Registry
	Auth     auth.Authenticator
	// Access decides who may do what.
	Access   *auth.Authorizer
	Accounts *account.Service
	// OnAccessChange calls a function whenever rights or credentials may have changed; nil:
	// they never do.
	OnAccessChange func(func())
	// TLS has the server's certificate; there is no way to serve without.
	TLS     *tls.Config
	Log     *slog.Logger
	Metrics Metrics
	// Ready is asked at every /readyz and every other second by the gRPC health service:
	// it must be quick. The text of its error is shown to callers without a credential.
	Ready func() error
	// Version is the daemon's.
	Version string

	// ClientCAs verifies certificates of gRPC clients; nil: they are not asked for one.
	ClientCAs *x509.CertPool

	// Trail keeps what happens and changes no object; nil: nothing does.
	Trail *trail.Trail

	Planner Planner
	Usage   Usage
	// Database may be nil too: the store then has no file.
	Database Database
	Streams  Streams
	// Webhooks may be nil too.
	Webhooks Webhooks
}

func (c Config) check() error {
	missing := func(name string, is bool) error {
		if is {
			return fmt.Errorf("%s is missing", name)
		}
		return nil
	}
	return errors.Join(
		missing("Store", c.Store == nil), missing("Applier", c.Applier == nil), missing("Registry", c.Registry == nil),
		missing("Auth", c.Auth == nil), missing("Log", c.Log == nil), missing("Metrics", c.Metrics == nil),
		missing("Ready", c.Ready == nil), missing("TLS", c.TLS == nil || len(c.TLS.Certificates) == 0),
	)
}

// Server is the daemon's API.
type Server struct {
	core    *core
	gate    *gate
	system  *systemService
	admin   *adminService
	auth    *authService
	metrics *metrics
	health  *health
	rest    *rest
	tls     *tls.Config
	// clientCAs is nil when no certificates are asked for.
	clientCAs *x509.CertPool
	log       *slog.Logger
	// stop ends watches and waits.
	stop context.CancelFunc
}

// New builds a server. It registers the server's metrics, so there can be one per
// registry of metrics.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("server configuration: %w", err)
	}
	for _, k := range cfg.Registry.Kinds() {
		if k.Plural == applyCollection || k.Plural == planCollection || k.Plural == usageCollection || !validSegment(k.Plural) {
			return nil, fmt.Errorf("kind %s: %q can't be a plural, paths have another meaning for it", k.Name, k.Plural)
		}
	}
	if cfg.Access == nil {
		cfg.Access = auth.NewAuthorizer()
	}
	stopping, stop := context.WithCancel(context.Background())
	s := &Server{
		core: &core{store: cfg.Store, applier: cfg.Applier, registry: cfg.Registry, planner: cfg.Planner, usages: cfg.Usage},
		gate: newGate(cfg, stopping), health: newHealth(cfg.Ready),
		tls: cfg.TLS.Clone(), clientCAs: cfg.ClientCAs, log: cfg.Log, stop: stop,
	}
	s.system = &systemService{core: s.core}
	s.auth = &authService{accounts: cfg.Accounts, access: cfg.Access, note: s.gate.note}
	if cfg.OnAccessChange != nil {
		cfg.OnAccessChange(s.gate.recheck)
	}
	s.admin = newAdminService(cfg.Database, cfg.Store, cfg.Trail, cfg.Log)
	s.admin.secrets, _ = cfg.Applier.(Secrets)
	s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS13)
	var err error
	if s.rest, err = s.newREST(cfg); err != nil {
		stop()
		return nil, err
	}
	if s.metrics, err = newMetrics(cfg.Metrics, s.gate); err != nil {
		stop()
		return nil, err
	}
	s.rest.metrics = s.metrics
	return s, nil
}

func (s *Server) newREST(cfg Config) (*rest, error) {
	gateway, err := newGateway(s.system)
	if err != nil {
		return nil, err
	}
	r := &rest{
		core: s.core, gate: s.gate, auth: s.auth, admin: s.admin, gateway: gateway, openapi: sync.OnceValues(func() ([]byte, error) { return openapi.Document(cfg.Registry, cfg.Version) }), ready: cfg.Ready, version: cfg.Version, webhooks: cfg.Webhooks,
		scrape: promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
			MaxRequestsInFlight: maxScrapes, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		}),
	}
	r.fixed = r.fixedRoutes()
	r.kinds = r.newKindRoutes()
	return r, nil
}

// maxScrapes bounds concurrent readers of the metrics.
const maxScrapes = 4
