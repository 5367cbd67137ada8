package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

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
