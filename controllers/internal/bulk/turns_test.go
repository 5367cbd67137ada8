package bulk

import (
	"fmt"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// lineUp are guests on nodes, and who was woken.
func lineUp() (*View, *[]string) {
	var woken []string
	wake := func(key resource.Key) { woken = append(woken, key.Name) }
	return &View{turns: newTurns(nodeTasks, storageTasks, wake), inside: newTurns(insideWork, storageTasks, wake)}, &woken
}

func (v *View) at(vmid int) Guest { return Guest{view: v, key: keyOf(vmid), vmid: vmid} }

// Who came first is first, and is woken when it is his turn.
func TestTurnsAreTakenInOrder(t *testing.T) {
	v, woken := lineUp()
	for i := range nodeTasks + 3 {
		if got := v.at(i).TakeTask("a", ""); got != (i < nodeTasks) {
			t.Errorf("guest %d gets its turn: %v", i, got)
		}
	}
	last := v.at(nodeTasks + 2)
	if v.at(0).Queued() || !last.Queued() {
		t.Error("who waits is not told so, or who does not is")
	}
	if !v.at(3).TakeTask("a", "") {
		t.Error("a turn is taken twice")
	}
	if !v.at(100).TakeTask("b", "") || !v.at(101).TakeInside("a") {
		t.Error("one node, or one sort of work, waits for another")
	}
	v.at(2).Release()
	if want := []string{fmt.Sprint(nodeTasks)}; !slices.Equal(*woken, want) {
		t.Errorf("woken %v, want %v", *woken, want)
	}
	if last.TakeTask("a", "") || !v.at(nodeTasks).TakeTask("a", "") {
		t.Error("somebody jumps the queue")
	}
	v.at(nodeTasks + 1).Release() // gives up waiting
	v.at(0).Release()
	if last.Queued() || !last.TakeTask("a", "") {
		t.Error("the last one does not get its turn")
	}
}

// A busy storage holds up those only who need it.
func TestBusyStorage(t *testing.T) {
	v, woken := lineUp()
	for i := range storageTasks + 1 {
		v.at(i).TakeTask("a", "slow")
	}
	if !v.at(storageTasks).Queued() {
		t.Error("more allocate than may")
	}
	if !v.at(50).TakeTask("a", "other") || !v.at(51).TakeTask("a", "") || v.at(52).TakeTask("a", "other") {
		t.Error("others are held up by the storage, or not by the node")
	}
	v.at(50).Release()
	if want := []string{"52"}; !slices.Equal(*woken, want) {
		t.Errorf("woken %v, want %v", *woken, want)
	}
	v.at(1).Release()
	if !v.at(storageTasks).TakeTask("a", "slow") {
		t.Error("passed over for ever")
	}
}

// Whoever needs a storage no more, and goes on, lets the next one to it at once.
func TestStorageIsPassedOn(t *testing.T) {
	v, woken := lineUp()
	for i := range storageTasks + 1 {
		v.at(i).TakeTask("a", "slow")
	}
	for range 2 {
		if !v.at(0).TakeTask("a", "") {
			t.Error("a turn is not kept for the next step")
		}
	}
	if want := []string{fmt.Sprint(storageTasks)}; !slices.Equal(*woken, want) {
		t.Errorf("woken %v, want %v", *woken, want)
	}
	if v.at(storageTasks).Queued() || !v.at(storageTasks).TakeTask("a", "slow") {
		t.Error("the storage stays taken")
	}
}

// A connection may have limits of its own.
func TestTurnsHaveLimits(t *testing.T) {
	conn := &cluster.Connection{Limits: cluster.Limits{NodeTasks: 2, StorageTasks: 1, NodeWork: 3}}
	v := newView(conn, slog.New(slog.DiscardHandler), period, func(resource.Key) {})
	var tasks, allocations, work int
	for i := range 10 {
		if v.at(i).TakeTask("a", "") {
			tasks++
		}
		if v.at(i).TakeTask("b", "slow") {
			allocations++
		}
		if v.at(i).TakeInside("a") {
			work++
		}
	}
	if tasks != 2 || allocations != 1 || work != 3 {
		t.Errorf("%d tasks, %d of them on a storage, %d at work inside", tasks, allocations, work)
	}
}

// Nobody holds up the others for long who is not there any more.
func TestTurnsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := lineUp()
		for i := range nodeTasks + 2 {
			v.at(i).TakeTask("a", "")
		}
		v.at(0).Release()
		waits := v.at(nodeTasks + 1)
		if waits.TakeTask("a", "") {
			t.Error("before its turn")
		}
		time.Sleep(turnKeep - time.Second)
		waits.Queued()
		time.Sleep(2 * time.Second)
		if !waits.TakeTask("a", "") {
			t.Error("one who went holds up the next")
		}
		time.Sleep(turnHold + time.Second)
		for i := range nodeTasks {
			if !v.at(100+i).TakeTask("a", "") {
				t.Error("turns are held for ever")
			}
		}
	})
}

// Whatever happens, no more are at work than may, everybody gets a turn, and nothing is left.
func TestTurnsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, _ := lineUp()
		type job struct{ node, storage string }
		jobs, working := map[int]job{}, map[int]job{}
		for i := range rapid.IntRange(1, 40).Draw(t, "guests") {
			jobs[i] = job{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "storage")}
		}
		for round := 0; len(jobs) > 0; round++ {
			if round > 200 {
				t.Fatalf("%d never get their turn", len(jobs))
			}
			for _, id := range rapid.Permutation(keysOf(jobs)).Draw(t, "asking") {
				if j := jobs[id]; v.at(id).TakeTask(j.node, j.storage) {
					working[id] = j
					delete(jobs, id)
				}
			}
			nodes, storages := map[string]int{}, map[job]int{}
			for _, j := range working {
				if nodes[j.node]++; nodes[j.node] > nodeTasks {
					t.Fatal("more on a node than may be")
				}
				if storages[j]++; j.storage != "" && storages[j] > storageTasks {
					t.Fatal("more on a storage than may be")
				}
			}
			for _, id := range keysOf(working) {
				if rapid.Bool().Draw(t, "ends") {
					v.at(id).Release()
					delete(working, id)
				}
			}
		}
		for id := range working {
			v.at(id).Release()
		}
		if len(v.turns.queues)+len(v.turns.waits) != 0 {
			t.Fatalf("left: %v, %v", v.turns.queues, v.turns.waits)
		}
	})
}

func keysOf[V any](m map[int]V) []int {
	keys := []int{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
