package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
)

// Policies and actions of the firewall.
const (
	FirewallAccept = "ACCEPT"
	FirewallReject = "REJECT"
	FirewallDrop   = "DROP"
)

// ClusterFirewall are the cluster's firewall options. Rules of guests are inert unless it
// is enabled; once it is, PolicyIn, DROP by default, holds for the nodes as well.
type ClusterFirewall struct {
	Enable    Bool   `json:"enable"`
	PolicyIn  string `json:"policy_in"`  // "" is DROP
	PolicyOut string `json:"policy_out"` // "" is ACCEPT
	Digest    string `json:"digest"`
}

// ClusterFirewall reads the cluster's firewall options; it needs Sys.Audit on /.
func (c *Client) ClusterFirewall(ctx context.Context) (ClusterFirewall, error) {
	return fetch[ClusterFirewall](ctx, c, route(http.MethodGet, "/cluster/firewall/options"))
}

// SetClusterFirewall writes the cluster's firewall options, all of them; it needs
// Sys.Modify on /. A wrong policy cuts every node off: 8006 and ssh stay open to the local
// network only.
func (c *Client) SetClusterFirewall(ctx context.Context, f ClusterFirewall) error {
	r := route(http.MethodPut, "/cluster/firewall/options").with("policy_in", f.PolicyIn).
		with("policy_out", f.PolicyOut).with("digest", f.Digest)
	r.params.Set("enable", formatBool(bool(f.Enable)))
	_, err := c.call(ctx, r, nil)
	return err
}

// GuestFirewall are a guest's firewall options. They matter only for NICs with firewall=1,
// and with the cluster's firewall enabled.
type GuestFirewall struct {
	Enable    Bool   `json:"enable"`
	PolicyIn  string `json:"policy_in"`  // "" is DROP
	PolicyOut string `json:"policy_out"` // "" is ACCEPT
	// IPFilter lets a NIC send from its own addresses only; MACFilter (default on) from its
	// own MAC; DHCP (default off) lets DHCP through.
	IPFilter  Bool   `json:"ipfilter"`
	MACFilter *Bool  `json:"macfilter"`
	DHCP      Bool   `json:"dhcp"`
	Digest    string `json:"digest"`
}

// GuestFirewall reads a guest's firewall options.
func (c *Client) GuestFirewall(ctx context.Context, node string, vmid int) (GuestFirewall, error) {
	if err := checkGuest(node, vmid); err != nil {
		return GuestFirewall{}, err
	}
	return fetch[GuestFirewall](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/firewall/options", node, vmid))
}

// SetGuestFirewall writes a guest's firewall options, all of them; it needs
// VM.Config.Network. They take effect within ten seconds.
func (c *Client) SetGuestFirewall(ctx context.Context, node string, vmid int, f GuestFirewall) error {
	if err := checkGuest(node, vmid); err != nil {
		return err
	}
	r := route(http.MethodPut, "/nodes/{node}/lxc/{vmid}/firewall/options", node, vmid).
		with("policy_in", f.PolicyIn).with("policy_out", f.PolicyOut).with("digest", f.Digest)
	r.params.Set("enable", formatBool(bool(f.Enable)))
	r.params.Set("ipfilter", formatBool(bool(f.IPFilter)))
	r.params.Set("dhcp", formatBool(bool(f.DHCP)))
	if f.MACFilter != nil {
		r.params.Set("macfilter", formatBool(bool(*f.MACFilter)))
	}
	_, err := c.call(ctx, r, nil)
	return err
}

// FirewallRule is a rule of a guest. Rules have no identity but their position, which
// changes when others come and go: know yours by the comment, and pass the digest.
type FirewallRule struct {
	Pos     Int    `json:"pos"`
	Type    string `json:"type"`   // in, out or group
	Action  string `json:"action"` // ACCEPT, DROP, REJECT, or a group's name
	Enable  Bool   `json:"enable"`
	Macro   string `json:"macro"`
	Proto   string `json:"proto"`
	Source  string `json:"source"`
	SPort   Text   `json:"sport"`
	Dest    string `json:"dest"`
	DPort   Text   `json:"dport"`
	Iface   string `json:"iface"` // net[n] of the guest
	Log     string `json:"log"`
	Comment string `json:"comment"`
	// Digest is of all rules together.
	Digest string `json:"digest"`
}

// GuestRules lists a guest's firewall rules in the order in which they are looked at.
func (c *Client) GuestRules(ctx context.Context, node string, vmid int) ([]FirewallRule, error) {
	if err := checkGuest(node, vmid); err != nil {
		return nil, err
	}
	return fetch[[]FirewallRule](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/firewall/rules", node, vmid))
}

// AddGuestRule puts a rule before all others: the server ignores a position. Add rules in
// reverse order.
func (c *Client) AddGuestRule(ctx context.Context, node string, vmid int, f FirewallRule) error {
	if err := checkGuest(node, vmid); err != nil {
		return err
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/firewall/rules", node, vmid).
		with("type", f.Type).with("action", f.Action).with("macro", f.Macro).with("proto", f.Proto).
		with("source", f.Source).with("sport", string(f.SPort)).with("dest", f.Dest).with("dport", string(f.DPort)).
		with("iface", f.Iface).with("log", f.Log).with("comment", f.Comment).with("digest", f.Digest)
	// A rule is made disabled unless told otherwise.
	r.params.Set("enable", formatBool(bool(f.Enable)))
	_, err := c.call(ctx, r, nil)
	return err
}

// DeleteGuestRule removes the rule at a position. The digest that the rules were read with
// makes sure that it is the one that was seen ([IsDigestConflict]).
func (c *Client) DeleteGuestRule(ctx context.Context, node string, vmid, pos int, digest string) error {
	if err := checkGuest(node, vmid); err != nil {
		return err
	}
	if pos < 0 || digest == "" {
		return fmt.Errorf("proxmox: remove firewall rule %s of guest %d: give the digest that it was read with", strconv.Itoa(pos), vmid)
	}
	r := route(http.MethodDelete, "/nodes/{node}/lxc/{vmid}/firewall/rules/{pos}", node, vmid, pos).with("digest", digest)
	_, err := c.call(ctx, r, nil)
	return err
}
