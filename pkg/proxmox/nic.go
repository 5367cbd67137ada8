package proxmox

import (
	"fmt"
	"strconv"
	"strings"
)

// NIC is one net[n] of an LXC guest.
type NIC struct {
	Name   string // name inside the guest; required
	Bridge string // bridge on the node
	// HWAddr is the MAC address, in upper case. Leave it out and Proxmox makes one;
	// leave it out of an update and Proxmox makes a new one and bounces the NIC.
	HWAddr   string
	IP       string // "dhcp", "manual", an IPv4 CIDR, or "" for none
	Gateway  string
	IP6      string // "auto", "dhcp", "manual", an IPv6 CIDR, or ""
	Gateway6 string
	Firewall bool
	LinkDown bool
	Tag      int // VLAN 1 to 4094; 0 is none
	MTU      int // 0 is the bridge's
	// Extra are the keys not named above (type, rate, trunks, host-managed, ...), kept
	// as they came.
	Extra PropertyString
}

var nicKeys = []string{"name", "bridge", "hwaddr", "ip", "gw", "ip6", "gw6", "firewall", "link_down", "tag", "mtu"}

// ParseNIC reads the value of a net[n].
func ParseNIC(s string) (NIC, error) {
	p, err := ParsePropertyString(s)
	if err != nil {
		return NIC{}, err
	}
	n := NIC{
		Name: p.Value("name"), Bridge: p.Value("bridge"), HWAddr: strings.ToUpper(p.Value("hwaddr")),
		IP: p.Value("ip"), Gateway: p.Value("gw"), IP6: p.Value("ip6"), Gateway6: p.Value("gw6"),
		Firewall: p.Bool("firewall"), LinkDown: p.Bool("link_down"), Extra: p.Without(nicKeys...),
	}
	if n.Tag, err = optionalInt(p, "tag"); err != nil {
		return NIC{}, err
	}
	if n.MTU, err = optionalInt(p, "mtu"); err != nil {
		return NIC{}, err
	}
	return n, nil
}

func optionalInt(p PropertyString, key string) (int, error) {
	v, ok := p.Get(key)
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf("%s: not a number: %.20q", key, v)
	}
	return n, nil
}

// Properties renders the NIC, known keys first.
func (n NIC) Properties() PropertyString {
	var p PropertyString
	p = p.With("name", n.Name).With("bridge", n.Bridge).With("hwaddr", strings.ToUpper(n.HWAddr))
	p = p.With("ip", n.IP).With("gw", n.Gateway).With("ip6", n.IP6).With("gw6", n.Gateway6)
	if n.Firewall {
		p = p.With("firewall", "1")
	}
	if n.LinkDown {
		p = p.With("link_down", "1")
	}
	if n.Tag != 0 {
		p = p.With("tag", strconv.Itoa(n.Tag))
	}
	if n.MTU != 0 {
		p = p.With("mtu", strconv.Itoa(n.MTU))
	}
	for _, e := range n.Extra {
		p = p.With(e.Key, e.Value)
	}
	return p
}

// String renders the value of a net[n].
func (n NIC) String() string { return n.Properties().String() }

// Equal reports whether both describe the same NIC. type=veth is Proxmox's default and
// the only value, so its absence makes no difference.
func (n NIC) Equal(o NIC) bool {
	return n.Properties().Without("type").Equal(o.Properties().Without("type"))
}
