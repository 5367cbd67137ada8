package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server"
	"github.com/proximity-pve/proximity/pkg/server/servertest"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// remote is a store.Store that is a client of a server over gRPC, so that the suite holds
// the whole way to the store's contract: client, wire, server. The server writes without
// admission, which changes objects and has tests of its own.
//
// A transaction has one change, or several that write whole objects and that the API's
// atomic set carries: it has no others.
type remote struct {
	client *client.Client
	kinds  []string

	mu      sync.Mutex
	closed  bool
	stats   store.Stats
	watches map[*remoteWatch]bool
}

// unadmitted is the server's way into the store, without admission.
type unadmitted struct {
	server.Applier // what is not used is not there
	st             store.Store
}

func (u unadmitted) write(ctx context.Context, fn func(store.Tx) (resource.Object, error)) (obj resource.Object, err error) {
	_, err = u.st.Update(ctx, func(tx store.Tx) error { obj, err = fn(tx); return err })
	return obj, err
}

func (u unadmitted) Create(ctx context.Context, obj resource.Object, _ ...apply.Options) (resource.Object, error) {
	return u.write(ctx, func(tx store.Tx) (resource.Object, error) { return tx.Create(obj) })
}

func (u unadmitted) Update(ctx context.Context, obj resource.Object, _ ...apply.Options) (resource.Object, error) {
	return u.write(ctx, func(tx store.Tx) (resource.Object, error) { return tx.Update(obj) })
}

func (u unadmitted) UpdateStatus(ctx context.Context, obj resource.Object, _ ...apply.Options) (resource.Object, error) {
	return u.write(ctx, func(tx store.Tx) (resource.Object, error) { return tx.UpdateStatus(obj) })
}

func (u unadmitted) Delete(ctx context.Context, key resource.Key, pre store.Preconditions, _ ...apply.Options) (resource.Object, error) {
	return u.write(ctx, func(tx store.Tx) (resource.Object, error) { return tx.Delete(key, pre) })
}

// ApplySet writes all objects in one transaction: those that were read before in place of
// what there is, the others as new ones.
func (u unadmitted) ApplySet(ctx context.Context, docs []resource.Document, _ apply.Options) ([]apply.Result, error) {
	results := make([]apply.Result, len(docs))
	_, err := u.st.Update(ctx, func(tx store.Tx) error {
		for i, d := range docs {
			put := tx.Create
			if d.Object.GetMetadata().GetUid() != "" {
				put = tx.Update
			}
			obj, err := put(d.Object)
			if err != nil {
				return err
			}
			results[i] = apply.Result{Key: resource.KeyOf(obj), Outcome: apply.Configured, Object: obj}
		}
		return nil
	})
	return results, err
}

// storeError is the store's error that the API's stands for.
func storeError(err error) error {
	for _, m := range []struct{ api, store error }{
		{client.ErrNotFound, store.ErrNotFound}, {client.ErrAlreadyExists, store.ErrAlreadyExists},
		{client.ErrConflict, store.ErrConflict}, {client.ErrExpired, store.ErrCompacted},
		{client.ErrBusy, store.ErrSlow}, {client.ErrTooLarge, store.ErrTooLarge}, {client.ErrInvalid, store.ErrInvalid},
	} {
		if errors.Is(err, m.api) {
			return fmt.Errorf("%w: %w", m.store, err)
		}
	}
	return err
}

func (r *remote) open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return store.ErrClosed
	}
	return nil
}

func (r *remote) Get(ctx context.Context, key resource.Key) (resource.Object, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	obj, err := r.client.Get(ctx, key)
	return obj, r.fault(err)
}

// fault is storeError; a call that a Close broke off says so.
func (r *remote) fault(err error) error {
	if err != nil && r.open() != nil {
		return store.ErrClosed
	}
	return storeError(err)
}

func (r *remote) List(ctx context.Context, kind string, opts store.ListOptions) (store.Snapshot, error) {
	if err := r.open(); err != nil {
		return store.Snapshot{}, err
	}
	list, err := r.client.List(ctx, kind, client.ListOptions{Namespace: opts.Namespace, Limit: opts.Limit, Continue: opts.Continue})
	if err != nil {
		return store.Snapshot{}, r.fault(err)
	}
	out := store.Snapshot{Revision: number(list.ResourceVersion), Continue: list.Continue, Remaining: list.Remaining}
	for _, obj := range list.Items {
		if opts.Match == nil || opts.Match(obj) {
			out.Items = append(out.Items, obj)
		}
	}
	return out, nil
}

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("resourceVersion %q: %v", text, err))
	}
	return n
}

