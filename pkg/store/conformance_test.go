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
	t.Run("grpc", func(t *testing.T) { storetest.RunExcept(t, openGRPC(t.TempDir()), notOverTheAPI) })
}

// notOverTheAPI are the cases that the API cannot express, by the beginning of their names.
var notOverTheAPI = map[string]string{
	"tx/with too many":               "the API bounds a set itself, before the store does",
	"audit/":                         "a record over the API names the server's request, which the suite does not know",
	"create/refuses the wrong scope": "the API puts an object that names no namespace into the default one",
	"create/takes kinds without spec and status":   systemKind,
	"create/tells namespaces and kinds apart":      systemKind,
	"update/of a kind without spec":                systemKind,
	"status/of a kind without one":                 systemKind,
	"list/of a kind has nothing of others":         systemKind,
	"watch/of all kinds has all of them":           systemKind,
	"restart/finds every object as it was":         systemKind,
	"tx/lets one of many win":                      systemKind,
	"tx/loses no update of many writers":           systemKind,
	"get/of an unknown kind":                       unknownKind,
	"list/of an unknown kind":                      unknownKind,
	"watch/of an unknown kind":                     unknownKind,
	"life/a new store is empty":                    noCounters,
	"compaction/of what is compacted":              noCounters,
	"compaction/refuses a watch from below":        noCounters,
	"restart/begins new counters":                  noCounters,
	"restart/keeps the compaction point":           noCounters,
	"page/counts what matches":                     "a selection over the API is a text, not a function",
	"list/keeps up with many objects":              noOtherSets,
	"restart/lets a watch go on from any revision": noOtherSets,
	"tx/gives every change a revision":             noOtherSets,
	"tx/may create and delete":                     noOtherSets,
	"tx/may delete and create":                     noOtherSets,
	"tx/may go on after an error":                  noOtherSets,
	"status/Put and PutStatus are":                 noOtherSets,
	"tx/reads its own writes":                      noOtherSets,
	"tx/takes effect as a whole":                   noOtherSets,
	"watch/that is stuck":                          "the transport takes some hundred events for a client that takes none; the server has a test of its own",
}

const (
	systemKind  = "only the daemon writes Events"
	unknownKind = "the API says that an unknown kind is not found, as of a path that is none"
	noCounters  = "the API has no counters and no compaction point"
	noOtherSets = "a set over the API writes whole objects; it has no reads and no deletions in between"
)

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
