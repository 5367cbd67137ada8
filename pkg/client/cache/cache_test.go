package cache_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/client/cache"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/servertest"
)

func TestHandlersAreToldOnce(t *testing.T) {
	d := newDaemon(t)
	d.put("a", "n1")
	d.put("b", "n1")
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{})
	early := newJournal()
	first := i.Handle(early.handler())
	d.run(i)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d.check(i.WaitForSync(ctx))
	d.check(first.WaitForSync(ctx))
	early.expect(t, "add a n1; add b n1")
	d.put("a", "n2")
	d.put("a", "n2") // changes nothing
	d.remove("b")
	early.expect(t, "add a n1; add b n1; update a n1>n2; delete b n1 unknown=false")

	late := newJournal()
	second := i.Handle(late.handler())
	d.check(second.WaitForSync(ctx))
	late.expect(t, "add a n2")
	first.Remove()
	d.put("c", "n3")
	late.expect(t, "add a n2; add c n3")
	early.expect(t, "add a n1; add b n1; update a n1>n2; delete b n1 unknown=false")
}

func TestIndexes(t *testing.T) {
	d := newDaemon(t)
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{Indexes: map[string]cache.IndexFunc[*v1alpha1.App]{
		"node": func(a *v1alpha1.App) []string { return []string{a.GetSpec().GetNode()} },
	}})
	d.run(i)
	for _, name := range []string{"c", "a", "b"} {
		d.put(name, "n1")
	}
	names := func(apps []*v1alpha1.App) string {
		var out []string
		for _, a := range apps {
			out = append(out, a.GetMetadata().GetName())
		}
		return strings.Join(out, " ")
	}
	eventually(t, func() string { return names(i.List("")) }, "a b c")
	d.put("b", "n2")
	labeled := app("c", "n1")
	labeled.Metadata.Labels = map[string]string{"tier": "web"}
	_, _, err := d.apps.Apply(context.Background(), labeled, client.ApplyOptions{Manager: "test"})
	d.check(err)
	eventually(t, func() string { return names(i.ByIndex("node", "n1")) + "|" + names(i.ByIndex("node", "n2")) }, "a c|b")
	eventually(t, func() string { return names(i.ByLabel("tier", "web")) }, "c")
	if got := names(i.List("default")) + "|" + names(i.List("other")) + "|" + names(i.ByIndex("nope", "x")); got != "a b c||" {
		t.Errorf("got %s", got)
	}
	d.remove("c")
	eventually(t, func() string { return names(i.ByLabel("tier", "web")) + "|" + names(i.ByIndex("node", "n1")) }, "|a")
	if _, has := i.Get("default", "c"); has || i.Len() != 2 {
		t.Error("c is still there")
	}
	got, has := i.Get("default", "b")
	if !has || got.GetSpec().GetNode() != "n2" {
		t.Errorf("got %v, %v", got, has)
	}
}

// TestSelectionsAreFollowed: an object that stops matching is gone.
func TestSelectionsAreFollowed(t *testing.T) {
	d := newDaemon(t)
	labeled := app("a", "n1")
	labeled.Metadata.Labels = map[string]string{"tier": "web"}
	d.apply(labeled)
	d.put("b", "n1")
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{Namespace: "default", LabelSelector: "tier=web"})
	j := newJournal()
	i.Handle(j.handler())
	d.run(i)
	j.expect(t, "add a n1")
	d.restart(nil)
	d.put("a", "n2") // without the label: the same manager no longer wants it
	j.expect(t, "add a n1; delete a n2 unknown=false")
}

// TestRestarts kills the daemon between changes: nothing is lost, nothing comes twice.
func TestRestarts(t *testing.T) {
	d := newDaemon(t)
	var mu sync.Mutex
	breaks := 0
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{Interrupted: func(error) { mu.Lock(); breaks++; mu.Unlock() }})
	j := newJournal()
	i.Handle(j.handler())
	d.run(i)
	want := "add a n0"
	d.put("a", "n0")
	j.expect(t, want)
	for n := 1; n <= 4; n++ {
		d.restart(nil)
		d.put("a", fmt.Sprint("n", n)) // before the informer is back: the log has it
		want += fmt.Sprintf("; update a n%d>n%d", n-1, n)
		j.expect(t, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if breaks < 4 {
		t.Errorf("only %d breaks were told", breaks)
	}
}

// TestStartsBeforeTheDaemon: an informer waits for a daemon that is not there yet.
func TestStartsBeforeTheDaemon(t *testing.T) {
	d := newDaemon(t)
	d.put("a", "n1")
	d.check(d.srv.Stop())
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{})
	j := newJournal()
	i.Handle(j.handler())
	d.run(i)
	time.Sleep(300 * time.Millisecond)
	if i.HasSynced() || i.ResourceVersion() != "" {
		t.Error("in sync with nothing")
	}
	d.check(d.srv.Start())
	j.expect(t, "add a n1")
}

