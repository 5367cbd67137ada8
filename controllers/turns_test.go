package controllers_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// slowEngine takes two seconds for each thing and counts what is done at the same time.
type slowEngine struct {
	*mem.Engine
	mu            sync.Mutex
	creating, all int
	// mostCreating and most are the most that were.
	mostCreating, most int
}

func (e *slowEngine) work(creating bool, do func() error) error {
	e.count(creating, 1)
	defer e.count(creating, -1)
	time.Sleep(2 * time.Second)
	return do()
}

func (e *slowEngine) count(creating bool, by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all += by
	if creating {
		e.creating += by
	}
	e.most, e.mostCreating = max(e.most, e.all), max(e.mostCreating, e.creating)
}

func (e *slowEngine) Create(ctx context.Context, g engine.Guest, log io.Writer) error {
	return e.work(true, func() error { return e.Engine.Create(ctx, g, log) })
}

func (e *slowEngine) Start(ctx context.Context, g engine.Guest) error {
	return e.work(false, func() error { return e.Engine.Start(ctx, g) })
}

func (e *slowEngine) Shutdown(ctx context.Context, vmid int, timeout time.Duration) error {
	return e.work(false, func() error { return e.Engine.Shutdown(ctx, vmid, timeout) })
}

// However many Apps come or go at once, a node works on a few at a time, all get their turn,
// and the places that there are are used.
func TestWorkOnANodeIsBounded(t *testing.T) {
	const apps = 40
	var slow *slowEngine
	inWorldOn(t, func(e *mem.Engine) engine.Engine { slow = &slowEngine{Engine: e}; return slow }, func(w *world) {
		w.deployed()
		set := ""
		var keys []resource.Key
		for i := range apps {
			name := fmt.Sprintf("app-%02d", i)
			keys = append(keys, appKeyOf(name))
			set += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\n", name)
		}
		begin := time.Now()
		w.apply(set)
		w.until("all ready", w.ready(keys...))
		took := time.Since(begin)
		if slow.mostCreating > 4 || slow.most > 6 {
			t.Errorf("%d were created at once and %d worked on, allowed are 4 and 6", slow.mostCreating, slow.most)
		}
		// Creations by four are the bound: 20 s, and the rest of the time starts go beside them.
		if want := apps/4*2*time.Second + apps/6*2*time.Second; took > 2*want {
			t.Errorf("took %s, of which %s are work", took, want)
		}
		t.Logf("%d Apps within %s, %d created and %d worked on at once", apps, took, slow.mostCreating, slow.most)
		w.remove(keys...)
		w.until("all gone", w.gone(keys...))
		if slow.most > 6 {
			t.Errorf("%d were worked on at once", slow.most)
		}
	})
}
