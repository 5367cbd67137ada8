package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Types of events.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
	// Bookmark has no object: everything up to its revision was seen. The first one ends
	// the snapshot that a watch without a revision begins with.
	Bookmark = "BOOKMARK"
	// Restarted has no object and comes from Follow only: the watch could not be resumed,
	// a new snapshot follows. An object that is not in it is gone.
	Restarted = "RESTARTED"
)

const (
	// minPause and maxPause bound the pause before a watch, or a connection, is tried again.
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// Event is one change.
type Event struct {
	Type            string
	Object          resource.Object
	ResourceVersion string
}

// WatchOptions selects events; empty fields select everything.
type WatchOptions struct {
	Kind, Namespace, Name string
	LabelSelector         string
	FieldSelector         string // as in ListOptions; of all kinds names only
	// ResourceVersion after which changes are wanted; "" begins with a snapshot.
	ResourceVersion string
	// Interrupted is told by Follow why the watch broke off, before it tries again.
	Interrupted func(error)
}

// Watch is a stream of events. It ends with the context it was opened with.
type Watch struct {
	client *Client
	ctx    context.Context
	stream grpc.ServerStreamingClient[v1alpha1.WatchEvent]
}

// Watch opens a watch; an error that the daemon answers with comes from Next.
func (c *Client) Watch(ctx context.Context, opts WatchOptions) (*Watch, error) {
	stream, err := c.rpc.Watch(ctx, &v1alpha1.WatchRequest{
		Kind: opts.Kind, Namespace: opts.Namespace, Name: opts.Name,
		LabelSelector: opts.LabelSelector, FieldSelector: opts.FieldSelector, ResourceVersion: opts.ResourceVersion,
	})
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return &Watch{client: c, ctx: ctx, stream: stream}, nil
}

// Stands waits until the daemon has taken the watch: it sees every change from then on. The
// error of one that was refused comes from Next.
func (w *Watch) Stands() bool {
	header, err := w.stream.Header()
	return err == nil && header != nil
}

// Next waits for the next event. It never returns io.EOF: a daemon that ends a watch
// without an error is unavailable.
func (w *Watch) Next() (Event, error) {
	m, err := w.stream.Recv()
	if errors.Is(err, io.EOF) && w.ctx.Err() == nil {
		return Event{}, &Error{Class: ErrUnavailable, Message: "the daemon ended the watch"}
	}
	if err != nil {
		return Event{}, w.client.fail(w.ctx, err)
	}
	ev := Event{Type: m.GetType(), ResourceVersion: m.GetResourceVersion()}
	if m.GetObject() == nil || m.GetObject().GetTypeUrl() == "" {
		return ev, nil
	}
	ev.Object, err = w.client.unpack(m.GetObject())
	return ev, err
}

// Follow calls handle with every event until the context ends or handle returns an error,
// which it returns. A watch that breaks off after it stood is resumed from the last
// event, for as long as the context lasts; where that is not possible any more, it starts
// over with a Restarted event. Every new attempt comes after a pause.
func (c *Client) Follow(ctx context.Context, opts WatchOptions, handle func(Event) error) error {
	stood, pause := false, minPause
	for {
		got, err := c.followOnce(ctx, &opts, handle)
		if got {
			stood, pause = true, minPause
		}
		var handled *handlerError
		switch {
		case errors.As(err, &handled):
			return handled.err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !stood:
			return err
		case errors.Is(err, ErrExpired):
			opts.ResourceVersion = ""
			if err := handle(Event{Type: Restarted}); err != nil {
				return err
			}
		case !mendable(err):
			return err
		}
		if opts.Interrupted != nil {
			opts.Interrupted(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, maxPause)
	}
}

// mendable tells whether a watch that ended with this error is worth another attempt.
func mendable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrBusy) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrInternal)
}

// handlerError tells the handler's errors from the watch's.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// followOnce is one watch; it tells whether at least one event came. A snapshot that broke
// off half-way is not a point to resume from.
func (c *Client) followOnce(ctx context.Context, opts *WatchOptions, handle func(Event) error) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := c.Watch(ctx, *opts)
	if err != nil {
		return false, err
	}
	snapshot := opts.ResourceVersion == ""
	for {
		ev, err := w.Next()
		if err != nil {
			if got && snapshot && mendable(err) {
				err = errors.Join(err, ErrExpired) // start over
			}
			return got, err
		}
		got = true
		if err := handle(ev); err != nil {
			return got, &handlerError{err}
		}
		if ev.Type == Bookmark {
			snapshot = false
		}
		if !snapshot {
			opts.ResourceVersion = ev.ResourceVersion
		}
	}
}
