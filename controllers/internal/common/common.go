// Package common holds the small steps that the controllers of several kinds share:
// finding the connection and the defaults of a cluster, choosing a node, reserving VMIDs
// and MAC addresses.
package common

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// DependencyRecheck is how often something that is waited for is looked at again even if
// no event announces it.
const DependencyRecheck = 10 * time.Second

// connectRecheck is likewise for a connection, which nothing announces and which is made
// within moments of a start.
const connectRecheck = time.Second

// Connect returns the connection and the object of a cluster. Errors are of the runtime's
// classes.
func Connect(ctx context.Context, c runtime.Client, set *cluster.Set, name string) (*cluster.Connection, *v1alpha1.Cluster, error) {
	if name == "" {
		name = cluster.DefaultName
	}
	obj, err := runtime.Get[*v1alpha1.Cluster](ctx, c, resource.Key{Kind: "Cluster", Name: name})
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, nil, runtime.Waiting(DependencyRecheck, "ClusterNotFound", "Cluster %s does not exist", name)
	}
	if err != nil {
		return nil, nil, err
	}
	conn, err := set.Get(name)
	if err != nil { // made by the controller of the Cluster, which says what it lacks
		return nil, nil, runtime.Waiting(connectRecheck, "NotConnected", "%v; see Cluster %s", err, name)
	}
	return conn, obj, nil
}

// Templates is what a cluster says about templates that are not on a node yet.
func Templates(c *v1alpha1.Cluster) lxc.Templates {
	t := lxc.Templates{Storage: c.GetSpec().GetTemplateStorage()}
	for _, s := range c.GetSpec().GetTemplateSources() {
		t.Sources = append(t.Sources, lxc.TemplateSource{Name: s.GetName(), URL: s.GetUrl(), SHA512: s.GetSha512()})
	}
	return t
}

// Announce says in the conditions what a step is about to do to a guest, durably before a
// new guest is made: with a crash in between, it must not be taken for the one before,
// which worked. later lists the conditions that speak of what runs in the guest.
func Announce[T resource.Object](s *runtime.Session[T], created, running string, later []string) func(context.Context, lxc.Step) error {
	return func(ctx context.Context, step lxc.Step) error {
		switch step.Action {
		case lxc.ActionCreate:
			if resource.FindCondition(s.Object, created) == nil {
				return nil // the first one
			}
			s.False(created, "Missing", "%s; it is made again", step.Why)
			for _, c := range append([]string{running}, later...) {
				if resource.FindCondition(s.Object, c) != nil {
					s.SetCondition(c, "Unknown", "Missing", "%s", step.Why)
				}
			}
			return s.SaveStatus(ctx)
		case lxc.ActionStart, lxc.ActionShutdown:
			if resource.FindCondition(s.Object, running) != nil {
				s.False(running, map[string]string{lxc.ActionStart: "Starting", lxc.ActionShutdown: "Stopping"}[step.Action], "%s", step.Why)
			}
		}
		return nil
	}
}

// Node chooses the node for a guest: the wanted one, else the cluster's default, else its
// first online node. A node that is not online is waited for.
func Node(ctx context.Context, api cluster.API, wanted ...string) (string, error) {
	nodes, err := api.Nodes(ctx)
	if err != nil {
		return "", lxc.Classify(fmt.Errorf("list nodes: %w", err))
	}
	var names []string
	for _, name := range wanted {
		if name == "" {
			continue
		}
		for _, n := range nodes {
			names = append(names, n.Node)
			if n.Node != name {
				continue
			}
			if !n.Online() {
				return "", runtime.Waiting(DependencyRecheck, "NodeOffline", "node %s is %s", name, n.Status)
			}
			return name, nil
		}
		return "", runtime.Stalled("NodeNotFound", "there is no node %s; nodes are: %s", name, strings.Join(names, ", "))
	}
	for _, n := range nodes {
		if n.Online() {
			return n.Node, nil
		}
	}
	return "", runtime.Waiting(DependencyRecheck, "NodeOffline", "no node of the cluster is online")
}

