package usage

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/pkg/cluster"
)

const (
	maxSeries = 2000
	maxQueue  = 2000
	// readers is how many reads are made at the same time, of all clusters.
	readers = 2
	// readPatience bounds one of them.
	readPatience = 10 * time.Second
	retryAfter   = 30 * time.Second
	// currentFor is how old current figures may be before a read is scheduled: thrice what
	// the observer needs.
	currentFor = 3 * bulk.DefaultPeriod
)

// Desk answers what is used, and reads what it does not know. It is safe for concurrent use.
type Desk struct {
	clusters *cluster.Set
	guests   *bulk.Observer
	log      *slog.Logger

	mu     sync.Mutex
	series map[seriesKey]*series
	queued map[seriesKey]bool // waiting or being read
	queue  chan seriesKey
}

// New returns a desk. It reads while Run does.
func New(clusters *cluster.Set, guests *bulk.Observer, log *slog.Logger) *Desk {
	return &Desk{
		clusters: clusters, guests: guests, log: log,
		series: map[seriesKey]*series{}, queued: map[seriesKey]bool{}, queue: make(chan seriesKey, maxQueue),
	}
}

// Run reads what was asked for until ctx ends.
func (d *Desk) Run(ctx context.Context) {
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case key := <-d.queue:
					d.read(ctx, key)
				}
			}
		})
	}
	all.Wait()
}

func (d *Desk) read(ctx context.Context, key seriesKey) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	begin := time.Now()
	points, err := d.ask(ctx, key)
	if err != nil {
		d.log.Debug("usage could not be read", "cluster", key.cluster, "node", key.node, "vmid", key.vmid, "range", key.span, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.queued, key)
	s := d.series[key]
	if s == nil { // it made room for others meanwhile
		return
	}
	s.tried, s.failed = begin, err
	if err == nil {
		s.points, s.at = points, begin
	}
}

func (d *Desk) ask(ctx context.Context, key seriesKey) ([]point, error) {
	conn, err := d.clusters.Get(key.cluster)
	if err != nil {
		return nil, err
	}
	v := d.guests.Of(conn)
	if key.span == "" {
		return nil, v.ReadFigures(ctx)
	}
	return read(ctx, v, key)
}

// graph returns what is known of a graph, and schedules a read when that is too old.
func (d *Desk) graph(key seriesKey, fresh time.Duration) (known series) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	s := d.series[key]
	if s == nil {
		d.makeRoom()
		s = &series{}
		d.series[key] = s
	}
	s.asked = now
	stale := s.at.IsZero() || now.Sub(s.at) > fresh
	if stale && !d.queued[key] && (s.failed == nil || now.Sub(s.tried) > retryAfter) {
		select {
		case d.queue <- key:
			d.queued[key] = true
		default: // the next one who asks schedules it
		}
	}
	return *s
}

// makeRoom forgets the graph that nobody asked for the longest. It is called with the lock held.
func (d *Desk) makeRoom() {
	if len(d.series) < maxSeries {
		return
	}
	var oldest seriesKey
	var at time.Time
	for key, s := range d.series {
		if at.IsZero() || s.asked.Before(at) {
			oldest, at = key, s.asked
		}
	}
	delete(d.series, oldest)
}

// figures are a cluster's current figures, nil when nothing is known of it yet. What is too
// old is read again.
func (d *Desk) figures(name string) *bulk.Figures {
	conn, err := d.clusters.Get(name)
	if err != nil {
		return nil
	}
	f := d.guests.Of(conn).Figures()
	if f == nil || time.Since(f.At) > currentFor {
		d.graph(seriesKey{cluster: name}, currentFor)
	}
	return f
}
