package sync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/gitrepository"
	"github.com/proximity-pve/proximity/controllers/namespace"
	"github.com/proximity-pve/proximity/controllers/sync"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/gitops/engine"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
)

// As in controllers/crash_test.go, for GitRepository and Sync: a daemon dies right before, and right
// after, each transaction of an undisturbed run that changes something. Right then the inventory
// must be true, and the next daemon must end as the undisturbed run does. pkg/daemon kills
// processes.

var errKilled = errors.New("the daemon is dead")

// mortalStore is the daemon's way to write; it dies at its n-th transaction.
type mortalStore struct {
	store.Store
	at     int // 0: never
	after  bool
	dead   bool
	writes int
	// changing are the numbers of those that changed something.
	changing []int
	// meanwhile is done by somebody else right before the n-th.
	meanwhile func(n int)
}

func (m *mortalStore) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	if m.dead {
		return 0, errKilled
	}
	m.writes++
	if m.meanwhile != nil {
		m.meanwhile(m.writes)
	}
	m.dead = m.writes == m.at
	if m.dead && !m.after {
		return 0, errKilled
	}
	before := m.Revision()
	revision, err := m.Store.Update(ctx, fn)
	if m.Revision() != before {
		m.changing = append(m.changing, m.writes)
	}
	if m.dead {
		return 0, errKilled
	}
	return revision, err
}

// mortal is one life of the controllers, whose looks the test takes one by one.
type mortal struct {
	*world
	store       *mortalStore
	controllers map[string]*runtime.Controller
}

func (w *world) life(at int, after bool) *mortal {
	w.Helper()
	st := &mortalStore{Store: w.store, at: at, after: after}
	client, log := runtime.NewClient(st), slog.New(slog.DiscardHandler)
	applier := apply.New(st, w.registry).WithKeys(w.keys).WithGuard(access.NewGuard(w.registry, w.policy))
	sources := source.Sources{Cache: git.NewCache(w.cacheDir), Secrets: w.secrets}
	syncs, _ := sync.New(sync.Deps{Sources: sources, Engine: engine.New(applier, w.auth.As), Registry: w.registry, Log: log})
	m := &mortal{world: w, store: st, controllers: map[string]*runtime.Controller{}}
	for _, c := range []*runtime.Controller{namespace.New(), gitrepository.New(gitrepository.Deps{Sources: sources, Log: log}), syncs} {
		c.Bind(client, log)
		m.controllers[c.Kind()] = c
	}
	return m
}

// live looks at everything until nothing changes any more, or the daemon is dead.
func (m *mortal) live() {
	m.Helper()
	const enough = 20
	for range enough {
		before := m.world.store.Revision()
		for _, kind := range []string{"GitRepository", "Sync", "Namespace"} {
			snap, err := m.world.store.List(context.Background(), kind, store.ListOptions{})
			if err != nil {
				m.Fatal(err)
			}
			for _, o := range snap.Items {
				_, _ = m.controllers[kind].Reconcile(context.Background(), resource.KeyOf(o))
				if m.store.dead {
					return
				}
			}
		}
		if m.world.store.Revision() == before {
			return
		}
	}
	m.Fatal("it does not come to rest")
}

type killedStory struct {
	what  string
	given func(w *world) // before the undisturbed life; nil: the first commit is applied
	act   func(w *world)
	done  func(w *world) bool
}

func killedStories() []killedStory {
	head := func(name string) func(w *world) {
		return func(w *world) { w.repo.Git("push", "--quiet", "--force", "origin", name+":main") }
	}
	remove := func(key resource.Key) func(w *world) {
		return func(w *world) {
			if _, err := w.applier.Delete(w.admin(), key, store.Preconditions{}); err != nil {
				w.Fatal(err)
			}
		}
	}
	is := func(a, b, c string) func(w *world) bool {
		return func(w *world) bool {
			return w.description("team-a") == a && w.description("team-b") == b && w.description("team-c") == c
		}
	}
	all := func(conditions ...func(w *world) bool) func(w *world) bool {
		return func(w *world) bool {
			return !slices.ContainsFunc(conditions, func(is func(w *world) bool) bool { return !is(w) })
		}
	}
	gone := func(key resource.Key) func(w *world) bool { return func(w *world) bool { return w.get(key) == nil } }
	deleting := func(w *world) { w.follow("deletionPolicy: Delete"); w.life(0, false).live() }
	return []killedStory{
		{what: "create", given: func(*world) {}, act: func(w *world) { w.follow() }, done: is("one", "one", "-")},
		{what: "change, make and prune", act: head("two"), done: is("two", "-", "two")},
		{what: "set back", act: func(w *world) {
			if err := w.patch(namespaceKey("team-a"), `{"spec":{"description":"by hand"}}`, true); err != nil {
				w.Fatal(err)
			}
		}, done: is("one", "one", "-")},
		{what: "leave and let go", act: remove(syncKey), done: all(gone(syncKey), is("one", "one", "-"))},
		{what: "delete with all objects", given: deleting, act: remove(syncKey), done: all(gone(syncKey), is("-", "-", "-"))},
		{what: "delete the source", act: remove(repoKey), done: all(gone(repoKey), is("one", "one", "-"))},
	}
}