// OnlyNode is the node of a cluster that has but one online, as its status says; else "".
func OnlyNode(cl *v1alpha1.Cluster) string {
	only := ""
	for _, n := range cl.GetStatus().GetNodes() {
		if !n.GetOnline() {
			continue
		}
		if only != "" {
			return ""
		}
		only = n.GetName()
	}
	return only
}

// MAC makes the n-th fixed MAC address of an object, in Proxmox's own range BC:24:11
// (datacenter.cfg mac_prefix, default since 8.1), from its uid.
func MAC(uid string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", uid, n))
	return fmt.Sprintf("BC:24:11:%02X:%02X:%02X", sum[0], sum[1], sum[2])
}

// UsedVMIDs lists the VMIDs that objects of a cluster have reserved or name, with the key
// of who does, leaving out the object itself.
func UsedVMIDs(tx runtime.Tx, self resource.Key) map[int32]resource.Key {
	used := map[int32]resource.Key{}
	for _, c := range vmidClaims(tx, self) {
		for _, id := range []int32{c.reserved, c.named} {
			if id != 0 {
				used[id] = c.key
			}
		}
	}
	return used
}

// VMIDHolder returns who keeps an object from a VMID that it names: the one that has
// reserved it, else an older one that names it too. Without an order both would give way.
func VMIDHolder(tx runtime.Tx, self resource.Object, vmid int32) (holder resource.Key, taken bool) {
	for _, c := range vmidClaims(tx, resource.KeyOf(self)) {
		first := c.reserved == 0 && routing.Older(c.meta, self.GetMetadata()) < 0
		if c.reserved == vmid || c.named == vmid && first {
			return c.key, true
		}
	}
	return resource.Key{}, false
}

// vmidClaim is what an object has reserved and what it names; 0 is nothing.
type vmidClaim struct {
	key             resource.Key
	meta            *v1alpha1.ObjectMeta
	reserved, named int32
}

func vmidClaims(tx runtime.Tx, self resource.Key) []vmidClaim {
	var claims []vmidClaim
	add := func(o resource.Object, reserved, named int32) {
		if key := resource.KeyOf(o); key != self {
			claims = append(claims, vmidClaim{key, o.GetMetadata(), reserved, named})
		}
	}
	for _, o := range tx.List("Appliance", "") {
		a := o.(*v1alpha1.Appliance)
		add(o, a.GetStatus().GetVmid(), a.GetSpec().GetVmid())
	}
	for _, o := range tx.List("App", "") {
		a := o.(*v1alpha1.App)
		add(o, a.GetStatus().GetVmid(), a.GetSpec().GetVmid())
	}
	for _, o := range tx.List("Operation", "") {
		add(o, o.(*v1alpha1.Operation).GetStatus().GetGuest().GetVmid(), 0)
	}
	return claims
}

// FreeVMID is the lowest of the cluster's range that no object has reserved or names and no
// guest has.
func FreeVMID(tx runtime.Tx, self resource.Key, cl *v1alpha1.Cluster, taken map[int32]bool) (int32, error) {
	used := UsedVMIDs(tx, self)
	from, to := cl.GetSpec().GetVmidStart(), cl.GetSpec().GetVmidEnd()
	for id := from; id <= to && id != 0; id++ {
		if _, ok := used[id]; !ok && !taken[id] {
			return id, nil
		}
	}
	return 0, runtime.Stalled("VMIDsExhausted", "no VMID from %d to %d is free; widen the range of Cluster %s", from, to, cl.GetMetadata().GetName())
}

// Orphaned is the plan of a deletion that leaves what is outside as it is.
func Orphaned(what string) runtime.Plan {
	return runtime.Plan{Notes: []string{"spec.deletionPolicy is Orphan: " + what + " is left as it is"}}
}

// LastLines is the end of a program's output in one line, for messages.
func LastLines(output string, n int) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
