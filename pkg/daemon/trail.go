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

// openingTrail is a trail that is being opened, beside whatever else a start does: every
// line of its last file is checked.
type openingTrail struct {
	trail *auditTrail
	err   error
	done  chan struct{}
}

// openTrail begins to open the trail in the data directory, whose database the caller holds.
func openTrail(cfg Config, log *slog.Logger) *openingTrail {
	o := &openingTrail{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.trail, o.err = readTrail(cfg.DataDir, cfg.Audit, log)
	}()
	return o
}

// opened waits for the trail.
func (o *openingTrail) opened() (*auditTrail, error) {
	<-o.done // a bounded file was read
	return o.trail, o.err
}

// close closes the trail, if it could be opened.
func (o *openingTrail) close() {
	if t, err := o.opened(); err == nil {
		_ = t.Close() // what is in it is synced
	}
}

func readTrail(dataDir string, cfg AuditConfig, log *slog.Logger) (*auditTrail, error) {
	a := &auditTrail{}
	opts := trail.Options{MaxAge: time.Duration(cfg.MaxAgeDays) * 24 * time.Hour, MaxBytes: int64(cfg.MaxMiB) << 20, Log: log}
	for _, to := range cfg.Forward {
		f, run, err := trail.NewForwarder(to, log)
		if err != nil {
			return nil, fmt.Errorf("audit.forward: %w", err)
		}
		opts.Forward, a.forward = append(opts.Forward, f), append(a.forward, run)
	}
	var err error
	a.Trail, err = trail.Open(filepath.Join(dataDir, trailDir), opts)
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
