package operation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// A network without a guest that runs gets one for the time of a test: small, unprivileged, on
// the Bridge and the appliance's node, with a fixed address that no App and no lease has, from a
// template that is there already. It is no one's App: it carries the mark of its operation. Of a
// database that was lost nothing tells of it any more: then it is for a human to destroy.

const (
	// bootPatience is how long the guest may take to answer, and bootGlance the pause between
	// questions.
	bootPatience = 30 * time.Second
	bootGlance   = 500 * time.Millisecond
	// removePatience is how long the operation waits for the guest to be gone. What is left
	// then is removed by later looks, removeAgain apart.
	removePatience = time.Minute
	removeAgain    = 10 * time.Second
	// longestPause bounds a pause between two looks at a guest that is made or removed.
	longestPause = time.Second
)

// probeSize is what the guest may take; the disk must hold what a template unpacks to.
var probeSize = lxc.Sizes{Cores: 1, MemoryMiB: 256, DiskGiB: 4}

// makeGuest makes the guest and waits until commands can be run in it.
func (r *reconciler) makeGuest(ctx context.Context, s *session, a *v1alpha1.Appliance) (natFrom, error) {
	conn, cl, err := common.Connect(ctx, s.Client, r.Clusters, a.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return natFrom{}, err
	}
	bridge, err := runtime.Get[*v1alpha1.Bridge](ctx, s.Client, resource.Key{Kind: "Bridge", Name: a.GetSpec().GetBridgeRef().GetName()})
	if err != nil {
		return natFrom{}, fmt.Errorf("bridge %s: %w", a.GetSpec().GetBridgeRef().GetName(), err)
	}
	node := a.GetStatus().GetNode()
	if ready, why := common.BridgeOn(bridge, node); !ready {
		return natFrom{}, errors.New(why)
	}
	template, err := r.presentTemplate(ctx, s, conn, cl, a, node)
	if err != nil {
		return natFrom{}, err
	}
	if err := r.reserveGuest(ctx, s, conn, cl, a, bridge); err != nil {
		return natFrom{}, err
	}
	g := s.Object.GetStatus().GetGuest()
	m := markOf(s.Object, conn)
	nic := proxmox.NIC{
		Name: "eth0", Bridge: common.BridgeInterface(bridge), MTU: common.BridgeMTU(bridge), HWAddr: common.MAC(m.UID, 0),
		IP: g.GetAddress(), Gateway: a.GetSpec().GetLan().GetAddress(),
	}
	d := &lxc.Desired{
		Mark: m, Node: node, Hostname: fmt.Sprintf("nat-test-%d", m.VMID), Template: template, Templates: common.Templates(cl), Storage: cl.GetSpec().GetStorage(),
		Sizes: probeSize, NICs: map[int]proxmox.NIC{0: nic}, Nameserver: nic.Gateway, SearchDomain: a.GetSpec().GetDns().GetZone(),
		Nesting: true, Running: true, ShellConsole: lxc.ByConsole(cl),
	}
	s.Normal(ctx, "GuestForTest", "guest %d with the address %s is made on node %s for the time of the test", m.VMID, g.GetAddress(), node)
	if err := r.converge(ctx, s, conn, d); err != nil {
		return natFrom{}, err
	}
	to := guest.Target{Node: s.Object.GetStatus().GetGuest().GetNode(), VMID: m.VMID}
	if err := answers(ctx, conn, to, nic); err != nil {
		return natFrom{}, err
	}
	return natFrom{name: fmt.Sprintf("guest %d, made for the test", m.VMID), guest: to}, nil
}

// presentTemplate is one that is on the node: that of Apps, else the appliance's. For a test
// none is fetched.
func (r *reconciler) presentTemplate(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, a *v1alpha1.Appliance, node string) (string, error) {
	d := r.driver(s, conn)
	var names []string
	for _, want := range []string{cl.GetSpec().GetAppTemplate(), cmp.Or(a.GetSpec().GetTemplate(), cl.GetSpec().GetApplianceTemplate())} {
		if want == "" {
			continue
		}
		seen, err := d.Template(ctx, node, want, common.Templates(cl))
		if err != nil {
			return "", err
		}
		if seen.Volid != "" {
			return seen.Volid, nil
		}
		names = append(names, want)
	}
	return "", fmt.Errorf("no template is on node %s (looked for %s)", node, strings.Join(names, ", "))
}

// reserveGuest writes VMID and address into the status before anything is made.
func (r *reconciler) reserveGuest(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, a *v1alpha1.Appliance, b *v1alpha1.Bridge) error {
	rows, err := conn.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return lxc.Classify(fmt.Errorf("list guests: %w", err))
	}
	taken := make(map[int32]bool, len(rows))
	for _, row := range rows {
		taken[int32(row.VMID)] = true
	}
	leased := map[netip.Addr]bool{}
	if l := r.Board.Get(a.GetMetadata().GetName()); l != nil {
		for _, lease := range l.Observation.Leases {
			leased[lease.Address] = true
		}
	}
	self := resource.KeyOf(s.Object)
	err = s.Client.Transact(ctx, func(tx runtime.Tx) error {
		cur, err := tx.Get(self)
		if err != nil {
			return err
		}
		op := resource.Clone(cur).(*v1alpha1.Operation)
		vmid, err := common.FreeVMID(tx, self, cl, taken)
		if err != nil {
			return err
		}
		address, err := freeAddress(tx, self, a, b, leased)
		if err != nil {
			return err
		}
		op.Status.Guest = &v1alpha1.OperationGuest{
			Vmid: proto.Int32(vmid), Cluster: proto.String(cl.GetMetadata().GetName()), Node: proto.String(a.GetStatus().GetNode()), Address: proto.String(address.String()),
		}
		_, err = tx.UpdateStatus(op)
		return err
	})
	if err != nil {
		return err
	}
	return s.Refresh(ctx)
}

