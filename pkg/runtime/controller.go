package runtime

import (
	"context"
	"errors"
	"log/slog"
	goruntime "runtime"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// DefaultWorkers bounds the keys of one kind that are reconciled at the same time.
	DefaultWorkers = 4
	// DefaultResync is the period after which every object is compared with the outside again.
	DefaultResync = 10 * time.Second
	// DefaultTimeout bounds one reconcile; longer work is resumed by the next one.
	DefaultTimeout = 5 * time.Minute

	// Backoff of transient errors: 200 ms doubled up to 30 s (eight steps).
	minBackoff = 200 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// Options declare a controller.
type Options[T resource.Object] struct {
	Kind       string
	Finalizer  string // empty: deletion needs nothing from the outside
	Reconciler Reconciler[T]
	// Plan makes the steps that a change would take outside, by the same pure function that
	// Reconcile acts on. nil: objects of the kind stand for nothing outside. Errors of the
	// classes Waiting and Stalled say why nothing would be done.
	Plan func(ctx context.Context, p Planning[T]) (Plan, error)
	// Ready lists the conditions that Ready is computed from, in order of their dependency.
	Ready []string
	// ReadyFor, when set, replaces Ready for an object: one that should be stopped is ready
	// by other conditions than one that should run.
	ReadyFor func(T) []string
	Workers  int           // 0: DefaultWorkers
	Resync   time.Duration // 0: DefaultResync
	Timeout  time.Duration // 0: DefaultTimeout
	Watches  []Watch
	// Sources feed keys from outside the store, e.g. an observation that changed.
	Sources []Source
}

// Source feeds keys from outside the store. It runs until ctx ends.
type Source func(ctx context.Context, c Client, enqueue func(resource.Key))

// Watch triggers keys of a controller by changes of another kind. Map gets a shared object
// and returns the keys that depend on it.
type Watch struct {
	Kind string
	Map  func(ctx context.Context, c Client, obj resource.Object) []resource.Key
	// Reads is what those who depend on an object read of it, in any form of their own (nil: all).
	// A change that leaves it as it was triggers nobody.
	Reads func(obj resource.Object) string
	// MetadataOnly: Map looks at nothing else of the object, and may get nothing else.
	MetadataOnly bool
}

// Controller is a controller of any kind, made by New.
type Controller struct {
	kind      string
	workers   int
	resync    time.Duration
	timeout   time.Duration
	watches   []Watch
	sources   []Source
	bind      func(c Client, rec *Recorder, log *slog.Logger)
	reconcile func(ctx context.Context, key resource.Key) (Result, error)
	plan      func(ctx context.Context, ch Change, world *overlay) (Plan, error) // nil: nothing outside
	forget    func(key resource.Key)
	queue     workqueue.TypedRateLimitingInterface[resource.Key]
	first     *firstLook
}

// table is the list of conditions that Ready of an object is computed from.
func (o Options[T]) table(obj T) []string {
	if o.ReadyFor != nil {
		return o.ReadyFor(obj)
	}
	return o.Ready
}

// New makes a controller from its declaration.
func New[T resource.Object](o Options[T]) *Controller {
	h := &harness[T]{opts: o, seen: newObservations(MaxObservations)}
	c := &Controller{
		kind: o.Kind, workers: orDefault(o.Workers, DefaultWorkers),
		resync: orDefault(o.Resync, DefaultResync), timeout: orDefault(o.Timeout, DefaultTimeout),
		watches: o.Watches, sources: o.Sources, reconcile: h.reconcile, forget: h.seen.forget, first: newFirstLook(),
		bind: func(c Client, rec *Recorder, log *slog.Logger) { h.client, h.rec, h.log = c, rec, log },
	}
	if o.Plan != nil {
		c.plan = h.plan
	}
	return c
}

// Kind is the kind that the controller reconciles.
func (c *Controller) Kind() string { return c.kind }

// Bind gives the controller its client; the Manager does it, and tests that call Reconcile.
func (c *Controller) Bind(client Client, log *slog.Logger) {
	c.bind(client, NewRecorder(client, c.kind, log), log)
}

// Reconcile runs one reconcile of a key. Tests use it; the Manager's workers do.
func (c *Controller) Reconcile(ctx context.Context, key resource.Key) (Result, error) {
	return c.reconcile(ctx, key)
}

func orDefault[V int | time.Duration](v, def V) V {
	if v == 0 {
		return def
	}
	return v
}

// run works the queue until ctx ends.
func (c *Controller) run(ctx context.Context, m *Manager) {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[resource.Key](minBackoff, maxBackoff)
	c.queue = workqueue.NewTypedRateLimitingQueue(limiter)
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, c.queue.ShutDown)
	defer stop()
	for range c.workers {
		wg.Go(func() { c.work(ctx, m) })
	}
	wg.Go(func() { c.watchOwn(ctx, m) })
	for _, w := range c.watches {
		wg.Go(func() { c.watchOther(ctx, m, w) })
	}
	for _, src := range c.sources {
		wg.Go(func() { src(ctx, m.client, c.queue.Add) })
	}
	wg.Wait()
}

func (c *Controller) work(ctx context.Context, m *Manager) {
	for {
		key, shutdown := c.queue.Get()
		if shutdown {
			return
		}
		if ctx.Err() == nil {
			c.step(ctx, m, key)
		}
		c.queue.Done(key)
		// With thousands of objects to look at, as after a start, a worker has work for as long
		// as its time slice lasts, and so has each of the others: a request would wait for all
		// of them. This way it waits for one reconcile.
		goruntime.Gosched()
	}
}

// step reconciles one key and decides when it is looked at again.
func (c *Controller) step(ctx context.Context, m *Manager, key resource.Key) {
	start := time.Now()
	rctx, cancel := context.WithTimeout(audit.WithController(ctx, c.kind), c.timeout)
	res, err := c.reconcile(rctx, key)
	cancel()
	class := classify(res, err)
	m.metrics.observe(c.kind, class, time.Since(start))
	log := m.log.With("kind", key.Kind, "namespace", key.Namespace, "name", key.Name)
	var w *WaitingError
	var p *panicError
	if !errors.As(err, &w) || !w.keep || w == errSuspended {
		c.first.looked(key)
	}
	switch class {
	case outcomeSuccess, outcomeStalled:
		if err != nil {
			log.Warn("stalled", "error", err)
		}
		c.queue.Forget(key)
		c.queue.AddAfter(key, c.resync)
	case outcomeRequeue:
		c.queue.Forget(key)
		c.queue.AddAfter(key, res.RequeueAfter)
	case outcomeWaiting:
		errors.As(err, &w)
		log.Debug("waiting", "reason", w.Reason, "for", w.Text, "after", w.After)
		c.queue.Forget(key)
		c.queue.AddAfter(key, orDefault(w.After, c.resync))
	case outcomeConflict:
		c.queue.AddRateLimited(key)
	case outcomePanic:
		errors.As(err, &p)
		log.Error("bug: reconcile panicked", "error", err, "stack", string(p.stack))
		c.queue.AddRateLimited(key)
	default:
		if ctx.Err() != nil {
			return // the daemon is stopping
		}
		log.Warn("reconcile will be retried", "error", err, "retries", c.queue.NumRequeues(key))
		c.queue.AddRateLimited(key)
	}
}
