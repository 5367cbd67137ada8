package bridge

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Steps of the backend sdn. Zone and virtual network are staged; Apply makes everything live
// that is staged in the cluster, and actionReload lets one node take over what was applied.
const (
	actionWriteZone  = "WriteZone"
	actionWriteVNet  = "WriteVNet"
	actionRemoveVNet = "RemoveVNet"
	actionRemoveZone = "RemoveZone"
	actionApply      = "Apply"
)

// zoneSettings and vnetSettings are the properties that the object decides, by their names in
// the API. Proxmox' own DHCP stays off, and with it its address management: they are the
// appliance's job.
var (
	zoneSettings = []string{"peers", "mtu", "nodes", "dhcp"}
	vnetSettings = []string{"zone", "tag", "alias"}
)

// sdnDesired is the zone and the virtual network as they should be.
type sdnDesired struct {
	zone, vnet, kind string
	policy           string
	want             map[string]string // every setting, "" is not set
}

// sdnNode is what was seen of the virtual network on one node.
type sdnNode struct {
	name, address  string
	online, wanted bool
	known          bool // it should have the network or may have it; others only reload with the rest
	// status is available, pending or error, "" when the node knows no such network.
	status, message string
	reloading       bool // a reload of its network is under way
	written         bool // it may have the network
	pending         bool // changes of its own network are staged, which a reload applies
	taken           bool // somebody defines an interface of that name
}

// sdnSeen is what was seen of a Bridge in the cluster's software-defined network.
type sdnSeen struct {
	// zone and vnet are the rows of that name as they are staged, nil when there is none;
	// their State says what of that does not run yet.
	zone *proxmox.SDNZone
	vnet *proxmox.SDNVNet
	// vnetOurs: the vnet has our mark. madeFor is the uid that a mark of this installation on
	// it names, ours or not. recorded: the zone was made by us, as far as is known.
	vnetOurs, recorded bool
	madeFor            string
	tenants            []string // other vnets in the zone
	tagUser            string   // another vnet that has the tag
	nodes              []sdnNode
	applied            map[string]string
	// changes are all that is staged by whomever; nil as long as nobody has looked.
	changes []proxmox.SDNChange
}

// stagedZone is the zone as it will be, nil when there will be none.
func (o sdnSeen) stagedZone() *proxmox.SDNZone {
	if o.zone == nil || o.zone.State == proxmox.SDNDeleted {
		return nil
	}
	return o.zone
}

// stagedVNet is likewise.
func (o sdnSeen) stagedVNet() *proxmox.SDNVNet {
	if o.vnet == nil || o.vnet.State == proxmox.SDNDeleted {
		return nil
	}
	return o.vnet
}

// zoneOurs tells whether the zone, which has no room for a mark, is ours: our vnet is in it,
// or we made it and nobody else uses it.
func (o sdnSeen) zoneOurs(d *sdnDesired) bool {
	if o.zone == nil {
		return false
	}
	if o.vnetOurs && o.vnet.Zone == o.zone.Zone {
		return true
	}
	return o.recorded && len(o.tenants) == 0 && (d == nil || o.zone.Type == d.kind)
}

// sdnDesire is what a Bridge asks for, with these nodes.
func sdnDesire(b *v1alpha1.Bridge, mark ownership.Mark, nodes []sdnNode) *sdnDesired {
	spec := b.GetSpec()
	d := &sdnDesired{zone: spec.GetSdn().GetZone(), vnet: spec.GetInterfaceName(), kind: spec.GetSdn().GetType(), policy: spec.GetDriftPolicy(),
		want: map[string]string{"zone": spec.GetSdn().GetZone(), "alias": mark.Comment(), "dhcp": "", "mtu": "", "peers": "", "tag": ""}}
	if mtu := common.BridgeMTU(b); mtu != 0 {
		d.want["mtu"] = strconv.Itoa(mtu)
	}
	only := slices.Clone(spec.GetNodes())
	slices.Sort(only)
	d.want["nodes"] = strings.Join(only, ",")
	if !common.BridgeSpans(b) {
		return d
	}
	tag := spec.GetSdn().GetTag()
	if tag == 0 {
		tag = tagOf(mark.UID)
	}
	d.want["tag"] = strconv.Itoa(int(tag))
	peers := slices.Clone(spec.GetSdn().GetPeers())
	if len(peers) == 0 {
		for _, n := range nodes {
			if n.wanted && n.address != "" {
				peers = append(peers, n.address)
			}
		}
	}
	slices.Sort(peers)
	d.want["peers"] = strings.Join(slices.Compact(peers), ",")
	return d
}

