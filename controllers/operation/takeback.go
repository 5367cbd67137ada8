package operation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// owning are the kinds whose objects may name others as their owners.
var owning = []string{"Bridge", "Appliance", "App", "Vhost", "Secret"}

// back is one object that takes back what is left of it.
type back struct {
	left
	object resource.Object // as it was when that was decided
}

// match finds the object of each mark and says what becomes of it.
func (r *rebuild) match(ctx context.Context, found []left, report *rebuildReport) ([]back, error) {
	by := map[resource.Key][]left{}
	for _, l := range found {
		by[l.key()] = append(by[l.key()], l)
	}
	keys := make([]resource.Key, 0, len(by))
	for key := range by {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b resource.Key) int { return cmp.Compare(a.String(), b.String()) })
	var todo []back
	for _, key := range keys {
		obj, err := r.client.Get(ctx, key)
		if errors.Is(err, runtime.ErrNotFound) {
			report.say("%s: %s was made for it and it does not exist; apply its manifest, then rebuild again", key, by[key][0].what())
			continue
		}
		if err != nil {
			return nil, err
		}
		if l, why := choose(by[key], obj); why != "" {
			report.refuse("%s: %s", key, why)
		} else if l != nil {
			todo = append(todo, back{*l, obj})
			report.say("%s takes %s back: uid %s instead of %s%s", key, l.what(), l.mark.UID, obj.GetMetadata().GetUid(), reserved(*l))
		}
	}
	return todo, nil
}

func reserved(l left) string {
	switch {
	case l.mark.Kind != "App":
		return ""
	case l.address == "":
		return "; its address is not known, for the guest does not tell: it may get another"
	}
	return ", address " + l.address
}

// choose decides which of the things with its mark an object takes back: nil when it has
// it already; why not otherwise.
func choose(candidates []left, obj resource.Object) (l *left, why string) {
	uid := obj.GetMetadata().GetUid()
	for _, c := range candidates {
		if c.mark.UID == uid {
			return nil, "" // what else there is was made for one before it, and is told by its conditions
		}
	}
	if len(candidates) > 1 {
		why = "these carry its mark, and only a human can tell which is right; destroy or unmark the others:"
		for i, c := range candidates {
			if i > 0 {
				why += " and"
			}
			why += fmt.Sprintf(" %s (uid %s)", c.what(), c.mark.UID)
		}
		return nil, why
	}
	l = &candidates[0]
	named, task, created := claims(obj)
	switch {
	case resource.Deleting(obj):
		return nil, "it is being deleted"
	case named != 0 && int(named) != l.mark.VMID:
		return nil, fmt.Sprintf("spec.vmid is %d, and %s was made for it", named, l.what())
	case task != "":
		return nil, "a task works on a guest of its own: " + task
	case created:
		return nil, "it has a guest of its own by now; destroy one of the two"
	}
	return l, ""
}

// claims is what an object says of its own guest: the VMID that its spec names, the task
// that it waits for, and whether it has seen a guest of its own.
func claims(obj resource.Object) (named int32, task string, created bool) {
	switch o := obj.(type) {
	case *v1alpha1.App:
		return o.GetSpec().GetVmid(), o.GetStatus().GetTask(), o.GetStatus().GetNode() != ""
	case *v1alpha1.Appliance:
		return o.GetSpec().GetVmid(), o.GetStatus().GetTask(), o.GetStatus().GetNode() != ""
	case *v1alpha1.Bridge:
		return 0, o.GetStatus().GetTask(), len(common.BridgeNodes(o)) > 0
	}
	return 0, "", false
}

