package bulk

import (
	"errors"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// fetchRecheck is the pause of who waits for another's download, of whose end it is told.
	fetchRecheck = 15 * time.Second
	// failedFor is how long a download that failed is not tried again, and mismatchFor one
	// whose content was not the right one: that takes a human, and may be large.
	failedFor   = 30 * time.Second
	mismatchFor = 10 * time.Minute
	// maxFetches bounds what is remembered.
	maxFetches = 1024
)

// fetches are the downloads of templates that are under way, and those that failed of late.
// They are of this daemon's life: who comes after a restart looks for tasks that run.
type fetches struct {
	wake func(resource.Key)

	mu     sync.Mutex
	under  map[string]*fetchClaim
	failed map[string]fetchFailure
}

type fetchClaim struct {
	holder  resource.Key
	node    string
	at      time.Time
	waiting map[resource.Key]bool
}

type fetchFailure struct {
	err   error
	until time.Time
}

// Fetch is an object's place among those that fetch templates. It implements lxc.Fetches.
type Fetch struct {
	view *View
	key  resource.Key
}

// Fetch returns the place of an object.
func (v *View) Fetch(key resource.Key) Fetch { return Fetch{v, key} }

func fetchKey(f lxc.Fetch) string {
	return contentKey(f.Node, f.Storage, f.Shared) + "/" + f.File + " " + f.URL
}

// Begin implements lxc.Fetches.
func (p Fetch) Begin(f lxc.Fetch) error {
	t, key, now := &p.view.fetches, fetchKey(f), time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if fail, ok := t.failed[key]; ok {
		if now.Before(fail.until) {
			var stalled *runtime.StalledError
			if errors.As(fail.err, &stalled) {
				return fail.err
			}
			return runtime.Waiting(fail.until.Sub(now), lxc.ReasonFetchFailed, "template %s could not be fetched to storage %s of node %s: %v; it is tried again", f.File, f.Storage, f.Node, fail.err)
		}
		delete(t.failed, key)
	}
	c := t.under[key]
	if c != nil && c.holder != p.key && now.Sub(c.at) < turnHold {
		if len(c.waiting) < maxGuests {
			c.waiting[p.key] = true
		}
		return runtime.Waiting(fetchRecheck, lxc.ReasonFetching, "template %s is being fetched to storage %s of node %s for %s", f.File, f.Storage, c.node, c.holder)
	}
	if c == nil {
		if t.under == nil || len(t.under) >= maxFetches {
			t.under = map[string]*fetchClaim{}
		}
		c = &fetchClaim{waiting: map[resource.Key]bool{}}
		t.under[key] = c
	}
	c.holder, c.node, c.at = p.key, f.Node, now
	return nil
}

// End implements lxc.Fetches.
func (p Fetch) End(err error) {
	t := &p.view.fetches
	var wake []resource.Key
	t.mu.Lock()
	for key, c := range t.under {
		if c.holder != p.key {
			continue
		}
		delete(t.under, key)
		for k := range c.waiting {
			wake = append(wake, k)
		}
		p.view.fetched(c.node)
		if err == nil {
			continue
		}
		if t.failed == nil || len(t.failed) >= maxFetches {
			t.failed = map[string]fetchFailure{}
		}
		hold := failedFor
		if errors.As(err, new(*runtime.StalledError)) {
			hold = mismatchFor
		}
		t.failed[key] = fetchFailure{err, time.Now().Add(hold)}
	}
	t.mu.Unlock()
	for _, key := range wake {
		if key.Kind == "App" { // others are not the observer's to wake
			t.wake(key)
		}
	}
}
