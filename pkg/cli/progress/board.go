package progress

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Goal tells whether an object (nil: it is gone) is where it should be.
type Goal func(obj resource.Object) bool

// Target is one awaited object.
type Target struct {
	Key resource.Key
	// UID that is meant, when set: an object with another one counts as gone.
	UID string
	// Name as the user writes it: app/nginx-01.
	Name string
}

// Item is the state of one target.
type Item struct {
	Target
	Stage Stage
	// Done: the goal was reached, Elapsed after the start.
	Done    bool
	Elapsed time.Duration
	// Lost: the object is gone, though its goal was another one. It can come back.
	Lost bool
	// Steps are the stages that were left behind, in order of time.
	Steps []Step

	object resource.Object
	seen   map[string]time.Time // when each condition became True
	// staleReady: another condition has changed since Ready did.
	staleReady bool
}

// Step is a condition that became True, and how long after the one before.
type Step struct {
	Condition string
	Took      time.Duration
}

// Board is the state of all targets.
type Board struct {
	items []*Item
	byKey map[resource.Key]*Item
	goal  Goal
	start time.Time
}

// NewBoard returns a board of objects none of which was seen yet.
func NewBoard(targets []Target, goal Goal, start time.Time) *Board {
	b := &Board{byKey: make(map[resource.Key]*Item, len(targets)), goal: goal, start: start}
	for _, t := range targets {
		if b.byKey[t.Key] != nil {
			continue
		}
		item := &Item{Target: t, Stage: unseen}
		b.items = append(b.items, item)
		b.byKey[t.Key] = item
	}
	return b
}

// Items returns the items in the order of the targets, to be read only.
func (b *Board) Items() []*Item { return b.items }

// Elapsed is the time since the start.
func (b *Board) Elapsed(now time.Time) time.Duration { return now.Sub(b.start) }

// Pending returns the items that are not done.
func (b *Board) Pending() []*Item {
	var pending []*Item
	for _, i := range b.items {
		if !i.Done {
			pending = append(pending, i)
		}
	}
	return pending
}

// Observe takes in an object as it is now (nil: gone) and returns its item, nil when it is
// none of the targets.
func (b *Board) Observe(key resource.Key, obj resource.Object, now time.Time) *Item {
	item := b.byKey[key]
	if item == nil {
		return nil
	}
	if obj != nil && item.UID != "" && obj.GetMetadata().GetUid() != item.UID {
		obj = nil
	}
	first := item.object == nil
	item.compare(obj)
	item.object = obj
	done := b.goal(obj)
	item.Lost = obj == nil && !done
	switch {
	case obj != nil:
		item.Stage = stageOf(obj, item.staleReady)
		item.note(obj, b.start, now, first)
	case item.Lost:
		item.Stage = Stage{Condition: "Exists", Reason: "Deleted", Message: "was deleted"}
	}
	if done && !item.Done {
		item.Elapsed = now.Sub(b.start)
		if obj != nil {
			item.Steps = item.steps(b.start)
		}
	}
	item.Done = done
	return item
}

// compare finds out which is newer, Ready or the first condition that is not True.
func (i *Item) compare(obj resource.Object) {
	if i.object == nil || obj == nil {
		i.staleReady = false
		return
	}
	changed := func(typ string) bool {
		return !proto.Equal(resource.FindCondition(i.object, typ), resource.FindCondition(obj, typ))
	}
	if changed(ready) {
		i.staleReady = false
	} else if c := firstNotTrue(obj); c != nil && changed(c.GetType()) {
		i.staleReady = true
	}
}

// note remembers when conditions became True: now, if the change was seen; for those that
// were True at the first sight, what they say themselves (whole seconds).
func (i *Item) note(obj resource.Object, start, now time.Time, first bool) {
	old := i.seen
	i.seen = make(map[string]time.Time, len(old))
	for _, c := range resource.Conditions(obj) {
		if c.GetType() == ready || c.GetType() == stalled || c.GetStatus() != "True" {
			continue
		}
		at, known := old[c.GetType()]
		if !known {
			at = now
			if said, err := time.Parse(time.RFC3339, c.GetLastTransitionTime()); first && err == nil && said.Before(now) {
				at = said
			}
		}
		if at.Before(start) {
			at = start
		}
		i.seen[c.GetType()] = at
	}
}

// minStep is the shortest step worth telling.
const minStep = 50 * time.Millisecond

// steps orders the conditions by time. Of several that became True at once, the last one
// stands for all.
func (i *Item) steps(start time.Time) []Step {
	types := make([]string, 0, len(i.seen))
	for _, c := range resource.Conditions(i.object) {
		if _, ok := i.seen[c.GetType()]; ok {
			types = append(types, c.GetType())
		}
	}
	slices.SortStableFunc(types, func(x, y string) int { return i.seen[x].Compare(i.seen[y]) })
	var steps []Step
	last := start
	for n, typ := range types {
		at := i.seen[typ]
		if n+1 < len(types) && i.seen[types[n+1]].Sub(at) < minStep {
			continue
		}
		if took := at.Sub(last); took >= minStep {
			steps = append(steps, Step{typ, took})
		}
		last = at
	}
	return steps
}

// slowest orders items by the time they took, for the summary.
func slowest(items []*Item) []*Item {
	sorted := slices.Clone(items)
	slices.SortStableFunc(sorted, func(x, y *Item) int { return cmp.Compare(x.Elapsed, y.Elapsed) })
	return sorted
}
