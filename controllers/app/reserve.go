package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// network is the App's place: its appliance and the subnet behind it.
type network struct {
	appliance  *v1alpha1.Appliance
	of         *v1alpha1.Bridge
	bridge     string   // interface name on the nodes
	mtu        int      // of guests' interfaces on it, 0 for the bridge's
	nodes      []string // on which guests can use it
	subnet     netip.Prefix
	lan        netip.Addr
	start, end netip.Addr
}

// network finds the App's place and waits until guests can live there.
func (r *reconciler) network(ctx context.Context, s *session) (network, error) {
	n, err := findNetwork(ctx, s.Client, s.Object)
	if err != nil {
		return n, err
	}
	// A guest that has moved to the uplink, or is about to, needs no Bridge.
	if len(n.nodes) == 0 && s.Object.GetStatus().GetFallback() == nil {
		return n, runtime.Waiting(common.DependencyRecheck, "ApplianceNotReady", "Bridge %s of Appliance %s is not ready",
			n.appliance.GetSpec().GetBridgeRef().GetName(), n.appliance.GetMetadata().GetName())
	}
	status(s).Appliance = proto.String(n.appliance.GetMetadata().GetName())
	return n, nil
}

// findNetwork reads the App's place from the objects there are.
func findNetwork(ctx context.Context, c runtime.Client, app *v1alpha1.App) (network, error) {
	appliances, err := runtime.List[*v1alpha1.Appliance](ctx, c, "Appliance", "")
	if err != nil {
		return network{}, err
	}
	name := routing.ApplianceOf(app, appliances)
	if name == "" {
		if len(appliances) > 1 {
			return network{}, runtime.Stalled("ApplianceNotChosen", "there are %d appliances; name one in spec.network.applianceRef", len(appliances))
		}
		return network{}, runtime.Waiting(common.DependencyRecheck, "ApplianceNotFound", "there is no Appliance yet")
	}
	a, err := runtime.Get[*v1alpha1.Appliance](ctx, c, resource.Key{Kind: "Appliance", Name: name})
	if errors.Is(err, runtime.ErrNotFound) {
		return network{}, runtime.Waiting(common.DependencyRecheck, "ApplianceNotFound", "Appliance %s does not exist", name)
	}
	if err != nil {
		return network{}, err
	}
	bridge := a.GetSpec().GetBridgeRef().GetName()
	b, err := runtime.Get[*v1alpha1.Bridge](ctx, c, resource.Key{Kind: "Bridge", Name: bridge})
	if errors.Is(err, runtime.ErrNotFound) {
		return network{}, runtime.Waiting(common.DependencyRecheck, "ApplianceNotReady", "Bridge %s of Appliance %s is not ready", bridge, name)
	}
	if err != nil {
		return network{}, err
	}
	n := network{appliance: a, of: b, bridge: common.BridgeInterface(b), mtu: common.BridgeMTU(b), nodes: common.BridgeNodes(b)}
	subnet, err1 := netip.ParsePrefix(b.GetSpec().GetSubnet())
	lan, err2 := netip.ParseAddr(a.GetSpec().GetLan().GetAddress())
	start, err3 := netip.ParseAddr(a.GetSpec().GetDhcp().GetStart())
	end, err4 := netip.ParseAddr(a.GetSpec().GetDhcp().GetEnd())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return network{}, runtime.Waiting(common.DependencyRecheck, "ApplianceNotReady", "Appliance %s has no usable addresses: %v", name, err)
	}
	n.subnet, n.lan, n.start, n.end = subnet, lan, start, end
	return n, nil
}

// reserve writes VMID, MAC, address and node into the status before anything is made, in one
// transaction: no two Apps can get the same, nor the last memory of a node.
func (r *reconciler) reserve(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) error {
	st := s.Object.GetStatus()
	wanted := s.Object.GetSpec().GetNetwork().GetAddress()
	choice, err := r.choose(ctx, s, conn, cl, n)
	if err != nil {
		return err
	}
	if choice.chosen() || st.GetVmid() == 0 || st.GetAddress() == "" || wanted != "" && st.GetAddress() != wanted || !n.usable(st.GetAddress()) {
		rows, err := conn.API.ClusterResources(ctx, proxmox.GuestResources)
		if err != nil {
			return lxc.Classify(fmt.Errorf("list guests: %w", err))
		}
		if st.GetVmid() == 0 && !s.Object.GetSpec().GetAdopt() { // which makes none
			if err := common.NotLost(ctx, s.Client, &r.marks, conn, s.Object, rows); err != nil {
				s.False(CondReserved, "NotReserved", "%v", err)
				return err
			}
		}
		var had map[int]string
		if spec := s.Object.GetSpec(); spec.GetAdopt() {
			if had, err = common.AdoptedMACs(ctx, conn, spec.GetVmid(), rows); err != nil {
				return err
			}
		}
		// Guests that no object stands for keep their addresses for as long as they run.
		strays, err := common.Unknown(ctx, s.Client, &r.marks, conn, rows)
		if err != nil {
			return err
		}
		taken := claims{vmids: vmidsOf(rows), addresses: r.marks.Addresses(ctx, conn, strays)}
		self := resource.KeyOf(s.Object)
		err = s.Client.Transact(ctx, func(tx runtime.Tx) error {
			return reserveIn(tx, self, cl, n, taken, had[0], &choice)
		})
		if err != nil {
			return err
		}
		if err := s.Refresh(ctx); err != nil {
			return err
		}
		st = s.Object.GetStatus()
	}
	s.True(CondReserved, "Reserved", "VMID %d, address %s, MAC address %s", st.GetVmid(), st.GetAddress(), st.GetMac())
	return r.reportPlaced(ctx, s, choice)
}

