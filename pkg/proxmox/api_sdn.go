package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Names of zones and virtual networks become interface names: they are short (pve-network,
// Zones/Plugin.pm and VnetPlugin.pm).
var (
	sdnZoneName = regexp.MustCompile(`^[a-z][a-z0-9]{1,7}$`)
	sdnVNetName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]{0,6}[a-zA-Z0-9]$`)
)

// ValidSDNName reports whether a zone and a virtual network can have that name on every
// version: 2 to 8 characters of a-z and 0-9, a letter first.
func ValidSDNName(name string) bool { return sdnZoneName.MatchString(name) }

// SDNZone is a zone of the software-defined network. Type simple is an isolated bridge per
// node with routing, NAT and DHCP of Proxmox's own, type vxlan one network over all nodes.
type SDNZone struct {
	Zone  string `json:"zone"`
	Type  string `json:"type"`  // simple, vlan, qinq, vxlan, evpn
	Nodes string `json:"nodes"` // comma separated; "" is all
	Peers string `json:"peers"` // of a vxlan zone: addresses of its nodes, comma separated
	IPAM  string `json:"ipam"`
	DHCP  string `json:"dhcp"` // dnsmasq or ""
	MTU   Int    `json:"mtu"`
	// Digest of all zones as they are staged; "" in the other views.
	Digest Text `json:"digest"`
	// State of a staged change, with SDNPending: new, changed or deleted.
	State   string          `json:"state"`
	Pending map[string]Text `json:"pending"`
}

// SDNVNet is a virtual network: a bridge of that name on every node of its zone.
type SDNVNet struct {
	VNet      string          `json:"vnet"`
	Zone      string          `json:"zone"`
	Tag       Int             `json:"tag"`
	Alias     string          `json:"alias"`
	VLANAware Bool            `json:"vlanaware"`
	Digest    Text            `json:"digest"`
	State     string          `json:"state"`
	Pending   map[string]Text `json:"pending"`
}

// What SDNPending tells of an object that is to change.
const (
	SDNNew     = "new"
	SDNChanged = "changed"
	SDNDeleted = "deleted"
)

// pendingDelete is the value of a property that is to go.
const pendingDelete = "deleted"

// stage puts what is pending into the fields, by their names.
func stage(pending map[string]Text, fields map[string]*string) {
	for key, v := range pending {
		if field := fields[key]; field != nil {
			if *field = string(v); v == pendingDelete {
				*field = ""
			}
		}
	}
}

// Staged is a row of the view SDNPending as it is staged. One whose State is SDNDeleted is
// not staged any more: what it tells is what runs.
func (z SDNZone) Staged() SDNZone {
	mtu := ""
	if z.MTU != 0 {
		mtu = strconv.Itoa(int(z.MTU))
	}
	stage(z.Pending, map[string]*string{"type": &z.Type, "nodes": &z.Nodes, "peers": &z.Peers, "ipam": &z.IPAM, "dhcp": &z.DHCP, "mtu": &mtu})
	n, _ := strconv.Atoi(mtu) // the API checked it; "" is none
	z.MTU = Int(n)
	return z
}

// Staged is likewise.
func (v SDNVNet) Staged() SDNVNet {
	tag := ""
	if v.Tag != 0 {
		tag = strconv.Itoa(int(v.Tag))
	}
	stage(v.Pending, map[string]*string{"zone": &v.Zone, "alias": &v.Alias, "tag": &tag})
	n, _ := strconv.Atoi(tag)
	v.Tag = Int(n)
	return v
}

// SDNSubnet is a subnet of a virtual network.
type SDNSubnet struct {
	// ID is such as zone-10.0.0.0-24.
	ID      string `json:"subnet"`
	CIDR    string `json:"cidr"`
	VNet    string `json:"vnet"`
	Zone    string `json:"zone"`
	Gateway string `json:"gateway"`
	// SNAT: guests reach the outside by the node's address.
	SNAT  Bool   `json:"snat"`
	State string `json:"state"`
}

// SDNView is which state of the configuration is read.
type SDNView string

// Views of the software-defined network.
const (
	SDNStaged  SDNView = ""        // what is written
	SDNPending SDNView = "pending" // likewise, with what differs from the running one
	SDNRunning SDNView = "running" // what was applied last
)

func (v SDNView) on(r request) request {
	if v == SDNStaged {
		return r
	}
	return r.withBool(string(v), true)
}

// SDNZones lists the zones that the caller may audit.
func (c *Client) SDNZones(ctx context.Context, v SDNView) ([]SDNZone, error) {
	return fetch[[]SDNZone](ctx, c, v.on(route(http.MethodGet, "/cluster/sdn/zones")))
}

// CreateSDNZone stages a zone; it needs SDN.Allocate. Nothing is live before ApplySDN.
func (c *Client) CreateSDNZone(ctx context.Context, z SDNZone) error {
	if !sdnZoneName.MatchString(z.Zone) {
		return fmt.Errorf("proxmox: %.40q is not a zone's name: 2 to 8 of a-z and 0-9, a letter first", z.Zone)
	}
	r := route(http.MethodPost, "/cluster/sdn/zones").with("zone", z.Zone).with("type", z.Type).
		with("nodes", z.Nodes).with("peers", z.Peers).with("ipam", z.IPAM).with("dhcp", z.DHCP).withInt("mtu", int(z.MTU))
	_, err := c.call(ctx, r, nil)
	return err
}

// SDNZone reads one zone as it is staged; it needs SDN.Allocate on it. Only this tells for
// sure that there is none ([IsNotExist]).
func (c *Client) SDNZone(ctx context.Context, zone string) (SDNZone, error) {
	if !sdnZoneName.MatchString(zone) {
		return SDNZone{}, fmt.Errorf("proxmox: %.40q is not a zone's name", zone)
	}
	return fetch[SDNZone](ctx, c, route(http.MethodGet, "/cluster/sdn/zones/{zone}", zone))
}

// SDNUpdate is a change of a zone or of a virtual network, staged.
type SDNUpdate struct {
	Set    map[string]string // by the names of the API; "" must not be set but deleted
	Delete []string
}

func (u SDNUpdate) on(r request) request {
	for key, value := range u.Set {
		r = r.with(key, value)
	}
	return r.withList("delete", u.Delete)
}

// UpdateSDNZone stages a change of a zone.
func (c *Client) UpdateSDNZone(ctx context.Context, zone string, u SDNUpdate) error {
	if !sdnZoneName.MatchString(zone) {
		return fmt.Errorf("proxmox: %.40q is not a zone's name", zone)
	}
	_, err := c.call(ctx, u.on(route(http.MethodPut, "/cluster/sdn/zones/{zone}", zone)), nil)
	return err
}

// DeleteSDNZone stages the removal of a zone, which must have no networks.
func (c *Client) DeleteSDNZone(ctx context.Context, zone string) error {
	if !sdnZoneName.MatchString(zone) {
		return fmt.Errorf("proxmox: %.40q is not a zone's name", zone)
	}
	_, err := c.call(ctx, route(http.MethodDelete, "/cluster/sdn/zones/{zone}", zone), nil)
	return err
}

// SDNVNets lists the virtual networks that the caller may audit.
func (c *Client) SDNVNets(ctx context.Context, v SDNView) ([]SDNVNet, error) {
	return fetch[[]SDNVNet](ctx, c, v.on(route(http.MethodGet, "/cluster/sdn/vnets")))
}

func checkVNet(name string) error {
	if !sdnVNetName.MatchString(name) {
		return fmt.Errorf("proxmox: %.40q is not a virtual network's name: 2 to 8 letters and digits, a letter first", name)
	}
	return nil
}

// CreateSDNVNet stages a virtual network.
func (c *Client) CreateSDNVNet(ctx context.Context, v SDNVNet) error {
	if err := checkVNet(v.VNet); err != nil {
		return err
	}
	r := route(http.MethodPost, "/cluster/sdn/vnets").with("vnet", v.VNet).with("zone", v.Zone).
		withInt("tag", int(v.Tag)).with("alias", v.Alias).withBool("vlanaware", bool(v.VLANAware))
	_, err := c.call(ctx, r, nil)
	return err
}

// UpdateSDNVNet stages a change of a virtual network.
func (c *Client) UpdateSDNVNet(ctx context.Context, vnet string, u SDNUpdate) error {
	if err := checkVNet(vnet); err != nil {
		return err
	}
	_, err := c.call(ctx, u.on(route(http.MethodPut, "/cluster/sdn/vnets/{vnet}", vnet)), nil)
	return err
}

// DeleteSDNVNet stages the removal of a virtual network, which must have no subnets.
func (c *Client) DeleteSDNVNet(ctx context.Context, vnet string) error {
	if err := checkVNet(vnet); err != nil {
		return err
	}
	_, err := c.call(ctx, route(http.MethodDelete, "/cluster/sdn/vnets/{vnet}", vnet), nil)
	return err
}

// SDNSubnets lists a virtual network's subnets.
func (c *Client) SDNSubnets(ctx context.Context, vnet string, v SDNView) ([]SDNSubnet, error) {
	if err := checkVNet(vnet); err != nil {
		return nil, err
	}
	return fetch[[]SDNSubnet](ctx, c, v.on(route(http.MethodGet, "/cluster/sdn/vnets/{vnet}/subnets", vnet)))
}

// CreateSDNSubnet stages a subnet of s.VNet: s.CIDR, s.Gateway and s.SNAT are sent.
func (c *Client) CreateSDNSubnet(ctx context.Context, s SDNSubnet) error {
	err := checkVNet(s.VNet)
	if _, bad := netip.ParsePrefix(s.CIDR); bad != nil {
		err = errors.Join(err, fmt.Errorf("proxmox: subnet: %w", bad))
	}
	if err != nil {
		return err
	}
	r := route(http.MethodPost, "/cluster/sdn/vnets/{vnet}/subnets", s.VNet).with("type", "subnet").
		with("subnet", s.CIDR).with("gateway", s.Gateway).withBool("snat", bool(s.SNAT))
	_, err = c.call(ctx, r, nil)
	return err
}

// DeleteSDNSubnet stages the removal of a subnet by its id.
func (c *Client) DeleteSDNSubnet(ctx context.Context, vnet, id string) error {
	if err := checkVNet(vnet); err != nil {
		return err
	}
	if id == "" || strings.ContainsAny(id, "/ ") {
		return fmt.Errorf("proxmox: %.60q is not a subnet's id, such as zone-10.0.0.0-24", id)
	}
	_, err := c.call(ctx, route(http.MethodDelete, "/cluster/sdn/vnets/{vnet}/subnets/{subnet}", vnet, id), nil)
	return err
}

// ApplySDN makes the staged configuration live on all nodes. It reloads their network
// configuration, so that edits staged by NetworkAdmin become live, too. The task ends OK
// although a node failed: look at [Client.NodeSDNZones].
func (c *Client) ApplySDN(ctx context.Context) (UPID, error) {
	return launch(ctx, c, route(http.MethodPut, "/cluster/sdn"))
}

// NodeSDNZone is how a zone is on one node: available, pending or error.
type NodeSDNZone struct {
	Zone   string `json:"zone"`
	Status string `json:"status"`
}

// NodeSDNZones asks a node how its zones are.
func (c *Client) NodeSDNZones(ctx context.Context, node string) ([]NodeSDNZone, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return fetch[[]NodeSDNZone](ctx, c, route(http.MethodGet, "/nodes/{node}/sdn/zones", node))
}

// NodeSDNVNet is how a virtual network is on one node: available, pending (the node has not
// taken over the last apply) or error.
type NodeSDNVNet struct {
	VNet    string `json:"vnet"`
	Status  string `json:"status"`
	Message string `json:"statusmsg"`
}

// SDNAvailable is the status of what is as it should be.
const SDNAvailable = "available"

// NodeSDNVNets asks a node how the networks of a zone are; it needs SDN.Audit on the zone.
func (c *Client) NodeSDNVNets(ctx context.Context, node, zone string) ([]NodeSDNVNet, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	if !sdnZoneName.MatchString(zone) {
		return nil, fmt.Errorf("proxmox: %.40q is not a zone's name", zone)
	}
	return fetch[[]NodeSDNVNet](ctx, c, route(http.MethodGet, "/nodes/{node}/sdn/zones/{zone}/content", node, zone))
}

// SDNController is what exchanges routes for zones of type evpn.
type SDNController struct {
	Controller string `json:"controller"`
	Type       string `json:"type"`
	State      string `json:"state"`
}

// SDNControllers lists the controllers that the caller may audit.
func (c *Client) SDNControllers(ctx context.Context, v SDNView) ([]SDNController, error) {
	return fetch[[]SDNController](ctx, c, v.on(route(http.MethodGet, "/cluster/sdn/controllers")))
}

// SDNChange is something that somebody staged and nobody applied.
type SDNChange struct {
	Kind, ID string // zone, vnet, subnet or controller
	State    string // new, changed or deleted
}

// String is for messages: zone lab (new).
func (s SDNChange) String() string { return fmt.Sprintf("%s %s (%s)", s.Kind, s.ID, s.State) }

// SDNChanges lists everything that ApplySDN would make live, whoever staged it, in the
// order of kind and id. What the caller may not audit is not among it: it takes SDN.Audit on
// all of /sdn to see everything.
func (c *Client) SDNChanges(ctx context.Context) ([]SDNChange, error) {
	var out []SDNChange
	add := func(kind, id, state string) {
		if state != "" {
			out = append(out, SDNChange{kind, id, state})
		}
	}
	zones, err := c.SDNZones(ctx, SDNPending)
	if err != nil {
		return nil, err
	}
	for _, z := range zones {
		add("zone", z.Zone, z.State)
	}
	vnets, err := c.SDNVNets(ctx, SDNPending)
	if err != nil {
		return nil, err
	}
	for _, v := range vnets {
		add("vnet", v.VNet, v.State)
		if v.State == SDNDeleted {
			continue // one that has subnets cannot be deleted
		}
		subnets, err := c.SDNSubnets(ctx, v.VNet, SDNPending)
		if err != nil {
			return nil, err
		}
		for _, s := range subnets {
			add("subnet", s.ID, s.State)
		}
	}
	controllers, err := c.SDNControllers(ctx, SDNPending)
	if err != nil {
		return nil, err
	}
	for _, c := range controllers {
		add("controller", c.Controller, c.State)
	}
	slices.SortFunc(out, func(a, b SDNChange) int { return strings.Compare(a.Kind+a.ID, b.Kind+b.ID) })
	return out, nil
}