// tagOf makes a VXLAN network identifier of a uid: the same one after the database was lost,
// and not likely that of another network between the same machines.
func tagOf(uid string) int32 {
	const most = 1<<24 - 2
	sum := sha256.Sum256([]byte("vni/" + uid))
	return int32(binary.BigEndian.Uint32(sum[:])%most) + 1
}

// have are the settings of a zone and a vnet as they were seen; those of what is not there
// are missing.
func (o sdnSeen) have() map[string]string {
	m := map[string]string{}
	number := func(n proxmox.Int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(int(n))
	}
	if z := o.stagedZone(); z != nil {
		m["peers"], m["mtu"], m["nodes"], m["dhcp"] = sorted(z.Peers), number(z.MTU), sorted(z.Nodes), z.DHCP
	}
	if v := o.stagedVNet(); v != nil {
		m["zone"], m["tag"], m["alias"] = v.Zone, number(v.Tag), v.Alias
	}
	return m
}

// sorted puts a list of the API, whose order means nothing, into one order.
func sorted(list string) string {
	items := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
	slices.Sort(items)
	return strings.Join(items, ",")
}

// differs lists which of these settings are not as they should be.
func (d *sdnDesired) differs(o sdnSeen, among []string) (keys []string) {
	have := o.have()
	for _, key := range among {
		if was, there := have[key]; there && was != d.want[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// drifted lists those that somebody changed by hand and the policy leaves so. The mark and
// the network's place are put back in any case, or it would not be known again.
func (d *sdnDesired) drifted(o sdnSeen) []string {
	return driftOf(d.policy, d.differs(o, append([]string{"tag"}, zoneSettings...)), d.want, o.applied)
}

// staged tells for zone and vnet whether something of ours is staged and does not run yet. What
// somebody else staged for them, and the policy leaves so, is not ours to apply.
func (d *sdnDesired) staged(o sdnSeen) (zone, vnet bool) {
	if z := o.stagedZone(); z != nil && z.State != "" {
		zone = d.mine(z.Pending, zoneSettings)
	}
	if v := o.stagedVNet(); v != nil && v.State != "" {
		vnet = d.mine(v.Pending, vnetSettings)
	}
	return zone, vnet
}

// mine tells whether all that is staged is what is desired.
func (d *sdnDesired) mine(pending map[string]proxmox.Text, among []string) bool {
	for key, value := range pending {
		want, ours := d.want[key]
		switch {
		case key == "type" || key == "vnet":
		case !ours || !slices.Contains(among, key):
			return false
		case sorted(string(value)) != want && string(value) != want && !(want == "" && value == "deleted"):
			return false
		}
	}
	return true
}

// planSDN lists the steps; nil desired is deletion. It does no I/O and reads no clock.
func planSDN(d *sdnDesired, o sdnSeen, names sdnNames) ([]step, *runtime.Blocked) {
	if d == nil {
		return removeSDN(o, names)
	}
	if blocked := d.taken(o); blocked != nil {
		return nil, blocked
	}
	var todo []step
	zone := without(d.differs(o, zoneSettings), d.drifted(o)...)
	vnet := without(d.differs(o, vnetSettings), d.drifted(o)...)
	switch {
	case o.stagedZone() == nil:
		todo = append(todo, newStep(actionWriteZone, "", "create SDN zone %s (%s)", d.zone, d.inWords()))
	case len(zone) > 0:
		todo = append(todo, newStep(actionWriteZone, "", "change %s of SDN zone %s", inWords(zone), d.zone))
	}
	switch {
	case o.stagedVNet() == nil:
		todo = append(todo, newStep(actionWriteVNet, "", "create SDN vnet %s in zone %s%s", d.vnet, d.zone, tagInWords(d.want["tag"])))
	case len(vnet) > 0:
		todo = append(todo, newStep(actionWriteVNet, "", "change %s of SDN vnet %s", inWords(vnet), d.vnet))
	}
	zoneMine, vnetMine := d.staged(o)
	if len(todo) > 0 || zoneMine || vnetMine {
		todo = append(todo, applyStep())
		return o.unlessPending(todo, d)
	}
	for _, n := range o.nodes {
		switch {
		case !n.online || n.reloading:
		case n.wanted && n.status != proxmox.SDNAvailable:
			todo = append(todo, reloadStep(n.name))
		case !n.wanted && n.written:
			todo = append(todo, reloadStep(n.name))
		}
	}
	return o.unlessPending(todo, d)
}

// sdnNames are the names that a Bridge's zone and vnet have, also when it is to be deleted.
type sdnNames struct{ zone, vnet string }

// removeSDN takes out what is ours, and lets every node that may have it give it up.
func removeSDN(o sdnSeen, names sdnNames) ([]step, *runtime.Blocked) {
	var todo []step
	live := false // something of ours runs that is not to run any more
	if o.vnet != nil && o.vnetOurs {
		if o.vnet.State != proxmox.SDNDeleted {
			todo = append(todo, newStep(actionRemoveVNet, "", "remove SDN vnet %s", names.vnet))
		}
		live = live || o.vnet.State != proxmox.SDNNew
	}
	if o.zoneOurs(nil) && len(o.tenants) == 0 {
		if o.zone.State != proxmox.SDNDeleted {
			todo = append(todo, newStep(actionRemoveZone, "", "remove SDN zone %s", names.zone))
		}
		live = live || o.zone.State != proxmox.SDNNew
	}
	if live {
		todo = append(todo, applyStep())
	} else {
		for _, n := range o.nodes {
			if n.written && n.online && !n.reloading {
				todo = append(todo, reloadStep(n.name))
			}
		}
	}
	return o.unlessPending(todo, nil)
}

func applyStep() step {
	return newStep(actionApply, "", "apply the SDN configuration: every node that is online reloads its network")
}

func reloadStep(node string) step {
	return newStep(actionReload, node, "reload the network of node %s", node)
}

// taken tells why nothing can be made under these names.
func (d *sdnDesired) taken(o sdnSeen) *runtime.Blocked {
	switch {
	case o.stagedVNet() != nil && !o.vnetOurs && o.madeFor != "":
		return &runtime.Blocked{Reason: "UIDUnknown", Text: fmt.Sprintf(
			"SDN vnet %s was made for a Bridge of this installation with uid %s, which is not this one (the database was lost, or the object was deleted and the vnet left); "+
				"run `proxctl admin rebuild` to take it back, or remove the vnet", d.vnet, o.madeFor)}
	case o.stagedVNet() != nil && !o.vnetOurs:
		return &runtime.Blocked{Reason: "VNetTaken", Text: fmt.Sprintf("there is an SDN vnet %s that is not ours; use another spec.interfaceName", d.vnet)}
	case o.stagedZone() != nil && !o.zoneOurs(d) && len(o.tenants) == 0 && o.zone.Type == d.kind:
		return &runtime.Blocked{Reason: "ZoneTaken", Text: fmt.Sprintf(
			"there is an SDN zone %s (%s) without a vnet, and nothing tells that it is ours; remove it if it is, or use another spec.sdn.zone", d.zone, o.zone.Type)}
	case o.stagedZone() != nil && !o.zoneOurs(d):
		return &runtime.Blocked{Reason: "ZoneTaken", Text: fmt.Sprintf("there is an SDN zone %s (%s) that is not ours; use another spec.sdn.zone", d.zone, o.zone.Type)}
	case o.tagUser != "":
		return &runtime.Blocked{Reason: "TagTaken", Text: fmt.Sprintf("SDN vnet %s has the VXLAN tag %s already; use another spec.sdn.tag", o.tagUser, d.want["tag"])}
	}
	for _, n := range o.nodes {
		if n.taken && n.wanted {
			return &runtime.Blocked{Reason: "InterfaceTaken", Text: fmt.Sprintf("node %s has an interface %s that is not ours; use another spec.interfaceName", n.name, d.vnet)}
		}
	}
	return nil
}

// unlessPending holds steps back that would make changes of somebody else live.
func (o sdnSeen) unlessPending(todo []step, d *sdnDesired) ([]step, *runtime.Blocked) {
	if len(todo) == 0 {
		return nil, nil
	}
	whole := slices.ContainsFunc(todo, func(s step) bool { return s.Action == actionApply })
	if foreign := o.foreign(d); whole && len(foreign) > 0 {
		return nil, &runtime.Blocked{Reason: "ForeignPendingChanges", Text: fmt.Sprintf(
			"the cluster has pending SDN changes of somebody else: %s; applying ours would apply them too. Apply or revert them in Proxmox (Datacenter > SDN)", strings.Join(foreign, ", "))}
	}
	var blocked *runtime.Blocked
	var kept []step
	for _, s := range todo {
		i := slices.IndexFunc(o.nodes, func(n sdnNode) bool { return n.online && n.pending && (s.node == n.name || whole) })
		if i < 0 {
			kept = append(kept, s)
			continue
		}
		blocked = &runtime.Blocked{Reason: "ForeignPendingChanges", Text: fmt.Sprintf(
			"node %s has pending network changes; applying ours would apply them too. Apply or revert them in Proxmox (Node > Network)", o.nodes[i].name)}
	}
	return kept, blocked
}

// foreign lists what is staged and not ours. A change of our own zone or vnet that is not
// what is desired, and that the policy leaves to whoever made it, is theirs, too.
func (o sdnSeen) foreign(d *sdnDesired) (list []string) {
	for _, c := range o.changes {
		switch {
		case c.Kind == "zone" && o.zone != nil && c.ID == o.zone.Zone && o.zoneOurs(d):
			if d == nil || o.stagedZone() == nil || d.correctable(o.zone.Pending, d.differs(o, zoneSettings), d.drifted(o), zoneSettings) {
				continue
			}
		case c.Kind == "vnet" && o.vnet != nil && c.ID == o.vnet.VNet && o.vnetOurs:
			if d == nil || o.stagedVNet() == nil || d.correctable(o.vnet.Pending, d.differs(o, vnetSettings), d.drifted(o), vnetSettings) {
				continue
			}
		}
		list = append(list, c.String())
	}
	return list
}

// correctable tells whether nothing foreign is left of what is staged for our own object once
// the steps have been taken: each setting is as desired, or will be set.
func (d *sdnDesired) correctable(pending map[string]proxmox.Text, differs, drifted, among []string) bool {
	rest := map[string]proxmox.Text{}
	for key, value := range pending {
		if !slices.Contains(differs, key) || slices.Contains(drifted, key) {
			rest[key] = value
		}
	}
	return d.mine(rest, among)
}

// inWords is what a zone is made with.
func (d *sdnDesired) inWords() string {
	text := d.kind
	if d.want["peers"] != "" {
		text += " between " + strings.ReplaceAll(d.want["peers"], ",", ", ")
	}
	if d.want["mtu"] != "" {
		text += ", MTU " + d.want["mtu"]
	}
	return text
}

func tagInWords(tag string) string {
	if tag == "" {
		return ""
	}
	return " with tag " + tag
}
