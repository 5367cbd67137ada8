package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/marks"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// sdnBridge is a Bridge in the software-defined network of a cluster.
type sdnBridge struct {
	conn  *cluster.Connection
	names sdnNames
	mark  ownership.Mark
}

func sdnOf(b *v1alpha1.Bridge, conn *cluster.Connection) sdnBridge {
	return sdnBridge{conn: conn, mark: markOf(b, conn), names: sdnNames{zone: b.GetSpec().GetSdn().GetZone(), vnet: b.GetSpec().GetInterfaceName()}}
}

// reloadTasks is the type of the task by which a node takes over network changes.
const reloadTasks = "srvreload"

// sdnMembers lists the nodes of the cluster with their addresses, in the order of their names.
func sdnMembers(ctx context.Context, conn *cluster.Connection) (all members, address map[string]string, err error) {
	rows, err := conn.API.ClusterStatus(ctx)
	if err != nil {
		return nil, nil, lxc.Classify(fmt.Errorf("list the nodes of the cluster: %w", err))
	}
	address = map[string]string{}
	for _, row := range rows {
		if row.Type == "node" {
			all = append(all, member{row.Name, bool(row.Online)})
			address[row.Name] = row.IP
		}
	}
	if !slices.ContainsFunc(all, func(m member) bool { return m.online }) {
		return nil, nil, runtime.Waiting(common.DependencyRecheck, reasonNodeOffline, "no node of the cluster is online")
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return all, address, nil
}

// observe looks at the zone, the vnet, and at what each node that is online made of it. An
// error of a node is its own: it goes into failed, by the node's name. A node that is there
// already is not looked at again: it may take long to fail.
func (n sdnBridge) observe(ctx context.Context, nodes []sdnNode, recorded bool, failed map[string]error) (o sdnSeen, err error) {
	o = sdnSeen{recorded: recorded, nodes: slices.Clone(nodes)}
	zones, err := n.conn.API.SDNZones(ctx, proxmox.SDNPending)
	if err != nil {
		return o, sdnError(fmt.Errorf("list the SDN zones: %w", err))
	}
	for _, z := range zones {
		if z.Zone == n.names.zone {
			row := z.Staged()
			o.zone = &row
		}
	}
	vnets, err := n.conn.API.SDNVNets(ctx, proxmox.SDNPending)
	if err != nil {
		return o, sdnError(fmt.Errorf("list the SDN vnets: %w", err))
	}
	for _, v := range vnets {
		row := v.Staged()
		switch {
		case v.VNet == n.names.vnet:
			m := ownership.FromComment(row.Alias)
			o.vnet, o.madeFor = &row, marks.BridgeUID(n.mark.Installation, n.mark.Name, row.Alias)
			o.vnetOurs = m != nil && m.Installation == n.mark.Installation && m.UID == n.mark.UID
		case row.Zone == n.names.zone:
			o.tenants = append(o.tenants, v.VNet)
		}
	}
	for i := range o.nodes {
		if node := &o.nodes[i]; node.online && node.known && failed[node.name] == nil {
			if err := n.observeNode(ctx, node); err != nil {
				failed[node.name] = err
			}
		}
	}
	return o, nil
}

// observeNode looks at the vnet on one node.
func (n sdnBridge) observeNode(ctx context.Context, node *sdnNode) error {
	node.reloading = false
	if err := n.observeStatus(ctx, node); err != nil || node.wanted && node.status == proxmox.SDNAvailable {
		return err
	}
	running, err := n.conn.API.Tasks(ctx, node.name, proxmox.TaskFilter{Source: "active", Type: reloadTasks, Limit: 1})
	if err != nil {
		return lxc.Classify(fmt.Errorf("list the reloads of %s: %w", node.name, err))
	}
	if node.reloading = len(running) > 0; node.reloading {
		return nil
	}
	// A reload that ended between the two questions is in neither answer.
	return n.observeStatus(ctx, node)
}

// observeStatus asks a node what has become of the vnet there.
func (n sdnBridge) observeStatus(ctx context.Context, node *sdnNode) error {
	node.status, node.message = "", "the node knows no such network"
	rows, err := n.conn.API.NodeSDNVNets(ctx, node.name, n.names.zone)
	if err != nil && !proxmox.IsNotExist(err) {
		return sdnError(fmt.Errorf("look at SDN zone %s on %s: %w", n.names.zone, node.name, err))
	}
	for _, row := range rows {
		if row.VNet == n.names.vnet {
			node.status, node.message = row.Status, row.Message
		}
	}
	return nil
}

// lastReload is the UPID of a node's last reload, and how it ended ("" while it runs).
func (n sdnBridge) lastReload(ctx context.Context, node string) (upid, status string, err error) {
	rows, err := n.conn.API.Tasks(ctx, node, proxmox.TaskFilter{Source: "all", Type: reloadTasks, Limit: 1})
	if err != nil || len(rows) == 0 {
		return "", "", err
	}
	if rows[0].End == 0 {
		return rows[0].UPID.String(), "", nil
	}
	return rows[0].UPID.String(), rows[0].Status, nil
}

// lookAtOthers adds what has to be known before anything is changed: what is staged by whomever,
// in the cluster and on its nodes, and whether the names are free.
func (n sdnBridge) lookAtOthers(ctx context.Context, d *sdnDesired, o *sdnSeen) (err error) {
	if o.changes, err = n.conn.API.SDNChanges(ctx); err != nil {
		return sdnError(fmt.Errorf("list pending SDN changes: %w", err))
	}
	for i := range o.nodes {
		node := &o.nodes[i]
		if !node.online {
			continue
		}
		net, err := n.conn.API.ListNetwork(ctx, node.name)
		if err != nil {
			return lxc.Classify(fmt.Errorf("list the network of %s: %w", node.name, err))
		}
		node.pending = net.Changes != ""
		_, node.taken = net.Find(n.names.vnet)
	}
	if d == nil {
		return nil
	}
	if o.zone == nil && !o.recorded {
		// A list may be short of what the token may not see.
		switch _, err := n.conn.API.SDNZone(ctx, n.names.zone); {
		case err == nil:
			return runtime.Stalled("ZoneTaken", "there is an SDN zone %s that is not ours; use another spec.sdn.zone", n.names.zone)
		case !proxmox.IsNotExist(err):
			return sdnError(fmt.Errorf("look for SDN zone %s: %w", n.names.zone, err))
		}
	}
	o.tagUser, err = n.tagUser(ctx, d)
	return err
}

// tagUser finds another vnet of a vxlan zone that has our tag.
func (n sdnBridge) tagUser(ctx context.Context, d *sdnDesired) (string, error) {
	if d.want["tag"] == "" {
		return "", nil
	}
	vnets, err := n.conn.API.SDNVNets(ctx, proxmox.SDNStaged)
	if err != nil {
		return "", sdnError(fmt.Errorf("list the SDN vnets: %w", err))
	}
	zones, err := n.conn.API.SDNZones(ctx, proxmox.SDNStaged)
	if err != nil {
		return "", sdnError(fmt.Errorf("list the SDN zones: %w", err))
	}
	for _, v := range vnets {
		vxlan := slices.ContainsFunc(zones, func(z proxmox.SDNZone) bool { return z.Zone == v.Zone && z.Type == common.ZoneVXLAN })
		if v.VNet != d.vnet && vxlan && fmt.Sprint(int(v.Tag)) == d.want["tag"] {
			return v.VNet, nil
		}
	}
	return "", nil
}

// act takes one step. What starts a task returns its UPID.
func (n sdnBridge) act(ctx context.Context, st step, d *sdnDesired, o sdnSeen) (upid string, err error) {
	api := n.conn.API
	var task proxmox.UPID
	switch st.Action {
	case actionWriteZone:
		if o.stagedZone() != nil {
			return "", api.UpdateSDNZone(ctx, d.zone, d.update(o, zoneSettings))
		}
		mtu := 0
		_, _ = fmt.Sscan(d.want["mtu"], &mtu) // "" is none
		return "", api.CreateSDNZone(ctx, proxmox.SDNZone{Zone: d.zone, Type: d.kind, Nodes: d.want["nodes"], Peers: d.want["peers"], MTU: proxmox.Int(mtu)})
	case actionWriteVNet:
		if o.stagedVNet() != nil {
			return "", api.UpdateSDNVNet(ctx, d.vnet, d.update(o, vnetSettings))
		}
		tag := 0
		_, _ = fmt.Sscan(d.want["tag"], &tag)
		return "", api.CreateSDNVNet(ctx, proxmox.SDNVNet{VNet: d.vnet, Zone: d.zone, Tag: proxmox.Int(tag), Alias: d.want["alias"]})
	case actionRemoveVNet:
		return "", gone(api.DeleteSDNVNet(ctx, n.names.vnet))
	case actionRemoveZone:
		return "", gone(api.DeleteSDNZone(ctx, n.names.zone))
	case actionApply:
		task, err = api.ApplySDN(ctx)
	case actionReload:
		task, err = api.ReloadNetwork(ctx, st.node)
	default:
		return "", fmt.Errorf("no way to take step %s", st.Action)
	}
	if err != nil {
		return "", err
	}
	return task.String(), nil
}

// gone makes a removal of what is not there a success.
func gone(err error) error {
	if proxmox.IsNotExist(err) {
		return nil
	}
	return err
}

// update sets those of the settings that are to be changed.
func (d *sdnDesired) update(o sdnSeen, among []string) proxmox.SDNUpdate {
	u := proxmox.SDNUpdate{Set: map[string]string{}}
	for _, key := range without(d.differs(o, among), d.drifted(o)...) {
		if d.want[key] == "" {
			u.Delete = append(u.Delete, key)
			continue
		}
		u.Set[key] = d.want[key]
	}
	return u
}

// sdnError sorts what the API says of the software-defined network.
func sdnError(err error) error {
	if proxmox.IsSDNLocked(err) {
		return runtime.Waiting(common.DependencyRecheck, "SDNLocked", "somebody holds the lock of the cluster's SDN configuration: %v; it is tried again until the lock is released", err)
	}
	return lxc.Classify(err)
}

// nodesOf lists the nodes of the cluster, with the addresses that are known of those that
// should have the Bridge.
func nodesOf(s *session, all members, rep *report, address map[string]string) (nodes []sdnNode) {
	written := common.BridgeWritten(s.Object)
	for _, m := range all {
		n := sdnNode{name: m.name, online: m.online, wanted: rep.wanted && rep.wants(m.name), written: slices.Contains(written, m.name)}
		n.known = n.wanted || n.written
		if n.wanted {
			e := entryOf(s, m.name)
			if address[m.name] != "" && e.GetAddress() != address[m.name] {
				e.Address = proto.String(address[m.name])
			}
			n.address = e.GetAddress()
		}
		nodes = append(nodes, n)
	}
	return nodes
}
