package server

import (
	"context"
	"time"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/apply/diff"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Results beside those of an apply.
const (
	deleted = "deleted"
	// affected is an object that was not asked about, but for which something is done
	// because of what was.
	affected = "affected"
)

// Where a plan starts from.
const (
	observed      = "observed"
	neverObserved = "never"
	notObserved   = "none" // the kind stands for nothing outside
)

// planItem is what is asked about: a document, or an object that is there.
type planItem struct {
	doc    *resource.Document
	key    resource.Key
	delete bool // with a key
}

// planned is what would become of one item.
type planned struct {
	key     resource.Key
	result  string
	changes []diff.Change
	plan    Plan
	// before and after are the object as it is and as it would be; shared, and not fit to be
	// shown (see shown).
	before, after resource.Object
	// asked is when the plan was made: ages are counted from it.
	asked time.Time
}

// observation says where the plan starts from, when that was, and how long ago.
func (p planned) observation() (state, at string, age int32) {
	switch {
	case !p.plan.Outside:
		return notObserved, "", 0
	case p.plan.ObservedAt.IsZero():
		return neverObserved, "", 0
	}
	return observed, p.plan.ObservedAt.UTC().Format(time.RFC3339), int32(max(0, p.asked.Sub(p.plan.ObservedAt)/time.Second))
}

// plan tells what applying documents, as one set, and deleting objects would do. It writes
// nothing: documents go through a dry run, deletions likewise. What one of them is refused
// for is the answer to all, as for a set that is applied. Results are in the order of the
// items; after them come other objects that are affected.
func (c *core) plan(ctx context.Context, items []planItem, opts apply.Options) ([]planned, error) {
	opts.DryRun = true
	switch {
	case len(items) == 0:
		return nil, apistatus.New(apistatus.BadRequest, "there is nothing to plan: name documents or objects")
	case len(items) > MaxApplyObjects:
		return nil, apistatus.New(apistatus.RequestEntityTooLarge, "the set has %d documents, allowed are %d", len(items), MaxApplyObjects)
	}
	results := make([]planned, len(items))
	changes := make([]PlanChange, len(items))
	if err := c.planDocuments(ctx, items, opts, results, changes); err != nil {
		return nil, err
	}
	seen := make(map[resource.Key]bool, len(items))
	for i, it := range items {
		if it.doc == nil {
			if err := c.planObject(ctx, it, opts, &results[i], &changes[i]); err != nil {
				return nil, err
			}
		}
		if key := results[i].key; seen[key] {
			return nil, apistatus.New(apistatus.BadRequest, "%s is named twice: a plan is of one change of each object", key)
		}
		seen[results[i].key] = true
	}
	if c.planner == nil {
		return results, nil
	}
	plans, err := c.planner.Plan(ctx, changes)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	for i := range results {
		results[i].plan, results[i].asked = plans.Changes[i], asked
	}
	if plans.Note != "" {
		results[0].plan.Notes = append(results[0].plan.Notes, plans.Note)
	}
	for _, other := range plans.Affected {
		key := resource.KeyOf(other.Object)
		if authorize(ctx, auth.VerbGet, key.Kind, key.Namespace) != nil {
			continue // that it is there is not for this caller to know
		}
		shown := c.shown(other.Object)
		results = append(results, planned{key: key, result: affected, before: shown, after: shown, plan: other.Plan, asked: asked})
	}
	return results, nil
}

// planDocuments fills in the results of the documents, after a dry run of all of them.
func (c *core) planDocuments(ctx context.Context, items []planItem, opts apply.Options, results []planned, changes []PlanChange) error {
	var docs []resource.Document
	for _, it := range items {
		if it.doc != nil {
			docs = append(docs, *it.doc)
		}
	}
	if len(docs) == 0 {
		return nil
	}
	if err := c.admitSet(ctx, docs); err != nil {
		return err
	}
	applied, err := c.applier.ApplySet(ctx, docs, opts)
	if err != nil {
		return err
	}
	for i, n := 0, 0; i < len(items); i++ {
		if items[i].doc == nil {
			continue
		}
		r := applied[n]
		n++
		results[i] = compare(r.Key, r.Outcome, r.Before, r.Object)
		changes[i] = PlanChange{Key: r.Key, Desired: r.Object}
	}
	return nil
}

// planObject fills in the result of an object that is there: its deletion, or what there is
// to do for it as it stands.
func (c *core) planObject(ctx context.Context, it planItem, opts apply.Options, result *planned, change *PlanChange) error {
	live, err := c.get(ctx, it.key)
	if err != nil {
		return err
	}
	change.Key = it.key
	if !it.delete {
		*result = compare(it.key, apply.Unchanged, live, live)
		if !resource.Deleting(live) {
			change.Desired = live
		}
		return nil
	}
	if _, err := c.delete(ctx, it.key, store.Preconditions{UID: live.GetMetadata().GetUid()}, opts); err != nil {
		return err
	}
	*result = compare(it.key, deleted, live, nil)
	return nil
}

func compare(key resource.Key, result string, before, after resource.Object) planned {
	return planned{key: key, result: result, changes: diff.Objects(before, after), before: before, after: after}
}

// shown returns both versions of the object without ownership and with secrets hidden. It
// copies them: of a large set, one answer at a time.
func (p planned) shown() (live, next resource.Object) { return diff.Shown(p.before, p.after) }