// freeAddress looks from the end of the subnet for an address that nobody has, outside of what
// guests get by DHCP if there is one: Apps are given theirs from the beginning of that.
func freeAddress(tx runtime.Tx, self resource.Key, a *v1alpha1.Appliance, b *v1alpha1.Bridge, leased map[netip.Addr]bool) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(b.GetSpec().GetSubnet())
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("the subnet of Bridge %s: %w", b.GetMetadata().GetName(), err)
	}
	used := map[string]bool{a.GetSpec().GetLan().GetAddress(): true}
	for _, o := range tx.List("App", "") {
		app := o.(*v1alpha1.App)
		used[app.GetStatus().GetAddress()], used[app.GetSpec().GetNetwork().GetAddress()] = true, true
	}
	for _, o := range tx.List(kind, "") {
		if resource.KeyOf(o) != self {
			p, _ := netip.ParsePrefix(o.(*v1alpha1.Operation).GetStatus().GetGuest().GetAddress())
			used[p.Addr().String()] = true
		}
	}
	for _, f := range a.GetSpec().GetNat().GetPortForwards() {
		used[f.GetAddress()] = true
	}
	start, _ := netip.ParseAddr(a.GetSpec().GetDhcp().GetStart())
	end, _ := netip.ParseAddr(a.GetSpec().GetDhcp().GetEnd())
	inRange := func(at netip.Addr) bool { return !at.Less(start) && !end.Less(at) }
	const most = 1 << 12
	for _, dynamic := range []bool{false, true} {
		at := lastOfSubnet(subnet).Prev() // not the broadcast address
		for n := 0; n < most && at.IsValid() && at != subnet.Masked().Addr(); n, at = n+1, at.Prev() {
			if inRange(at) == dynamic && !used[at.String()] && !leased[at] {
				return netip.PrefixFrom(at, subnet.Bits()), nil
			}
		}
	}
	return netip.Prefix{}, runtime.Stalled("AddressesExhausted", "no address of %s is free", subnet)
}

func lastOfSubnet(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// answers waits until the guest has its address and runs commands.
func answers(ctx context.Context, conn *cluster.Connection, to guest.Target, nic proxmox.NIC) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	last := errors.New("it has not got its address")
	for {
		ifs, err := conn.API.LXCInterfaces(ctx, to.Node, to.VMID)
		for _, i := range ifs {
			if !strings.EqualFold(i.HWAddr, nic.HWAddr) || i.Inet != nic.IP {
				continue
			}
			var res guest.Result
			if res, err = conn.Guests.Run(ctx, to, guest.Command{Argv: []string{"true"}}); err == nil && res.ExitCode == 0 {
				return nil
			}
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("guest %d is not up: %w", to.VMID, last)
		case <-time.After(bootGlance):
		}
	}
}

func markOf(op *v1alpha1.Operation, conn *cluster.Connection) ownership.Mark {
	m := op.GetMetadata()
	return ownership.Mark{
		Installation: conn.Installation, Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUid(),
		VMID: int(op.GetStatus().GetGuest().GetVmid()),
	}
}

func (r *reconciler) driver(s *session, conn *cluster.Connection) *lxc.Driver {
	return &lxc.Driver{API: conn.API, Journal: journal(s), Report: s, Log: s.Log}
}

// converge brings the guest to what is desired (nil: gone), until that is so, it cannot be, or
// the context is done.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, d *lxc.Desired) error {
	m := markOf(s.Object, conn)
	for {
		_, _, err := r.driver(s, conn).Converge(ctx, d, m, s.Object.GetStatus().GetGuest().GetNode(), func(o lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
			return lxc.Plan(d, m, o)
		})
		var waiting *runtime.WaitingError
		if err == nil || !errors.As(err, &waiting) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(longestPause):
		}
	}
}

// endGuest removes the guest at the end of the operation; what cannot be removed in time is
// told, and later looks go on with it.
func (r *reconciler) endGuest(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, removePatience)
	defer cancel()
	if err := r.removeGuest(ctx, s); err != nil {
		s.Warning(ctx, "GuestLeft", "guest %d, made for the test, is not removed yet: %v", s.Object.GetStatus().GetGuest().GetVmid(), err)
	}
}

// removeGuest removes the guest that is left of the operation, if there is one. Only the one
// that carries its mark is ever touched.
func (r *reconciler) removeGuest(ctx context.Context, s *session) error {
	g := s.Object.GetStatus().GetGuest()
	if g == nil {
		return nil
	}
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, g.GetCluster())
	if err != nil {
		return err
	}
	if err := r.converge(ctx, s, conn, nil); err != nil {
		var waiting *runtime.WaitingError
		if errors.As(err, &waiting) {
			return err
		}
		// A human may have to do something, but nobody looks at an operation that is over: it goes
		// on by itself as soon as that is done.
		return runtime.Waiting(removeAgain, "GuestLeft", "guest %d is not removed yet: %v", g.GetVmid(), err)
	}
	s.Normal(ctx, "GuestRemoved", "guest %d, made for the test, is gone", g.GetVmid())
	s.Object.Status.Guest = nil
	return s.SaveStatus(ctx)
}

// journal keeps the awaited task in the status.
func journal(s *session) common.Journal {
	return common.Journal{Save: s.SaveStatus, In: func() (upid, purpose **string) {
		st := status(s)
		return &st.Task, &st.TaskPurpose
	}}
}
