// Package memory is a store that forgets everything when it is closed. It follows the
// whole contract of package store but for durability, does no I/O and stops all its
// goroutines on Close, so it can be used inside a testing/synctest bubble.
package memory

import (
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// Options bound what the store keeps; zero values mean the defaults.
type Options struct {
	// Events is how many events a watch can start back from. Default 32,768.
	Events int
	// MaxWatchLag is the number of events that may be published without a watcher taking
	// one before it is cut off. Default 32,768.
	MaxWatchLag uint64
}

// Store is a store.Store in memory.
type Store struct{ *engine.Engine }

// New returns an empty store for the kinds of the registry. At most one Options is used.
func New(reg *resource.Registry, opts ...Options) *Store {
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	return &Store{engine.New(reg, nil, engine.NewContents(reg), engine.Options{
		RingEvents: o.Events, MaxWatchLag: o.MaxWatchLag,
	})}
}
