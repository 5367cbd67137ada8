package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/bolt/powertest"
	"github.com/proximity-pve/proximity/pkg/store/memory"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var backends = map[string]storetest.Opener{
	"memory": openMemory,
	"bolt":   openBolt,
}

func openMemory(t *testing.T) storetest.Backend {
	st := memory.New(storetest.Registry(), memory.Options{MaxWatchLag: storetest.MaxWatchLag})
	t.Cleanup(func() { closeStore(t, st) })
	return storetest.Backend{Store: st, Compact: st.Compact}
}

func openBolt(t *testing.T) storetest.Backend {
	path := filepath.Join(t.TempDir(), "state.db")
	open := func(t *testing.T) *bolt.Store {
		st, err := bolt.Open(path, storetest.Registry(), bolt.Options{MaxWatchLag: storetest.MaxWatchLag})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeStore(t, st) })
		return st
	}
	st := open(t)
	return storetest.Backend{
		Store:   st,
		Compact: func(ctx context.Context, upTo uint64) error { return st.Compact(ctx, upTo) },
		Reopen: func(t *testing.T) store.Store {
			closeStore(t, st)
			st = open(t)
			return st
		},
	}
}

func closeStore(t *testing.T, st store.Store) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestConformance(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) { storetest.Run(t, open) })
	}
}

func TestClock(t *testing.T) {
	t.Run("memory", func(t *testing.T) { storetest.RunClock(t, openMemory) })
}

// TestModel has its files in memory: what it looks for does not hang on the disk, and with
// a disk's barriers it would take minutes.
func TestModel(t *testing.T) {
	t.Setenv("TMPDIR", powertest.Memory())
	operations := 100_000
	if raced {
		operations = 5_000
	}
	for name, open := range backends {
		t.Run(name, func(t *testing.T) { storetest.RunModel(t, open, fromEnv(modelOpsEnv, operations)) })
	}
}

func TestWatchers(t *testing.T) {
	load := storetest.WatchLoad{Watchers: 200, Writers: 4, Rounds: 6, Writes: 250}
	if raced {
		load.Watchers = 40
	}
	for name, open := range backends {
		t.Run(name, func(t *testing.T) { storetest.RunWatchers(t, open, load) })
	}
}
