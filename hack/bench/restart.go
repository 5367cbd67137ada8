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
	restarts shared[*restarts]
}

// restarts is what was seen of a few of them; times in seconds.
type restarts struct {
	list, yardstick float64
	ready, rss      float64
}

// firstList is the time from the daemon's start to its first complete answer. All Apps are
// suspended, so the controllers look at each and change none.
func (r *restartArea) firstList(ctx context.Context) (measured, error) {
	seen, err := r.restarts.get(func() (*restarts, error) { return r.restart(ctx) })
	if err != nil {
		return measured{}, err
	}
	return measured{value: seen.list * 1000, yardstick: seen.yardstick * 1000, against: "open a bare bbolt and decode it all",
		detail: []string{fmt.Sprintf("ready after %s ms", number(seen.ready*1000))}}, nil
}

// rss is the daemon's memory after a restart and a list.
func (r *restartArea) rss(ctx context.Context) (measured, error) {
	seen, err := r.restarts.get(func() (*restarts, error) { return r.restart(ctx) })
	if err != nil {
		return measured{}, err
	}
	return measured{value: seen.rss}, nil
}

func (r *restartArea) restart(ctx context.Context) (*restarts, error) {
	dir, err := r.temp("restart")
	if err != nil {
		return nil, err
	}
	raw, err := openRaw(dir, r.objects)
	if err != nil {
		return nil, fmt.Errorf("yardstick: %w", err)
	}
	if err := raw.db.Close(); err != nil {
		return nil, fmt.Errorf("yardstick: %w", err)
	}
	st, err := filledStore(filepath.Join(dir, "proximity.db"), r.objects)
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	r.atEnd(func() { _ = destroyNode(r.bin, dir) }) // a node in memory: it ends with its directory anyway
	if err := r.firstStart(ctx, dir); err != nil {
		return nil, err
	}
	seen := &restarts{}
	seen.list, seen.yardstick, err = turns(ctx, r.rounds, func() (float64, error) { return r.once(ctx, dir, seen) },
		func() (float64, error) {
			return timed(func() error { return openAndDecode(filepath.Join(dir, "raw.db")) })
		})
	return seen, err
}

// firstStart lets the daemon meet the objects: it tells each once that it is suspended.
// The embedded node stays for the starts that are measured.
func (r *restartArea) firstStart(ctx context.Context, dir string) error {
	p, err := start(ctx, r.bin, dir, "--engine", "mem", "--keep-node")
	if err != nil {
		return err
	}
	defer p.kill()
	if err := p.settle(ctx, settledAfter); err != nil {
		return err
	}
	return p.stop(ctx)
}

// once starts the daemon, lists, and stops it.
func (r *restartArea) once(ctx context.Context, dir string, seen *restarts) (float64, error) {
	p, err := start(ctx, r.bin, dir, "--engine", "mem", "--keep-node")
	if err != nil {
		return 0, err
	}
	defer p.kill()
	list, err := p.client.List(ctx, "App", client.ListOptions{})
	took := seconds(time.Since(p.started))
	if err != nil {
		return 0, err
	}
	if len(list.Items) != r.objects {
		return 0, fmt.Errorf("listed %d Apps of %d", len(list.Items), r.objects)
	}
	seen.ready = seconds(p.readyAfter)
	if seen.rss, err = p.rss(); err != nil {
		return 0, err
	}
	return took, p.stop(ctx)
}
