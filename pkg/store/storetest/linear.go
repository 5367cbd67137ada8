package storetest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// HistoryLoad says how much RunLinearizability does.
type HistoryLoad struct {
	Histories  int
	Clients    int
	Operations int // of all clients, in a history
	Seed       uint64
	// Budget bounds the search for an order of one history. A history for which it does
	// not suffice fails the test: it shows nothing.
	Budget time.Duration
}

// RunLinearizability lets clients read and write the same few objects at the same time
// and looks whether their answers can be explained by one order of all operations, each
// taking effect at one moment between its beginning and its end. Revisions must follow
// that order too.
func RunLinearizability(t *testing.T, open Opener, load HistoryLoad) {
	operations, effective := 0, 0
	for i := range load.Histories {
		b := open(t)
		history, err := recordHistory(b.Store, load.Clients, load.Operations, load.Seed+uint64(i))
		if err == nil {
			err = b.Store.Close()
		}
		if err == nil {
			err = revisionsFollowTime(history)
		}
		if err != nil {
			t.Fatalf("history %d, seed %d: %v", i, load.Seed, err)
		}
		result, info := porcupine.CheckOperationsVerbose(historyModel, history, load.Budget)
		if result != porcupine.Ok {
			path := filepath.Join(t.ArtifactDir(), fmt.Sprintf("history-%d.html", i))
			err := visualize(path, info)
			t.Fatalf("history %d, seed %d: %s; go test -artifacts keeps %s (%v)", i, load.Seed, result, path, err)
		}
		operations += len(history)
		for _, op := range history {
			if q, a := op.Input.(call), op.Output.(answer); a.outcome == "ok" && q.verb != "get" && q.verb != "list" {
				effective++
			}
		}
	}
	t.Logf("%d histories, %d operations, %d of them writes that succeeded", load.Histories, operations, effective)
	if effective*10 < operations {
		t.Error("the run did too little to mean anything")
	}
}

func visualize(path string, info porcupine.LinearizationInfo) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return porcupine.Visualize(historyModel, info, f)
}

// groupState is the state of a partition: the group, or one lone key at index 0.
type groupState [historyGroup]seenApp

// historyModel is the contract for one object at a time, and for all of the group.
var historyModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, historyLoners+1)
		for _, op := range history {
			part := min(op.Input.(call).key, historyLoners)
			parts[part] = append(parts[part], op)
		}
		return parts
	},
	Init: func() any { return groupState{} },
	Step: func(state, input, output any) (bool, any) {
		next, ok := follow(state.(groupState), input.(call), output.(answer))
		return ok, next
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}

// follow tells whether an answer is right in a state, and what the state is then.
func follow(s groupState, q call, a answer) (groupState, bool) {
	if a.outcome == "canceled" {
		return s, true // and nothing has happened
	}
	switch q.verb {
	case "list":
		return s, s == a.objects
	case "move":
		return followMove(s, q, a)
	}
	at := max(0, q.key-historyLoners)
	cur, got := s[at], a.objects[0]
	there := cur != seenApp{}
	switch {
	case q.verb == "create" && there:
		return s, a.outcome == "exists"
	case q.verb == "create":
		s[at] = got
		return s, a.outcome == "ok" && got.spec == q.value && got.status == 0 && got.revision > 0
	case !there:
		return s, a.outcome == "missing"
	case q.verb == "get":
		return s, a.outcome == "ok" && got == cur
	case !q.matches(cur):
		return s, a.outcome == "conflict"
	}
	want := cur
	switch q.verb {
	case "update":
		want.spec = q.value
	case "status":
		want.status = q.value
	}
	if q.verb == "delete" || want != cur {
		want.revision = got.revision
		if got.revision <= cur.revision {
			return s, false
		}
	}
	s[at] = want
	if q.verb == "delete" {
		s[at] = seenApp{}
	}
	return s, a.outcome == "ok" && got == want
}

func followMove(s groupState, q call, a answer) (groupState, bool) {
	from := q.key - historyLoners
	to := (from + 1) % historyGroup
	want := s
	want[from].spec -= q.value
	want[to].spec += q.value
	for i, cur := range s {
		if want[i] != cur || cur == (seenApp{}) { // changed, or made by it
			want[i].revision = a.objects[i].revision
			if a.objects[i].revision <= cur.revision {
				return s, false
			}
		}
	}
	return want, a.outcome == "ok" && want == groupState(a.objects)
}

// revisionsFollowTime checks what partitions cannot show, because revisions are the whole
// store's: an operation that began after another one had ended is at no older revision,
// and no two changes have the same one.
func revisionsFollowTime(history []porcupine.Operation) error {
	type moment struct {
		time     int64
		ends     bool
		op       int
		revision uint64
	}
	var moments []moment
	owner := map[uint64]int{}
	for i, op := range history {
		q, a := op.Input.(call), op.Output.(answer)
		if a.revision == 0 {
			continue // a read of one object, or a failure
		}
		moments = append(moments, moment{op.Call, false, i, a.revision}, moment{op.Return, true, i, a.revision})
		if q.verb == "create" || q.verb == "delete" {
			if j, taken := owner[a.revision]; taken {
				return fmt.Errorf("%+v and %+v have the same revision", history[j], op)
			}
			owner[a.revision] = i
		}
	}
	slices.SortFunc(moments, func(a, b moment) int {
		if a.time == b.time && a.ends != b.ends { // at the same time is not after
			return map[bool]int{false: -1, true: 1}[a.ends]
		}
		return cmp.Compare(a.time, b.time)
	})
	newest := uint64(0) // of the operations that have ended
	floor := map[int]uint64{}
	for _, m := range moments {
		switch {
		case !m.ends:
			floor[m.op] = newest
		case m.revision < floor[m.op]:
			return fmt.Errorf("%+v began when revision %d had been answered", history[m.op], floor[m.op])
		default:
			newest = max(newest, m.revision)
		}
	}
	return nil
}
