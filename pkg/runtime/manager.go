package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proximity-pve/proximity/pkg/store"
)

// Manager runs a list of controllers on one store.
type Manager struct {
	store       store.Store
	client      Client
	log         *slog.Logger
	controllers []*Controller
	metrics     *metrics
}

// NewManager makes a manager. Metrics are registered with reg unless it is nil.
func NewManager(st store.Store, log *slog.Logger, reg prometheus.Registerer, controllers ...*Controller) *Manager {
	m := &Manager{store: st, client: NewClient(st), log: log, controllers: controllers, metrics: newMetrics(reg)}
	for _, c := range controllers {
		c.Bind(m.client, log)
		m.metrics.declare(c.kind)
	}
	return m
}

// Run runs the controllers until ctx ends and returns when all workers have stopped.
func (m *Manager) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range m.controllers {
		wg.Go(func() { c.run(ctx, m) })
	}
	wg.Wait()
}

// LookedOnce waits until every object that was there at the start has been compared with
// the outside once, or ctx ends. Run must have been called.
func (m *Manager) LookedOnce(ctx context.Context) {
	for _, c := range m.controllers {
		select {
		case <-c.first.done:
		case <-ctx.Done():
			return
		}
	}
}

type metrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "proximity_reconcile_total", Help: "Reconciles by kind and outcome.",
		}, []string{"kind", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "proximity_reconcile_seconds", Help: "Duration of reconciles by kind.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"kind"}),
	}
	if reg != nil {
		reg.MustRegister(m.total, m.duration)
	}
	return m
}

// declare makes every label of a kind appear with 0, so that rates work from the first event.
func (m *metrics) declare(kind string) {
	for _, o := range outcomes {
		m.total.WithLabelValues(kind, string(o))
	}
}

func (m *metrics) observe(kind string, o outcome, d time.Duration) {
	m.total.WithLabelValues(kind, string(o)).Inc()
	m.duration.WithLabelValues(kind).Observe(d.Seconds())
}
