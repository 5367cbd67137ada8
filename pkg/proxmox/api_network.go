package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Network is a node's network configuration as staged, and whether staged differs from
// live.
type Network struct {
	Interfaces []Interface
	// Changes is a unified diff of live against staged /etc/network/interfaces; "" when
	// nothing is staged. Staging is shared with every administrator and tool: a reload
	// applies their edits too, and a revert throws them away. Check it before starting.
	Changes string
}

// Find returns the interface of that name.
func (n Network) Find(name string) (Interface, bool) {
	for _, i := range n.Interfaces {
		if i.Iface == name {
			return i, true
		}
	}
	return Interface{}, false
}

// Interface is a row of GET /nodes/{node}/network.
type Interface struct {
	Iface       string   `json:"iface"`
	Type        string   `json:"type"`   // bridge, bond, eth, vlan, alias, OVS..., unknown
	Active      Bool     `json:"active"` // the kernel has it, and it is up
	Exists      Bool     `json:"exists"` // a physical one is present
	Autostart   Bool     `json:"autostart"`
	Method      string   `json:"method"`
	Method6     string   `json:"method6"`
	Families    []string `json:"families"`
	CIDR        string   `json:"cidr"`
	Address     string   `json:"address"`
	Netmask     Text     `json:"netmask"`
	Gateway     string   `json:"gateway"`
	CIDR6       string   `json:"cidr6"`
	Address6    string   `json:"address6"`
	Netmask6    Text     `json:"netmask6"`
	Gateway6    string   `json:"gateway6"`
	BridgePorts string   `json:"bridge_ports"`
	VLANAware   Bool     `json:"bridge_vlan_aware"`
	VIDs        Text     `json:"bridge_vids"`
	MTU         Int      `json:"mtu"`
	Priority    Int      `json:"priority"`
	Options     []string `json:"options"`
	// Comments end with a newline that the server adds; see TrimDescription.
	Comments  string `json:"comments"`
	Comments6 string `json:"comments6"`
}

// ListNetwork lists the node's interfaces as staged. Bridges that the caller may not use
// (SDN.Audit or SDN.Use) are left out, as are those of interfaces.d.
func (c *Client) ListNetwork(ctx context.Context, node string) (Network, error) {
	if err := checkNode(node); err != nil {
		return Network{}, err
	}
	var n Network
	env, err := c.call(ctx, route(http.MethodGet, "/nodes/{node}/network", node), &n.Interfaces)
	n.Changes = string(env.Changes)
	return n, err
}

// InterfaceSpec is what CreateNetwork and UpdateNetwork stage. An update is not a patch:
// what is not sent is kept, but without CIDR the interface loses its address. Send all.
type InterfaceSpec struct {
	Iface string // see ValidIfaceName
	Type  string // "bridge"
	// Autostart is always sent.
	Autostart   bool
	CIDR        string
	Gateway     string
	CIDR6       string
	Gateway6    string
	BridgePorts string // blank separated; "" for a bridge without ports
	VLANAware   bool
	VIDs        string
	MTU         int // 1280 to 65520; 0 is the kernel's default
	Comments    string
	// Delete are keys to remove; updates only.
	Delete []string
}

func (i InterfaceSpec) fill(r request) request {
	r.params.Set("autostart", formatBool(i.Autostart))
	return r.with("type", i.Type).with("cidr", i.CIDR).with("gateway", i.Gateway).
		with("cidr6", i.CIDR6).with("gateway6", i.Gateway6).with("bridge_ports", i.BridgePorts).
		withBool("bridge_vlan_aware", i.VLANAware).with("bridge_vids", i.VIDs).
		withInt("mtu", i.MTU).with("comments", i.Comments)
}

func (i InterfaceSpec) check(node string) error {
	if !ValidIfaceName(i.Iface) {
		return fmt.Errorf("proxmox: the network API cannot manage an interface named %.40q: 2 to %d of a-z, 0-9, _, a letter first",
			i.Iface, MaxIfaceName)
	}
	return checkNode(node)
}

// CreateNetwork stages a new interface; it needs Sys.Modify on the node.
func (c *Client) CreateNetwork(ctx context.Context, node string, i InterfaceSpec) error {
	if err := i.check(node); err != nil {
		return err
	}
	r := i.fill(route(http.MethodPost, "/nodes/{node}/network", node)).with("iface", i.Iface)
	_, err := c.call(ctx, r, nil)
	return err
}

// UpdateNetwork stages a change of an interface.
func (c *Client) UpdateNetwork(ctx context.Context, node string, i InterfaceSpec) error {
	if err := i.check(node); err != nil {
		return err
	}
	r := i.fill(route(http.MethodPut, "/nodes/{node}/network/{iface}", node, i.Iface))
	_, err := c.call(ctx, r.withList("delete", i.Delete), nil)
	return err
}

// DeleteNetwork stages the removal of an interface. Guests attached to a removed bridge
// are cut off and not re-attached when it comes back.
func (c *Client) DeleteNetwork(ctx context.Context, node, iface string) error {
	if err := (InterfaceSpec{Iface: iface}).check(node); err != nil {
		return err
	}
	_, err := c.call(ctx, route(http.MethodDelete, "/nodes/{node}/network/{iface}", node, iface), nil)
	return err
}

// ReloadNetwork makes what is staged live, everybody's edits included. The task may end
// OK although an interface is broken: look at Active afterwards.
func (c *Client) ReloadNetwork(ctx context.Context, node string) (UPID, error) {
	if err := checkNode(node); err != nil {
		return UPID{}, err
	}
	return launch(ctx, c, route(http.MethodPut, "/nodes/{node}/network", node))
}

// RevertNetwork throws away what is staged, everybody's edits included.
func (c *Client) RevertNetwork(ctx context.Context, node string) error {
	if err := checkNode(node); err != nil {
		return err
	}
	_, err := c.call(ctx, route(http.MethodDelete, "/nodes/{node}/network", node), nil)
	return err
}

// Ports returns the bridge's ports.
func (i Interface) Ports() []string { return strings.Fields(i.BridgePorts) }
