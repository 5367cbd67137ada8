package controllers_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// What a controller reads may be old: of its own store, behind a cache or another replica,
// and of Proxmox, whose lists lag. It may do too little then, but nothing that destroys.

// staleReads makes some of the daemon's reads of single objects return what was there before.
type staleReads struct {
	mu sync.Mutex
	// always is what is read in an object's place, whatever it is.
	always map[resource.Key]resource.Object
	// share of the reads that return the version before, of those that have one.
	share  float64
	rand   *rand.Rand
	had    map[resource.Key][2]resource.Object // the newest that was read, and the one before
	served int
}

// read returns what is read in the place of obj.
func (s *staleReads) read(key resource.Key, obj resource.Object) resource.Object {
	if s == nil {
		return obj
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.always[key]; old != nil {
		s.served++
		return old
	}
	h := s.had[key]
	if h[0] == nil || h[0].GetMetadata().GetResourceVersion() != obj.GetMetadata().GetResourceVersion() {
		h = [2]resource.Object{obj, h[0]}
		s.had[key] = h
	}
	if h[1] != nil && s.rand.Float64() < s.share {
		s.served++
		return h[1]
	}
	return obj
}

func (s *staleReads) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// end lets all reads return what there is; begin makes a share of them old.
func (s *staleReads) end() { s.begin(0) }

func (s *staleReads) begin(share float64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always, s.share = nil, share
}

// Get is the daemon's way to read one object.
func (m mortalStore) Get(ctx context.Context, key resource.Key) (resource.Object, error) {
	obj, err := m.Store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return m.daemon.world.stale.read(key, obj), nil
}

// An App was deleted, and another one of its name has the VMID and a guest of its own. A read
// that still returns the first one, whose deletion is under way, costs the other nothing.
func TestStaleReadOfADeletedObject(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.daemon.stop()
		w.remove(appKey)
		old := w.get(appKey)
		w.start()
		w.until("gone", w.gone(appKey))
		w.apply(w.documents("App"))
		w.until("ready", w.ready(appKey))
		w.settle()
		if w.get(appKey).GetMetadata().GetUid() == old.GetMetadata().GetUid() || w.tasks("vzcreate", firstVMID) != 2 {
			t.Fatal("there is no other App with the VMID")
		}
		calls := len(w.ledger.all())
		w.daemon.stop()
		w.stale = &staleReads{always: map[resource.Key]resource.Object{appKey: old}, had: map[resource.Key][2]resource.Object{}, rand: rand.New(rand.NewPCG(1, 1))}
		w.start()
		time.Sleep(2 * time.Minute)
		if w.stale.count() == 0 {
			t.Error("nothing stale was read")
		}
		for _, c := range w.ledger.since(calls) {
			if strings.Contains(c.what, "/lxc/20000") {
				t.Errorf("done because of a stale read: %s", c.what)
			}
		}
		if !w.guest(firstVMID).Running() || w.get(appKey) == nil {
			t.Error("the App that is there has lost its guest")
		}
		w.stale.end()
		w.until("ready", w.ready(appKey))
	})
}

// With half of the reads one version behind, and with lists of Proxmox that are ten seconds
// old, the life of the quickstart is what it is without, only slower.
func TestLifeWithStaleViews(t *testing.T) {
	g := golden(t)
	for name, like := range map[string]worldLike{
		"store": {}, "lists": {node: func(c *pvesim.Config) { c.ResourceLag = 10 * time.Second }},
	} {
		for seed := range uint64(8) {
			if !some(int(seed), 8) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				inWorldLike(t, like, func(w *world) {
					w.strangers()
					if name == "store" {
						w.stale = &staleReads{share: 0.5, rand: rand.New(rand.NewPCG(seed, 0)), had: map[resource.Key][2]resource.Object{}}
					}
					// While reads are old, what is ready is told to be not, and back; that all are at
					// a time is a matter of luck.
					w.start()
					w.apply(w.quickstart())
					time.Sleep(2 * time.Minute)
					w.stale.end()
					w.until("quickstart ready", w.ready(quickstartKeys...))
					w.settle()
					w.until("ready", w.ready(quickstartKeys...))
					if now := w.portrait(); now != g.deployed {
						t.Errorf("not the same end:\n%s", diffLines(now, g.deployed))
					}
					w.createdOnce()
					w.stale.begin(0.5)
					w.remove(quickstartKeys...)
					w.until("everything gone", w.gone(quickstartKeys...))
					if now := w.portrait(); now != g.empty {
						t.Errorf("left on the node:\n%s", diffLines(now, g.empty))
					}
					w.createdOnce()
					if w.stale != nil && w.stale.count() < 20 {
						t.Errorf("only %d stale reads", w.stale.count())
					}
				})
			})
		}
	}
}
