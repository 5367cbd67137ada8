package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
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
// node with routing, NAT and DHCP of Proxmox's own.
type SDNZone struct {
	Zone  string `json:"zone"`
	Type  string `json:"type"`  // simple, vlan, qinq, vxlan, evpn
	Nodes string `json:"nodes"` // comma separated; "" is all
	IPAM  string `json:"ipam"`
	DHCP  string `json:"dhcp"` // dnsmasq or ""
	MTU   Int    `json:"mtu"`
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
	State     string          `json:"state"`
	Pending   map[string]Text `json:"pending"`
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
		with("nodes", z.Nodes).with("ipam", z.IPAM).with("dhcp", z.DHCP).withInt("mtu", int(z.MTU))
	_, err := c.call(ctx, r, nil)
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
