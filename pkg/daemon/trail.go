package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/store"
)

// trailDir is where, in the data directory, the audit trail is.
const trailDir = "audit"

// auditTrail is the trail with its forwarders.
type auditTrail struct {
	*trail.Trail
	forward []func(context.Context)
}

func openTrail(cfg Config, log *slog.Logger) (*auditTrail, error) {
	a := &auditTrail{}
	opts := trail.Options{MaxAge: time.Duration(cfg.Audit.MaxAgeDays) * 24 * time.Hour, MaxBytes: int64(cfg.Audit.MaxMiB) << 20, Log: log}
	for _, to := range cfg.Audit.Forward {
		f, run, err := trail.NewForwarder(to, log)
		if err != nil {
			return nil, fmt.Errorf("audit.forward: %w", err)
		}
		opts.Forward, a.forward = append(opts.Forward, f), append(a.forward, run)
	}
	var err error
	a.Trail, err = trail.Open(filepath.Join(cfg.DataDir, trailDir), opts)
	return a, err
}

// run copies what the store records until ctx ends.
func (a *auditTrail) run(ctx context.Context, st store.Store) {
	var wg sync.WaitGroup
	for _, f := range a.forward {
		wg.Go(func() { f(ctx) })
	}
	var source trail.Source
	if log, ok := st.(store.AuditLog); ok {
		source = trailSource{st, log}
	}
	a.Run(ctx, source)
	wg.Wait()
}

// trailSource is the store as the trail sees it.
type trailSource struct {
	store.Store
	log store.AuditLog
}

func (s trailSource) Records(ctx context.Context, after uint64, limit int) ([]*audit.Record, error) {
	return s.log.Audit(ctx, store.AuditOptions{After: after, Limit: limit})
}