// takeBack replaces each object by one with the uid of its mark, in one transaction. An
// object that changed since it was decided about ends it with nothing done.
func takeBack(tx runtime.Tx, connection string, todo []back) error {
	uids := map[string]string{} // new by old
	for _, b := range todo {
		key := b.key()
		cur, err := tx.Get(key)
		if err != nil {
			return err
		}
		m := cur.GetMetadata()
		if m.GetUid() != b.object.GetMetadata().GetUid() || m.GetGeneration() != b.object.GetMetadata().GetGeneration() {
			return fmt.Errorf("%s has changed meanwhile; rebuild again", key)
		}
		if why := lateClaim(cur); why != "" {
			return fmt.Errorf("%s has changed meanwhile (%s); rebuild again", key, why)
		}
		if b.mark.VMID != 0 {
			if by, taken := common.VMIDHolder(tx, cur, int32(b.mark.VMID)); taken {
				return fmt.Errorf("%s: VMID %d is reserved for %s", key, b.mark.VMID, by)
			}
		}
		bare := resource.Clone(cur)
		bare.GetMetadata().Finalizers = nil
		if _, err := tx.Update(bare); err != nil {
			return err
		}
		if _, err := tx.Delete(key, runtime.Preconditions{}); err != nil {
			return err
		}
		next := resource.Clone(cur)
		next.GetMetadata().Uid, next.GetMetadata().ResourceVersion = "", ""
		reserveAgain(tx, next, connection, b.left)
		made, err := tx.CreateAs(next, b.mark.UID)
		if err != nil {
			return err
		}
		// A new object has no status.
		next.GetMetadata().Uid, next.GetMetadata().ResourceVersion = b.mark.UID, made.GetMetadata().GetResourceVersion()
		if _, err := tx.UpdateStatus(next); err != nil {
			return err
		}
		uids[m.GetUid()] = b.mark.UID
	}
	return adoptOwners(tx, uids)
}

func lateClaim(obj resource.Object) string {
	_, task, created := claims(obj)
	switch {
	case task != "":
		return "a task works on a guest of its own"
	case created:
		return "it has a guest of its own by now"
	}
	return ""
}

// reserveAgain writes the reservations that what is left names into a fresh status.
func reserveAgain(tx runtime.Tx, obj resource.Object, connection string, l left) {
	switch o := obj.(type) {
	case *v1alpha1.App:
		o.Status = &v1alpha1.AppStatus{
			Vmid: proto.Int32(int32(l.mark.VMID)), Node: proto.String(l.node), Cluster: proto.String(connection),
			Mac: proto.String(cmp.Or(l.macs[0], common.MAC(l.mark.UID, 0))),
		}
		if address, err := netip.ParseAddr(l.address); err == nil && addressFree(tx, l.address, l.key()) {
			o.Status.Address = proto.String(address.String())
		}
	case *v1alpha1.Appliance:
		o.Status = &v1alpha1.ApplianceStatus{
			Vmid: proto.Int32(int32(l.mark.VMID)), Node: proto.String(l.node),
			WanMac: proto.String(cmp.Or(l.macs[0], common.MAC(l.mark.UID, 0))), LanMac: proto.String(cmp.Or(l.macs[1], common.MAC(l.mark.UID, 1))),
		}
	case *v1alpha1.Bridge:
		o.Status = &v1alpha1.BridgeStatus{InterfaceName: proto.String(o.GetSpec().GetInterfaceName())}
		if o.GetSpec().GetBackend() == common.BackendSDN {
			o.Status.Zone = o.GetSpec().GetSdn().Zone // the vnet in it is ours, so it is
		}
		for _, node := range slices.Sorted(slices.Values(l.nodes)) {
			o.Status.Nodes = append(o.Status.Nodes, &v1alpha1.BridgeNode{Name: proto.String(node), Ready: proto.Bool(false), Written: proto.Bool(true)})
		}
	}
}

// addressFree tells whether no other App has reserved an address meanwhile.
func addressFree(tx runtime.Tx, address string, self resource.Key) bool {
	for _, o := range tx.List("App", "") {
		if resource.KeyOf(o) != self && o.(*v1alpha1.App).GetStatus().GetAddress() == address {
			return false
		}
	}
	return true
}

// adoptOwners lets what named an object by its old uid as its owner go on doing so: the
// garbage collector would take it for an orphan.
func adoptOwners(tx runtime.Tx, uids map[string]string) error {
	for _, kind := range owning {
		for _, o := range tx.List(kind, "") {
			next := resource.Clone(o)
			changed := false
			for _, ref := range next.GetMetadata().GetOwnerReferences() {
				if uid := uids[ref.GetUid()]; uid != "" {
					ref.Uid, changed = uid, true
				}
			}
			if !changed {
				continue
			}
			if _, err := tx.Update(next); err != nil {
				return err
			}
		}
	}
	return nil
}
