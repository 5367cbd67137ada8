package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settledQuickstart is longer than two of the daemon's looks at the outside: the conditions
// of a deployment's last steps are written with the next look.
const settledQuickstart = 6 * time.Second

// idleFigures are about a daemon that runs the quickstart and has nothing to do.
func idleFigures(b *bench) []figure {
	i := &idleArea{bench: b}
	in := fmt.Sprintf("in %.0f s", b.quiet.Seconds())
	return []figure{
		{"idle/rss", "MiB", valueAtMost(45), i.of(func(q quiet) float64 { return q.rss })},
		{"idle/store-writes", in, valueAtMost(0), i.of(func(q quiet) float64 { return q.storeWrites })},
		{"idle/proxmox-writes", in, valueAtMost(0), i.of(func(q quiet) float64 { return q.proxmoxWrites })},
		{"idle/proxmox-reads", "per minute", goal{}, i.of(func(q quiet) float64 { return q.proxmoxReads / b.quiet.Minutes() })},
		{"idle/cpu", "% of a core", goal{}, i.of(func(q quiet) float64 { return 100 * q.cpuSeconds / b.quiet.Seconds() })},
	}
}

type idleArea struct {
	*bench
	quiet shared[quiet]
}

// quiet is what happened in the time that was watched, and the memory at its end.
type quiet struct {
	counters
	rss    float64
	engine string
}

func (i *idleArea) of(pick func(quiet) float64) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		q, err := i.quiet.get(func() (quiet, error) { return i.watch(ctx) })
		return measured{value: pick(q), detail: simulated(q.engine)}, err
	}
}

func (i *idleArea) watch(ctx context.Context) (q quiet, err error) {
	p, err := i.startEmbedded(ctx)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, p.destroy()) }()
	if _, err := i.deploy(ctx, p); err != nil {
		return q, p.withLog(err)
	}
	if err := p.settle(ctx, settledQuickstart); err != nil {
		return q, p.withLog(err)
	}
	before, err := p.counters(ctx)
	if err != nil {
		return q, err
	}
	if before.storeWrites == 0 || before.proxmoxWrites == 0 || before.proxmoxReads == 0 {
		return q, fmt.Errorf("the daemon's counters do not count: %+v after a deployment", before)
	}
	if err := pause(ctx, i.bench.quiet); err != nil {
		return q, err
	}
	after, err := p.counters(ctx)
	if err != nil {
		return q, err
	}
	q.engine = p.endpoint.Engine
	q.counters = counters{
		storeWrites: after.storeWrites - before.storeWrites, proxmoxWrites: after.proxmoxWrites - before.proxmoxWrites,
		proxmoxReads: after.proxmoxReads - before.proxmoxReads, cpuSeconds: after.cpuSeconds - before.cpuSeconds,
	}
	q.rss, err = p.rss()
	return q, err
}
