package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/proximity-pve/proximity/pkg/client"
)

// settledAfter: a daemon that wrote nothing for that long has taken note of all its objects.
const settledAfter = 2 * time.Second

// restartFigures are about a whole daemon, controllers included, that has many objects.
// All Apps are suspended, so the controllers look at each and change none.
func restartFigures(b *bench) []figure {
	r := &restartArea{bench: b}
	many := fmt.Sprint(b.objects)
	return []figure{
		{"restart/first-list-" + many, "ms", valueAtMost(400), r.firstList},
		{"restart/rss-" + many, "MiB", valueAtMost(150), r.rss},
		{"memory/50000-status-writes", "MiB", valueAtMost(200), r.rssAfterWrites},
		{"memory/idle", "MiB", valueAtMost(45), r.rssIdle},
	}
}

type restartArea struct {
	*bench
	data shared[string]
}

// open makes a data directory with many objects that a daemon knows, and the yardstick's
// database. The embedded node, one in memory, stays for the starts that are measured.
func (r *restartArea) open(ctx context.Context) (string, error) {
	dir, err := r.temp("restart")
	if err != nil {
		return "", err
	}
	raw, err := openRaw(dir, r.objects)
	if err == nil {
		err = raw.db.Close()
	}
	if err != nil {
		return "", fmt.Errorf("yardstick: %w", err)
	}
	st, err := filledStore(filepath.Join(dir, "proximity.db"), r.objects)
	if err == nil {
		err = st.Close()
	}
	if err != nil {
		return "", err
	}
	r.atEnd(func() error { return destroyNode(r.bin, dir) })
	// At its first start the daemon tells each object once that it is suspended.
	return dir, r.during(ctx, dir, func(p *process) error { return p.settle(ctx, settledAfter) })
}

// during starts the daemon, does something, and stops it.
func (r *restartArea) during(ctx context.Context, dir string, do func(*process) error) error {
	p, err := start(ctx, r.bin, dir, "--engine", "mem", "--keep-node")
	if err != nil {
		return err
	}
	defer p.kill() // when do fails; after stop there is nothing to kill
	if err := do(p); err != nil {
		return err
	}
	return p.stop(ctx)
}

// firstList is the time from the daemon's start to its first complete answer.
func (r *restartArea) firstList(ctx context.Context) (measured, error) {
	dir, err := r.data.get(func() (string, error) { return r.open(ctx) })
	if err != nil {
		return measured{}, err
	}
	var ready []float64
	value, of, err := turns(ctx, r.rounds, func() (took float64, err error) {
		err = r.during(ctx, dir, func(p *process) error {
			err := r.list(ctx, p)
			took, ready = milliseconds(time.Since(p.started)), append(ready, milliseconds(p.readyAfter))
			return err
		})
		return took, err
	}, func() (float64, error) {
		took, err := timed(func() error { return openAndDecode(filepath.Join(dir, "raw.db")) })
		return 1000 * took, err
	})
	return measured{value: value, yardstick: of, against: "open a bare bbolt and decode it all",
		detail: []string{fmt.Sprintf("ready after %s ms", number(median(ready)))}}, err
}

// rss is the memory of a daemon that was started with the objects and has come to rest.
func (r *restartArea) rss(ctx context.Context) (m measured, err error) {
	dir, err := r.data.get(func() (string, error) { return r.open(ctx) })
	if err != nil {
		return measured{}, err
	}
	err = r.during(ctx, dir, func(p *process) error {
		if err := p.settle(ctx, settledAfter); err != nil {
			return err
		}
		if m.value, err = p.rss(); err != nil {
			return err
		}
		if err := r.list(ctx, p); err != nil {
			return err
		}
		listed, err := p.rss()
		m.detail = []string{fmt.Sprintf("%s MiB after a list", number(listed))}
		return err
	})
	return m, err
}

func (r *restartArea) list(ctx context.Context, p *process) error {
	list, err := p.client.List(ctx, "App", client.ListOptions{})
	if err == nil && len(list.Items) != r.objects {
		err = fmt.Errorf("listed %d Apps of %d", len(list.Items), r.objects)
	}
	return err
}

const (
	// statusWrites are those before the memory is looked at again.
	statusWrites  = 50_000
	statusWriters = 16
)

// rssAfterWrites is the memory of the same daemon after many status writes.
func (r *restartArea) rssAfterWrites(ctx context.Context) (m measured, err error) {
	dir, err := r.data.get(func() (string, error) { return r.open(ctx) })
	if err != nil {
		return measured{}, err
	}
	err = r.during(ctx, dir, func(p *process) error {
		if err := p.settle(ctx, settledAfter); err != nil {
			return err
		}
		before, err := p.rss()
		if err != nil {
			return err
		}
		began := time.Now()
		if err := writeStatuses(ctx, p.client, r.objects, statusWrites); err != nil {
			return err
		}
		took := time.Since(began)
		if m.value, err = p.rss(); err != nil {
			return err
		}
		m.detail = []string{fmt.Sprintf("%s MiB before; %s status writes/s over gRPC", number(before), number(statusWrites/took.Seconds()))}
		return nil
	})
	return m, err
}

// writeStatuses writes so many changed statuses, spread over the Apps.
func writeStatuses(ctx context.Context, c *client.Client, objects, writes int) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range statusWriters {
		group.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= writes {
					return nil
				}
				app := madeUpApp(n%objects, 0)
				app.Status.Conditions[0].Message = fmt.Sprintf("write %d", n)
				if _, err := c.UpdateStatus(ctx, app); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// rssIdle is the memory of a daemon without objects that has come to rest.
func (r *restartArea) rssIdle(ctx context.Context) (m measured, err error) {
	dir, err := r.temp("idle")
	if err != nil {
		return measured{}, err
	}
	r.atEnd(func() error { return destroyNode(r.bin, dir) })
	err = r.during(ctx, dir, func(p *process) error {
		if err := p.settle(ctx, settledAfter); err != nil {
			return err
		}
		m.value, err = p.rss()
		return err
	})
	return m, err
}