// vmidsOf lists the VMIDs that guests have, whoever made them.
func vmidsOf(rows []proxmox.Resource) map[int32]bool {
	taken := make(map[int32]bool, len(rows))
	for _, row := range rows {
		taken[int32(row.VMID)] = true
	}
	return taken
}

// claims are what guests have, whoever made them.
type claims struct {
	vmids     map[int32]bool
	addresses map[netip.Addr]bool
}

func reserveIn(tx runtime.Tx, self resource.Key, cl *v1alpha1.Cluster, n network, taken claims, mac string, choice *choice) error {
	cur, err := tx.Get(self)
	if err != nil {
		return err
	}
	app := resource.Clone(cur).(*v1alpha1.App)
	if app.Status == nil {
		app.Status = &v1alpha1.AppStatus{}
	}
	st := app.Status
	if st.GetVmid() == 0 {
		vmid, err := chooseVMID(tx, app, cl, taken.vmids)
		if err != nil {
			return err
		}
		st.Vmid = proto.Int32(vmid)
		st.Cluster = proto.String(cl.GetMetadata().GetName())
		st.Mac = proto.String(cmp.Or(mac, common.MAC(app.GetMetadata().GetUid(), 0)))
	}
	addr, err := chooseAddress(tx, app, n, taken.addresses)
	if err != nil {
		return err
	}
	st.Address = proto.String(addr.String())
	st.Appliance = proto.String(n.appliance.GetMetadata().GetName()) // with it, or its appliance looks twice
	// Another one may have been given the last room since the choice was made.
	if choice.again(tx.List(kind, "")); choice.chosen() {
		st.Placement = choice.status()
	}
	_, err = tx.UpdateStatus(app)
	return err
}

// chooseVMID takes the one that the spec names, else the lowest of the cluster's range that
// no object has reserved and no guest has.
func chooseVMID(tx runtime.Tx, app *v1alpha1.App, cl *v1alpha1.Cluster, taken map[int32]bool) (int32, error) {
	if want := app.GetSpec().GetVmid(); want != 0 {
		if by, ok := common.VMIDHolder(tx, app, want); ok {
			return 0, runtime.Stalled("VMIDTaken", "VMID %d is reserved for %s; use another one", want, by)
		}
		return want, nil
	}
	return common.FreeVMID(tx, resource.KeyOf(app), cl, taken)
}

// usable tells whether an address can be an App's in this network.
func (n network) usable(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && n.subnet.Contains(addr) && addr != n.lan
}

// chooseAddress takes the one that the spec names, else keeps the one that was reserved,
// else takes the lowest free one of the DHCP range. held are those that guests have for which
// there is no App.
func chooseAddress(tx runtime.Tx, app *v1alpha1.App, n network, held map[netip.Addr]bool) (netip.Addr, error) {
	used := map[netip.Addr]string{n.lan: "the appliance"}
	named := map[netip.Addr]bool{} // by others that may not have it yet
	for _, o := range tx.List(kind, "") {
		other := o.(*v1alpha1.App)
		if routing.Key(other.GetMetadata()) == routing.Key(app.GetMetadata()) {
			continue
		}
		if addr, err := netip.ParseAddr(other.GetStatus().GetAddress()); err == nil {
			used[addr] = resource.KeyOf(other).String()
		}
		if addr, err := netip.ParseAddr(other.GetSpec().GetNetwork().GetAddress()); err == nil {
			named[addr] = true
		}
	}
	if want := app.GetSpec().GetNetwork().GetAddress(); want != "" {
		addr, err := netip.ParseAddr(want)
		if err != nil || !n.usable(want) {
			return addr, runtime.Stalled("AddressOutsideSubnet", "spec.network.address %s is not a free address of the subnet %s", want, n.subnet)
		}
		if by, ok := used[addr]; ok {
			return addr, runtime.Stalled("AddressTaken", "spec.network.address %s belongs to %s", want, by)
		}
		return addr, nil
	}
	if have := app.GetStatus().GetAddress(); n.usable(have) {
		if addr := netip.MustParseAddr(have); used[addr] == "" {
			return addr, nil
		}
	}
	for addr := n.start; addr.IsValid() && !n.end.Less(addr); addr = addr.Next() {
		if used[addr] == "" && !named[addr] && !held[addr] {
			return addr, nil
		}
	}
	return netip.Addr{}, runtime.Stalled("AddressesExhausted", "no address from %s to %s is free; widen the DHCP range of Appliance %s", n.start, n.end, n.appliance.GetMetadata().GetName())
}