// twoCommits is a repository with the branches one, of team-a and team-b, and two, of team-a,
// changed, and team-c.
func twoCommits(t *testing.T) *world {
	shared := newWorld(t)
	for name, objects := range map[string][]string{"one": {"a", "b"}, "two": {"a", "c"}} {
		shared.repo.Git("checkout", "--quiet", "--orphan", name)
		shared.repo.Git("rm", "-r", "--quiet", "--force", "--ignore-unmatch", ".")
		for _, o := range objects {
			shared.repo.Write(o+".yaml", project("team-"+o, name))
		}
		shared.repo.Commit(name)
	}
	return shared
}

// TestKilledAtEveryWrite tells every story once undisturbed, and once for each transaction and
// each side of it.
func TestKilledAtEveryWrite(t *testing.T) {
	shared := twoCommits(t)
	for _, story := range killedStories() {
		t.Run(story.what, func(t *testing.T) {
			portrait, writes := story.undisturbed(t, shared)
			if len(writes) == 0 {
				t.Fatal("nothing was written: there is nothing to be killed at")
			}
			missed := 0
			for _, n := range writes {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d after=%v", n, after), func(t *testing.T) {
						if !story.killed(t, shared, n, after, portrait) {
							missed++
						}
					})
				}
			}
			if missed > len(writes)/2 {
				t.Errorf("%d of %d lives came to their end before they were to be killed", missed, 2*len(writes))
			}
		})
	}
}

// killed is a life that ends at the n-th transaction; false when it came to its end before that.
func (s killedStory) killed(t *testing.T, shared *world, n int, after bool, portrait string) bool {
	w := s.begin(t, shared)
	m := w.life(n, after)
	m.live()
	w.inventoryIsTrue()
	w.life(0, false).live()
	w.inventoryIsTrue()
	if !s.done(w) {
		t.Error("it is not done")
	}
	if now := w.portrait(); now != portrait {
		t.Errorf("another end:\n%s\nundisturbed:\n%s", now, portrait)
	}
	return m.store.dead
}

// begin makes a world of its own over the shared repository, with the story under way.
func (s killedStory) begin(t *testing.T, shared *world) *world {
	w := newWorldOn(t, shared.server, shared.repo)
	w.url = "file://" + w.repo.Bare // the fewest processes
	w.repo.Git("push", "--quiet", "--force", "origin", "one:main")
	if s.given != nil {
		s.given(w)
	} else {
		w.follow()
		w.life(0, false).live()
	}
	s.act(w)
	return w
}

func (s killedStory) undisturbed(t *testing.T, shared *world) (portrait string, writes []int) {
	w := s.begin(t, shared)
	m := w.life(0, false)
	m.live()
	w.inventoryIsTrue()
	if !s.done(w) {
		t.Fatalf("it is not done:\n%s", w.portrait())
	}
	return w.portrait(), m.store.changing
}

// inventoryIsTrue holds the Sync's inventory against the objects that name it.
func (w *world) inventoryIsTrue() {
	w.Helper()
	var listed, marked []string
	s, _ := w.get(syncKey).(*v1alpha1.Sync)
	entries, err := inventory.Decode(s.GetStatus().GetInventory())
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		listed = append(listed, e.Key.String()+" "+e.File)
	}
	snap, err := w.store.List(context.Background(), "Namespace", store.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	commits := map[string]bool{}
	for _, o := range snap.Items {
		if by, file, ok := resource.FollowedBy(o); ok && by == syncKey && !resource.Deleting(o) {
			marked = append(marked, resource.KeyOf(o).String()+" "+file)
			if d := o.(*v1alpha1.Namespace).GetSpec().GetDescription(); d != "by hand" {
				commits[d] = true
			}
		}
	}
	// What is being deleted is still owned until it is gone.
	listed = slices.DeleteFunc(listed, func(line string) bool {
		name := strings.Fields(line)[1]
		return resource.Deleting(w.get(namespaceKey(name)))
	})
	if slices.Sort(listed); !slices.Equal(listed, marked) {
		w.Errorf("the inventory has %v, %v name the Sync", listed, marked)
	}
	if len(commits) > 1 {
		w.Errorf("half a commit is stored: %v", commits)
	}
}

// portrait is all that is stored, without what differs from life to life: times, versions, uids,
// events.
func (w *world) portrait() string {
	w.Helper()
	var b strings.Builder
	for _, kind := range []string{"GitRepository", "Sync", "Namespace"} {
		snap, err := w.store.List(context.Background(), kind, store.ListOptions{})
		if err != nil {
			w.Fatal(err)
		}
		for _, o := range snap.Items {
			m := o.GetMetadata()
			fmt.Fprintf(&b, "%s %v %v finalizers %v\n", resource.KeyOf(o), m.GetLabels(), m.GetAnnotations(), m.GetFinalizers())
			for _, c := range resource.Conditions(o) {
				fmt.Fprintf(&b, "  %s %s %s\n", c.GetType(), c.GetStatus(), c.GetReason())
			}
			switch o := o.(type) {
			case *v1alpha1.Namespace:
				fmt.Fprintf(&b, "  %s\n", o.GetSpec().GetDescription())
			case *v1alpha1.GitRepository:
				fmt.Fprintf(&b, "  %s\n", o.GetStatus().GetArtifact().GetRevision())
			case *v1alpha1.Sync:
				st := o.GetStatus()
				fmt.Fprintf(&b, "  %s %s %s\n", st.GetAppliedRevision(), st.GetAttemptedRevision(), st.GetInventory().GetEntries())
				for _, h := range st.GetHistory() {
					fmt.Fprintf(&b, "  history %s %s\n", h.GetRevision(), h.GetSubject())
				}
			}
		}
	}
	return b.String()
}
