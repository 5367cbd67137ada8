package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Keys of a history. Each lone key is a partition of its own, which keeps the search for
// an order short; the group is what transactions and lists are about, so its keys are one
// partition together.
const (
	historyLoners = 6
	historyGroup  = 3
	groupLabel    = "group"
)

// call is what a client asked for.
type call struct {
	verb    string // get, create, update, status, delete, move, list
	key     int    // 0..historyLoners-1, then the group's
	version string // expected resourceVersion; empty: any
	value   int32  // spec or status to set
}

// answer is what the store said. revision is that of the object or of the transaction.
type answer struct {
	outcome string // ok, exists, missing, conflict, canceled
	objects [historyGroup]seenApp
	// revision of the transaction or the snapshot; not part of the model.
	revision uint64
}

// seenApp is what a client sees of an App; the zero value: it does not exist.
type seenApp struct {
	revision     uint64
	spec, status int32
}

func seen(o resource.Object) seenApp {
	a := o.(*v1alpha1.App)
	return seenApp{revision: rev(o), spec: a.GetSpec().GetVmid(), status: a.GetStatus().GetVmid()}
}

func historyApp(key int, value int32) *v1alpha1.App {
	a := app(fmt.Sprintf("key-%d", key))
	a.Spec = &v1alpha1.AppSpec{Vmid: proto.Int32(value)}
	if key >= historyLoners {
		a.Metadata.Labels = map[string]string{groupLabel: "yes"}
	}
	return a
}

// client does operations one after the other and notes each with its times.
type client struct {
	id      int
	st      store.Store
	rng     *rand.Rand
	clock   func() int64
	known   map[int]string // resourceVersions that it has seen
	history []porcupine.Operation
	err     error
}

func (c *client) run(n int) {
	for range n {
		q := c.draw()
		begin := c.clock()
		a, err := c.do(q)
		if err != nil {
			c.err = fmt.Errorf("client %d: %+v: %w", c.id, q, err)
			return
		}
		c.history = append(c.history, porcupine.Operation{
			ClientId: c.id, Input: q, Output: a, Call: begin, Return: c.clock(),
		})
	}
}

func (c *client) draw() call {
	verbs := []string{"get", "get", "create", "update", "update", "status", "delete"}
	q := call{key: c.rng.IntN(historyLoners + historyGroup), value: 1 + c.rng.Int32N(1000)} // 0 stands for no status
	if q.key >= historyLoners {
		verbs = append(verbs, "move", "move", "move", "list", "list")
	}
	q.verb = verbs[c.rng.IntN(len(verbs))]
	if q.verb != "create" && c.rng.IntN(4) != 0 {
		q.version = c.known[q.key]
	}
	return q
}

// do runs one operation. Every tenth write's context ends meanwhile: it took effect, or
// the answer is that it was canceled and it did not.
func (c *client) do(q call) (answer, error) {
	var a answer
	var err error
	switch q.verb {
	case "get":
		var o resource.Object
		if o, err = c.st.Get(bg, resource.KeyOf(historyApp(q.key, 0))); err == nil {
			a.objects[0] = seen(o)
			c.known[q.key] = o.GetMetadata().GetResourceVersion()
		}
	case "list":
		var snap store.Snapshot
		snap, err = c.st.List(bg, "App", store.ListOptions{Match: func(o resource.Object) bool {
			return o.GetMetadata().GetLabels()[groupLabel] != ""
		}})
		a.revision = snap.Revision
		for _, o := range snap.Items {
			a.objects[groupIndex(o)] = seen(o)
		}
	default:
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		if c.rng.IntN(10) == 0 {
			go cancel()
		}
		a.revision, err = c.st.Update(ctx, func(tx store.Tx) (err error) {
			a.objects, err = transact(tx, q)
			return err
		})
	}
	if err != nil { // the closure may have run, but nothing of it counts
		a = answer{}
	}
	a.outcome, err = outcomeOf(err)
	return a, err
}

func outcomeOf(err error) (string, error) {
	for text, want := range map[string]error{
		"exists": store.ErrAlreadyExists, "missing": store.ErrNotFound, "conflict": store.ErrConflict, "canceled": context.Canceled,
	} {
		if errors.Is(err, want) && !errors.Is(err, store.ErrUnknownOutcome) {
			return text, nil
		}
	}
	return "ok", err
}

func groupIndex(o resource.Object) int {
	var key int
	if _, err := fmt.Sscanf(o.GetMetadata().GetName(), "key-%d", &key); err != nil {
		panic(err) // no other App has the label
	}
	return key - historyLoners
}

// transact runs a write. A move reads the whole group and takes from one member's spec to
// the next one's, so that it depends on all it reads.
func transact(tx store.Tx, q call) (objects [historyGroup]seenApp, err error) {
	if q.verb == "move" {
		return move(tx, q)
	}
	a := historyApp(q.key, q.value)
	a.Metadata.ResourceVersion = q.version
	var o resource.Object
	switch q.verb {
	case "create":
		o, err = tx.Create(a)
	case "update":
		o, err = tx.Update(a)
	case "status":
		a.Status = &v1alpha1.AppStatus{Vmid: proto.Int32(q.value)}
		o, err = tx.UpdateStatus(a)
	case "delete":
		o, err = tx.Delete(resource.KeyOf(a), store.Preconditions{ResourceVersion: q.version})
	}
	if err == nil {
		objects[0] = seen(o)
	}
	return objects, err
}

func move(tx store.Tx, q call) (objects [historyGroup]seenApp, err error) {
	for i := range objects {
		o, err := tx.Get(resource.KeyOf(historyApp(historyLoners+i, 0)))
		if errors.Is(err, store.ErrNotFound) {
			o, err = tx.Create(historyApp(historyLoners+i, 0))
		}
		if err != nil {
			return objects, err
		}
		objects[i] = seen(o)
	}
	from := q.key - historyLoners
	to := (from + 1) % historyGroup
	for i, value := range map[int]int32{from: objects[from].spec - q.value, to: objects[to].spec + q.value} {
		o, err := tx.Update(historyApp(historyLoners+i, value))
		if err != nil {
			return objects, err
		}
		objects[i] = seen(o)
	}
	return objects, nil
}

// recordHistory lets clients work at the same time and returns what each saw.
func recordHistory(st store.Store, clients, operations int, seed uint64) ([]porcupine.Operation, error) {
	began := time.Now()
	clock := func() int64 { return int64(time.Since(began)) } // monotonic
	all := make([]*client, clients)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = &client{id: i, st: st, rng: rand.New(rand.NewPCG(seed, uint64(i))), clock: clock, known: map[int]string{}}
		wg.Go(func() { all[i].run(operations / clients) })
	}
	wg.Wait()
	var history []porcupine.Operation
	var errs []error
	for _, c := range all {
		history = append(history, c.history...)
		errs = append(errs, c.err)
	}
	return history, errors.Join(errs...)
}

// matches tells whether an expected resourceVersion is that of an object.
func (q call) matches(cur seenApp) bool {
	return q.version == "" || q.version == strconv.FormatUint(cur.revision, 10)
}
