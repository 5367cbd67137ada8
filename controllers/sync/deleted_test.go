package sync_test

import (
	"fmt"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// TestDeletedWhileApplying deletes the Sync right before each transaction of applying a commit
// that changes, makes and prunes. Objects stay as one commit has them, or all go, by its policy.
func TestDeletedWhileApplying(t *testing.T) {
	shared := twoCommits(t)
	for _, policy := range []string{"Orphan", "Delete"} {
		story := killedStory{
			given: func(w *world) { w.follow("deletionPolicy: " + policy); w.life(0, false).live() },
			act:   func(w *world) { w.repo.Git("push", "--quiet", "--force", "origin", "two:main") },
		}
		// As many lives as the undisturbed one has transactions, those that change nothing too.
		undisturbed := story.begin(t, shared).life(0, false)
		undisturbed.live()
		missed := 0
		for n := 1; n <= undisturbed.store.writes; n++ {
			t.Run(fmt.Sprintf("%s %d", policy, n), func(t *testing.T) {
				w := story.begin(t, shared)
				m := w.life(0, false)
				deleted := false
				m.store.meanwhile = func(at int) {
					if at != n {
						return
					}
					deleted = true
					if _, err := w.applier.Delete(w.admin(), syncKey, store.Preconditions{}); err != nil {
						t.Fatal(err)
					}
				}
				m.live()
				if !deleted { // what is written apart in one life may be written together in another
					missed++
					return
				}
				w.inventoryIsTrue() // and nothing is half a commit
				if w.get(syncKey) != nil {
					t.Fatalf("the Sync is still there:\n%s", w.portrait())
				}
				var left []string
				for _, name := range []string{"team-a", "team-b", "team-c"} {
					o := w.get(namespaceKey(name))
					if o == nil {
						continue
					}
					left = append(left, name+" "+w.description(name))
					if _, _, ok := resource.FollowedBy(o); ok {
						t.Errorf("%s is still followed", name)
					}
				}
				switch got := fmt.Sprint(left); {
				case policy == "Delete" && len(left) > 0:
					t.Errorf("left: %v", left)
				case policy == "Orphan" && got != "[team-a one team-b one]" && got != "[team-a two team-c two]":
					t.Errorf("neither commit: %v", left)
				}
			})
		}
		if missed > undisturbed.store.writes/2 {
			t.Errorf("%d of %d lives came to their end before the Sync was to be deleted", missed, undisturbed.store.writes)
		}
	}
}
