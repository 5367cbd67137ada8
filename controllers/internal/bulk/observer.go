package bulk

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/controllers/internal/placement"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// DefaultPeriod is the pause between two looks.
const DefaultPeriod = 5 * time.Second

// Observer looks at the guests of all connections that are used. It is safe for concurrent
// use.
type Observer struct {
	clusters *cluster.Set
	log      *slog.Logger
	period   time.Duration

	mu    sync.Mutex
	views map[string]*View // by name of the connection
	// news says that there is a view that was never looked at.
	news chan struct{}
	wake func(resource.Key) // nil as long as Source does not run
}

func (o *Observer) wakeUp(key resource.Key) {
	o.mu.Lock()
	wake := o.wake
	o.mu.Unlock()
	if wake != nil {
		wake(key)
	}
}

// New returns an observer of the connections in the set; period 0 is DefaultPeriod. It looks
// while its Source runs.
func New(clusters *cluster.Set, log *slog.Logger, period time.Duration) *Observer {
	if period == 0 {
		period = DefaultPeriod
	}
	return &Observer{clusters: clusters, log: log, period: period, views: map[string]*View{}, news: make(chan struct{}, 1)}
}

// Of returns the view of a connection, also when it is given the one that the view made.
func (o *Observer) Of(conn *cluster.Connection) *View {
	if v, ok := conn.API.(*View); ok {
		return v
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if v := o.known(conn); v != nil {
		return v
	}
	// A connection that was replaced may lead to another cluster: nothing of the old one holds.
	v := newView(conn, o.log.With("cluster", conn.Name), o.period, o.wakeUp)
	o.views[conn.Name] = v
	select {
	case o.news <- struct{}{}:
	default:
	}
	return v
}

// LastInventory returns what the connection's View read last of its cluster's nodes and
// storages, whatever its age. It asks nobody, nor does it begin to observe; nil: nothing was
// read.
func (o *Observer) LastInventory(conn *cluster.Connection) *placement.Inventory {
	v, ok := conn.API.(*View)
	if !ok {
		o.mu.Lock()
		v = o.known(conn)
		o.mu.Unlock()
	}
	if v == nil {
		return nil
	}
	inv, _ := v.inventories.whole.last("")
	return inv
}

// known returns the view of a connection that is still the one of its name; nil: there is
// none. It is called with the lock held.
func (o *Observer) known(conn *cluster.Connection) *View {
	if v := o.views[conn.Name]; v != nil && v.inner == conn {
		return v
	}
	return nil
}

// Source looks until ctx ends and triggers the objects whose guests changed. It is run once.
func (o *Observer) Source(ctx context.Context, _ runtime.Client, enqueue func(resource.Key)) {
	o.mu.Lock()
	o.wake = enqueue
	o.mu.Unlock()
	tick := time.NewTicker(o.period)
	defer tick.Stop()
	var looks sync.WaitGroup
	defer looks.Wait()
	for onlyNew := false; ; {
		for _, v := range o.current() {
			if v.begin(onlyNew) {
				looks.Go(func() { v.look(ctx, enqueue) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			onlyNew = false
		case <-o.news:
			onlyNew = true
		}
	}
}

// current returns the views of connections that are still in use, and forgets the others.
func (o *Observer) current() []*View {
	o.mu.Lock()
	defer o.mu.Unlock()
	var views []*View
	for name, v := range o.views {
		if conn, err := o.clusters.Get(name); err != nil || conn != v.inner {
			delete(o.views, name)
			continue
		}
		views = append(views, v)
	}
	return views
}
