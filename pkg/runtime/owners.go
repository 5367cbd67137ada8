package runtime

import (
	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// ownerGraph is who owns whom, as far as the events that it was shown go. It holds the uid
// of every object, and a node for each one that has owners.
//
// A uid is given out once and by the store alone, and events come in order: an owner is
// seen before whatever names it. So once the snapshot was seen whole, a uid that is not
// there is gone for good.
type ownerGraph struct {
	reg        *resource.Registry
	whole      bool                // the snapshot was seen to its end
	live       map[string]struct{} // uids
	owned      map[resource.Key]ownedObject
	dependents map[string]map[resource.Key]struct{} // by the uid of an owner
	due        map[resource.Key]ownedObject         // to be deleted
}

// ownedObject is what the collector needs to know of an object with owners.
type ownedObject struct {
	uid, version string
	owners       []*v1alpha1.OwnerReference
	deleting     bool
}

func newOwnerGraph(reg *resource.Registry) *ownerGraph {
	return &ownerGraph{
		reg: reg, live: map[string]struct{}{}, owned: map[resource.Key]ownedObject{},
		dependents: map[string]map[resource.Key]struct{}{}, due: map[resource.Key]ownedObject{},
	}
}

// see takes the next event of a watch that began with a snapshot of all kinds.
func (g *ownerGraph) see(ev store.Event) {
	if ev.Type == store.Bookmark {
		if !g.whole {
			g.whole = true
			for key := range g.owned {
				g.judge(key)
			}
		}
		return
	}
	key, uid := resource.KeyOf(ev.Object), ev.Object.GetMetadata().GetUid()
	g.forget(key)
	if ev.Type == store.Deleted {
		delete(g.live, uid)
		for dependent := range g.dependents[uid] {
			g.judge(dependent)
		}
		return
	}
	g.live[uid] = struct{}{}
	g.remember(key, ev.Object)
	g.judge(key)
}

func (g *ownerGraph) remember(key resource.Key, obj resource.Object) {
	m := obj.GetMetadata()
	if len(m.GetOwnerReferences()) == 0 || key.Kind == namespaceKind {
		return
	}
	g.owned[key] = ownedObject{
		uid: m.GetUid(), version: m.GetResourceVersion(),
		owners: m.GetOwnerReferences(), deleting: resource.Deleting(obj),
	}
	for _, owner := range m.GetOwnerReferences() {
		set := g.dependents[owner.GetUid()]
		if set == nil {
			set = map[resource.Key]struct{}{}
			g.dependents[owner.GetUid()] = set
		}
		set[key] = struct{}{}
	}
}

func (g *ownerGraph) forget(key resource.Key) {
	for _, owner := range g.owned[key].owners {
		set := g.dependents[owner.GetUid()]
		delete(set, key)
		if len(set) == 0 {
			delete(g.dependents, owner.GetUid())
		}
	}
	delete(g.owned, key)
	delete(g.due, key)
}

// judge decides whether an object is due: all its owners are known to be gone.
func (g *ownerGraph) judge(key resource.Key) {
	o, ok := g.owned[key]
	if !g.whole || !ok || o.deleting {
		return
	}
	for _, owner := range o.owners {
		if _, alive := g.live[owner.GetUid()]; alive || !g.canSee(owner) {
			return
		}
	}
	g.due[key] = o
}

// canSee tells whether the store would show an owner of that kind if there were one. What
// an older or newer daemon, or another product, calls an owner can't be said to be gone.
func (g *ownerGraph) canSee(owner *v1alpha1.OwnerReference) bool {
	k, ok := g.reg.Get(owner.GetKind())
	return ok && k.Name == owner.GetKind() && (owner.GetApiVersion() == "" || owner.GetApiVersion() == resource.APIVersion)
}
