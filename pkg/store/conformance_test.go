package store_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
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
	b := storetest.Backend{Store: st, Compact: st.Compact}
	b.Reopen = func(t *testing.T) store.Store {
		closeStore(t, st)
		*st = *open(t) // so that Compact reaches the new one
		return st
	}
	return b
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