func (r *remote) Revision() uint64 {
	snap, err := r.List(context.Background(), r.kinds[0], store.ListOptions{Limit: 1})
	if err != nil {
		panic(err)
	}
	return snap.Revision
}

// Stats has what the API lets be known.
func (r *remote) Stats() store.Stats {
	objects := 0
	for _, kind := range r.kinds {
		snap, err := r.List(context.Background(), kind, store.ListOptions{})
		if err != nil {
			panic(err)
		}
		objects += len(snap.Items)
	}
	revision := r.Revision()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Objects, s.Revision, s.Watchers = objects, revision, len(r.watches)
	return s
}

func (r *remote) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	var open []*remoteWatch
	for w := range r.watches {
		open = append(open, w)
	}
	r.mu.Unlock()
	for _, w := range open {
		w.end(store.ErrClosed)
	}
	return r.client.Close()
}

// remoteWatch is a watch over the API.
type remoteWatch struct {
	r      *remote
	events chan store.Event
	cancel context.CancelFunc
	once   sync.Once
	err    error
	ended  chan struct{}
}

func (r *remote) Watch(ctx context.Context, opts store.WatchOptions) (store.Watcher, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	from := ""
	if opts.From > 0 {
		from = strconv.FormatUint(opts.From, 10)
	}
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.client.Watch(ctx, client.WatchOptions{Kind: opts.Kind, Namespace: opts.Namespace, Name: opts.Name, ResourceVersion: from})
	if err == nil && !stream.Stands() {
		_, err = stream.Next()
	}
	if err != nil {
		cancel()
		return nil, storeError(err)
	}
	w := &remoteWatch{r: r, events: make(chan store.Event), cancel: cancel, ended: make(chan struct{})}
	r.mu.Lock()
	r.watches[w] = true
	r.mu.Unlock()
	go w.run(parent, ctx, stream, opts.Match)
	return w, nil
}

func (w *remoteWatch) run(parent, ctx context.Context, stream *client.Watch, match func(resource.Object) bool) {
	defer close(w.ended)
	defer close(w.events)
	for {
		ev, err := stream.Next()
		if err != nil {
			if parent.Err() != nil || ctx.Err() != nil {
				err = nil
			}
			w.once.Do(func() { w.err = storeError(err) })
			w.forget()
			return
		}
		if ev.Object != nil && match != nil && !match(ev.Object) {
			continue
		}
		select {
		case w.events <- store.Event{Type: store.EventType(ev.Type), Object: ev.Object, Revision: number(ev.ResourceVersion)}:
		case <-ctx.Done():
			w.once.Do(func() {})
			w.forget()
			return
		}
	}
}

func (w *remoteWatch) forget() {
	w.cancel()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	delete(w.r.watches, w)
}

func (w *remoteWatch) end(err error) {
	w.once.Do(func() { w.err = err })
	w.cancel()
	<-w.ended
}

func (w *remoteWatch) Events() <-chan store.Event { return w.events }

func (w *remoteWatch) Err() error {
	<-w.ended
	return w.err
}

func (w *remoteWatch) Stop() { w.end(nil) }

// openGRPC opens a database, a server on it and a client of that. The servers' certificates
// are in dir, made once for all.
func openGRPC(dir string) storetest.Opener {
	return func(t *testing.T) storetest.Backend { return serve(t, dir) }
}

func serve(t *testing.T, dir string) storetest.Backend {
	backend := openBolt(t)
	srv, err := servertest.New(dir, backend.Store, storetest.Registry())
	if err != nil {
		t.Fatal(err)
	}
	srv.Applier = func(st store.Store, _ *resource.Registry) server.Applier { return unadmitted{st: st} }
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
	})
	connect := func(t *testing.T) *remote {
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := srv.Client()
		if err != nil {
			t.Fatal(err)
		}
		r := &remote{client: c, watches: map[*remoteWatch]bool{}}
		for _, k := range storetest.Registry().Kinds() {
			r.kinds = append(r.kinds, k.Name)
		}
		t.Cleanup(func() { closeStore(t, r) })
		return r
	}
	r := connect(t)
	return storetest.Backend{
		Store:   r,
		Compact: backend.Compact,
		Reopen: func(t *testing.T) store.Store {
			closeStore(t, r)
			if err := srv.Stop(); err != nil {
				t.Fatal(err)
			}
			srv.SetStore(backend.Reopen(t))
			r = connect(t)
			return r
		},
	}
}
