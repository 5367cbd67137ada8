package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// State is all that a store holds at a revision.
type State struct {
	Revision uint64
	Objects  map[resource.Key]resource.Object
}

// count is the number of a writer's last transaction.
func (s State) count(writer int) int32 {
	if o, ok := s.Objects[resource.KeyOf(counter(writer, 0))]; ok {
		return o.(*v1alpha1.Event).Count
	}
	return 0
}

// Found is what Verify learned beside that all is well.
type Found struct {
	State State
	// Unacknowledged is the number of transactions that are there though nobody was told.
	Unacknowledged int
	// Replayed is the number of events that were read from the log, and Whole tells
	// whether they reached back to the recorded state.
	Replayed int
	Whole    bool
}

// Verify opens a database as the daemon would and holds it against the ledger, against
// itself, and against a state recorded earlier (the zero State: none). The database may
// be one that bbolt faults on: a caller with doubts does this in a process of its own.
func (w Workload) Verify(book *Ledger, before State) (found Found, err error) {
	if err := checkFile(w.Path); err != nil {
		return found, err
	}
	st, err := bolt.Open(w.Path, storetest.Registry(), w.options())
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if found.State, err = stateOf(st); err != nil {
		return found, err
	}
	if found.State.Revision < book.Revision {
		return found, fmt.Errorf("the store is at revision %d, %d was acknowledged or shown", found.State.Revision, book.Revision)
	}
	if found.Unacknowledged, err = w.verifyObjects(book, found.State); err != nil {
		return found, err
	}
	if found.Replayed, found.Whole, err = replay(st, before, found.State); err != nil {
		return found, err
	}
	return found, w.verifyTrail(st, book)
}

// checkFile runs the database's own check, and that of what the store relies on. An empty
// file has nothing to check.
func checkFile(path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return err
	}
	report, err := bolt.CheckFile(path, storetest.Registry(), false)
	if err != nil {
		return err
	}
	var all []error
	for _, problem := range report.GetProblems() {
		all = append(all, fmt.Errorf("database check: %s", problem))
	}
	return errors.Join(all...)
}

func stateOf(st store.Store) (State, error) {
	s := State{Revision: st.Revision(), Objects: map[resource.Key]resource.Object{}}
	for _, kind := range storetest.Registry().Kinds() {
		snap, err := st.List(context.Background(), kind.Name, store.ListOptions{})
		if err != nil {
			return s, err
		}
		for _, o := range snap.Items {
			s.Objects[resource.KeyOf(o)] = o
		}
	}
	return s, nil
}

// verifyObjects looks for what is lost, half there, or too much.
func (w Workload) verifyObjects(book *Ledger, s State) (unacknowledged int, err error) {
	expected := 0
	for writer := range w.Writers {
		n := s.count(writer)
		if told := book.Counts[writer]; n < told {
			return 0, fmt.Errorf("writer %d: transaction %d was acknowledged, %d is the last one there", writer, told, n)
		}
		unacknowledged += int(n - book.Counts[writer])
		for _, want := range after(writer, n) {
			have, ok := s.Objects[resource.KeyOf(want)]
			if !ok || !same(have, want) {
				return 0, fmt.Errorf("writer %d: half of transaction %d: %s is %.300v", writer, n, resource.KeyOf(want), have)
			}
			expected++
		}
	}
	if expected != len(s.Objects) {
		return 0, fmt.Errorf("half a transaction: %d objects are there, %d should be", len(s.Objects), expected)
	}
	return unacknowledged, nil
}

// replay reads the log from the recorded state, or from its beginning when that has been
// compacted, and compares where it ends with the objects. Every revision must be there.
func replay(st *bolt.Store, before, now State) (events int, whole bool, err error) {
	from := st.Stats().Compacted
	objects := map[resource.Key]resource.Object{}
	touched := map[resource.Key]bool{}
	var all []store.Event
	if before.Objects != nil && before.Revision >= from {
		from, whole = before.Revision, true
		for key, o := range before.Objects {
			objects[key] = o
		}
	}
	watch, err := st.Watch(context.Background(), store.WatchOptions{From: from})
	if err != nil {
		return 0, whole, err
	}
	defer func() {
		watch.Stop()
		for range watch.Events() { // the watch has ended when its channel has
		}
	}()
	for revision := from + 1; revision <= now.Revision; revision++ {
		ev, ok := <-watch.Events()
		if !ok {
			return events, whole, fmt.Errorf("replay from %d: the watch ended before revision %d: %w", from, revision, watch.Err())
		}
		if ev.Revision != revision {
			return events, whole, fmt.Errorf("replay from %d: revision %d comes where %d should be", from, ev.Revision, revision)
		}
		events++
		all = append(all, ev)
		key := resource.KeyOf(ev.Object)
		touched[key] = true
		if ev.Type == store.Deleted {
			delete(objects, key)
		} else {
			objects[key] = ev.Object
		}
	}
	if err := verifyAudit(st, from, all); err != nil {
		return events, whole, err
	}
	return events, whole, compare(objects, touched, now, whole)
}

// compare holds the end of a replay against the objects; one that did not begin with a
// recorded state says nothing of objects that it did not touch.
func compare(replayed map[resource.Key]resource.Object, touched map[resource.Key]bool, now State, whole bool) error {
	for key, want := range replayed {
		have, ok := now.Objects[key]
		if !ok || !proto.Equal(have, want) {
			return fmt.Errorf("%s: the log ends with %.300v, reads show %.300v", key, want, have)
		}
	}
	for key := range now.Objects {
		if _, ok := replayed[key]; !ok && (whole || touched[key]) {
			return fmt.Errorf("%s: reads show it, the log does not", key)
		}
	}
	return nil
}