// TestCompaction: what the log no longer has is found by a new snapshot, and told as one
// change for each object.
func TestCompaction(t *testing.T) {
	d := newDaemon(t)
	for _, name := range []string{"gone", "changed", "same", "again"} {
		d.put(name, "n1")
	}
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{})
	j := newJournal()
	i.Handle(j.handler())
	d.run(i)
	j.expect(t, "add again n1; add changed n1; add gone n1; add same n1")
	// Nobody looks while these happen: the server is away, its store is not.
	d.check(d.srv.Stop())
	other, err := servertest.New(t.TempDir(), d.st, kinds.Registry())
	d.check(err)
	d.check(other.Start())
	c, err := other.Client()
	d.check(err)
	mine := d.apps
	d.apps = client.For[*v1alpha1.App](c)
	d.remove("gone")
	d.put("changed", "n2")
	d.put("changed", "n3")
	d.put("new", "n1")
	d.remove("again")
	d.put("again", "n4")
	d.put("passing", "n1")
	d.remove("passing")
	d.apps = mine
	d.check(c.Close())
	d.check(other.Stop())
	d.check(d.st.Compact(context.Background(), d.st.Revision()))
	d.check(d.srv.Start())
	j.expect(t, "add again n1; add changed n1; add gone n1; add same n1; "+
		"delete gone n1 unknown=true; update again n1>n4; update changed n1>n3; add new n1")
}

// TestSlowHandler: it delays nobody, the waiting changes are bounded, and it learns how
// everything ended up.
func TestSlowHandler(t *testing.T) {
	d := newDaemon(t)
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{})
	release := make(chan struct{})
	slow := newJournal()
	h := slow.handler()
	add := h.Add
	h.Add = func(a *v1alpha1.App) { <-release; add(a) }
	stuck := i.Handle(h)
	fast := newJournal()
	i.Handle(fast.handler())
	d.run(i)
	d.put("a", "n")
	const writes = cache.MaxQueued + 200
	for n := range writes {
		d.put("a", fmt.Sprint("n", n))
	}
	d.put("b", "n")
	d.remove("b")
	d.put("last", "n")
	eventually(t, func() string {
		fast.mu.Lock()
		defer fast.mu.Unlock()
		return fmt.Sprint(len(fast.lines), fast.wrong)
	}, fmt.Sprint(1+writes+3, []string(nil)))
	if n := stuck.Waiting(); n > cache.MaxQueued+3 {
		t.Errorf("%d changes wait", n)
	}
	close(release)
	eventually(t, func() string {
		slow.mu.Lock()
		defer slow.mu.Unlock()
		return fmt.Sprint(slices.Sorted(maps.Keys(slow.knows)), slow.knows["a"].GetSpec().GetNode(), slow.wrong)
	}, fmt.Sprint([]string{"a", "last"}, fmt.Sprint("n", writes-1), []string(nil)))
	if strings.Contains(slow.text(), " b ") {
		t.Error("told of an object that came and went")
	}
}

func TestEndings(t *testing.T) {
	d := newDaemon(t)
	for n := range 3 {
		d.put(fmt.Sprint("a", n), "n")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	small := cache.New(d.apps, cache.Options[*v1alpha1.App]{MaxObjects: 2})
	if err := small.Run(ctx); !errors.Is(err, client.ErrTooLarge) || !strings.Contains(err.Error(), "more than 2 objects") {
		t.Errorf("got %v", err)
	}
	if err := small.Run(ctx); err == nil {
		t.Error("ran twice")
	}
	if err := cache.New(d.apps, cache.Options[*v1alpha1.App]{LabelSelector: "!!"}).Run(ctx); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	cfg := d.srv.ClientConfig()
	cfg.Token = "wrong"
	c, err := client.New(cfg)
	d.check(err)
	defer c.Close()
	if err := cache.New(client.For[*v1alpha1.App](c), cache.Options[*v1alpha1.App]{}).Run(ctx); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
	ended, end := context.WithCancelCause(ctx)
	end(errors.New("no more"))
	i := cache.New(d.apps, cache.Options[*v1alpha1.App]{})
	r := i.Handle(cache.Handler[*v1alpha1.App]{})
	if err := i.Run(ended); err == nil || err.Error() != "no more" {
		t.Errorf("got %v", err)
	}
	if err := i.WaitForSync(ended); err == nil {
		t.Error("in sync")
	}
	if err := r.WaitForSync(ended); err == nil {
		t.Error("in sync")
	}
	r.Remove()
	r.Remove()
	i.Handle(cache.Handler[*v1alpha1.App]{}).Remove()
	cache.New(d.apps, cache.Options[*v1alpha1.App]{}).Handle(cache.Handler[*v1alpha1.App]{}).Remove()
}
