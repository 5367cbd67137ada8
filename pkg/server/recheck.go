package server

import (
	"context"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/auth"
)

// recheckInterval is how often long requests are looked at when nothing changed: credentials
// end by time, too.
const recheckInterval = 10 * time.Second

// longRequests are the watches and waits that are under way. A watch outlives the moment in
// which it was allowed, so it is asked again whenever rights or credentials change, and ends
// when it would be refused now.
type longRequests struct {
	mu  sync.Mutex
	all map[*longRequest]struct{}
}

// longRequest is what a request was allowed to do, by whom.
type longRequest struct {
	id   auth.Identity
	end  context.CancelCauseFunc
	mu   sync.Mutex
	uses []allowedUse
}

type allowedUse struct {
	verb            auth.Verb
	kind, namespace string
}

// maxUses bounds what is remembered of one request; what comes after has been asked already.
const maxUses = 16

type longKey struct{}

// enter adds a request, which leave takes out.
func (l *longRequests) enter(ctx context.Context, end context.CancelCauseFunc) (_ context.Context, leave func()) {
	r := &longRequest{id: auth.IdentityFrom(ctx), end: end}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*longRequest]struct{}{}
	}
	l.all[r] = struct{}{}
	return context.WithValue(ctx, longKey{}, r), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, r)
	}
}

// remember notes what a long request was allowed.
func remember(ctx context.Context, verb auth.Verb, kind, namespace string) {
	r, ok := ctx.Value(longKey{}).(*longRequest)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.uses) < maxUses {
		r.uses = append(r.uses, allowedUse{verb, kind, namespace})
	}
}

// recheck ends long requests that would be refused now. It is quick: a look into memory for
// each.
func (g *gate) recheck() {
	g.lasting.mu.Lock()
	defer g.lasting.mu.Unlock()
	for r := range g.lasting.all {
		if err := g.stillAllowed(r); err != nil {
			r.end(err)
		}
	}
}

func (g *gate) stillAllowed(r *longRequest) error {
	id := r.id
	ctx := context.Background()
	if again, ok := g.auth.(auth.Revalidator); ok {
		var err error
		if id, err = again.Revalidate(ctx, id); err != nil {
			return err
		}
	}
	ctx = g.access.As(ctx, id)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.uses {
		if err := auth.Authorize(ctx, u.verb, u.kind, u.namespace); err != nil {
			return err
		}
	}
	return nil
}

// watchTime rechecks now and then until ctx ends.
func (g *gate) watchTime(ctx context.Context) {
	tick := time.NewTicker(recheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.recheck()
		}
	}
}
