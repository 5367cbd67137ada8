package sdn

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Highest tags of the kinds of zones.
const (
	maxVLANTag  = 4096
	maxVXLANTag = 16777216
)

// CheckVNet refuses a virtual network that its zone cannot have (vnet_update_hook of the
// zone plugins, VnetPlugin).
func (st *State) CheckVNet(id string) error {
	vnet := st.Declared.of(VNets)[id]
	zone, ok := st.Declared.of(Zones)[vnet["zone"]]
	if !ok {
		return fmt.Errorf("zone %s does not exist", vnet["zone"])
	}
	tag, tagged := vnet["tag"]
	n, _ := strconv.Atoi(tag) // validated by the schema
	switch kind := zone["type"]; {
	case kind == "simple" && tagged:
		return refuse("tag", "vlan tag is not allowed on simple zone")
	case kind == "vlan" && !tagged:
		return refuse("tag", "missing vlan tag")
	case kind == "vlan" && n > maxVLANTag:
		return refuse("tag", "vlan tag max value is 4096")
	case kind == "qinq" && n > maxVLANTag:
		return refuse("tag", "VLAN tag maximal value is 4096")
	case (kind == "vxlan" || kind == "evpn") && !tagged:
		return refuse("tag", "missing vxlan tag")
	case (kind == "vxlan" || kind == "evpn") && n > maxVXLANTag:
		return refuse("tag", "vxlan tag max value is 16777216")
	}
	if vnet["vlanaware"] == "1" && len(st.SubnetsOf(id)) > 0 {
		return refuse("vlanaware", "vlanaware vnet is not compatible with subnets")
	}
	return st.checkTag(id, vnet, zone)
}

// checkTag refuses a tag that another network has: in the same zone, or for VLANs on the
// same bridge.
func (st *State) checkTag(id string, vnet, zone Object) error {
	if vnet["tag"] == "" {
		return nil
	}
	for _, other := range slices.Sorted(maps.Keys(st.Declared.of(VNets))) {
		o := st.Declared.of(VNets)[other]
		if other == id || o["tag"] != vnet["tag"] {
			continue
		}
		oz := st.Declared.of(Zones)[o["zone"]]
		switch zone["type"] {
		case "vlan":
			if oz["type"] == "vlan" && oz["bridge"] == zone["bridge"] {
				return refuse("tag", "tag %s already exist in vnet %s", vnet["tag"], other)
			}
		case "qinq":
			if o["zone"] == vnet["zone"] {
				return refuse("tag", "tag %s already exist in zone %s vnet %s", vnet["tag"], vnet["zone"], other)
			}
		default:
			if oz["type"] == zone["type"] {
				return refuse("tag", "vxlan tag %s already exist in vnet %s in zone %s ", vnet["tag"], other, o["zone"])
			}
		}
	}
	return nil
}

// SubnetsOf returns the ids of a network's subnets, sorted.
func (st *State) SubnetsOf(vnet string) []string {
	var out []string
	for id, s := range st.Declared.of(Subnets) {
		if s["vnet"] == vnet {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// CIDR is the network of a subnet by its id (zone-address-bits).
func CIDR(id string) string {
	parts := strings.SplitN(id, "-", 3)
	if len(parts) != 3 {
		return ""
	}
	return parts[1] + "/" + parts[2]
}

// CheckSubnet refuses gateways and ranges outside of the network, and registers the
// gateway with the zone's address management (SubnetPlugin, on_update_hook).
func (st *State) CheckSubnet(id string) error {
	subnet := st.Declared.of(Subnets)[id]
	cidr := CIDR(id)
	network, err := netip.ParsePrefix(cidr)
	if err != nil {
		return refuse("subnet", "value does not look like a valid CIDR network")
	}
	vnet, ok := st.Declared.of(VNets)[subnet["vnet"]]
	switch {
	case !ok:
		return refuse("vnet", "%s don't exist", subnet["vnet"])
	case vnet["vlanaware"] == "1":
		return refuse("vnet", "you can't add a subnet on a vlanaware vnet")
	}
	gateway, gerr := netip.ParseAddr(subnet["gateway"])
	point := gerr == nil && gateway.Is4() && network.Bits() == 32
	if gerr == nil && !network.Contains(gateway) && !point {
		return refuse("gateway", "%s is not in subnet %s", gateway, cidr)
	}
	if err := checkRanges(subnet["dhcp-range"], network); err != nil {
		return err
	}
	zone := st.Declared.of(Zones)[vnet["zone"]]
	st.IPs = slices.DeleteFunc(st.IPs, func(i IP) bool { return i.Gateway && i.Subnet == cidr && i.VNet == subnet["vnet"] })
	if zone["ipam"] != "" && gerr == nil && !point {
		st.IPs = append(st.IPs, IP{Zone: vnet["zone"], Subnet: cidr, VNet: subnet["vnet"], IP: gateway.String(), Gateway: true})
	}
	return nil
}

// Ranges splits a dhcp-range option: property strings, a newline between them.
func Ranges(text string) []map[string]string {
	var out []map[string]string
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		r := map[string]string{}
		for _, part := range strings.Split(line, ",") {
			key, v, _ := strings.Cut(part, "=")
			r[key] = v
		}
		out = append(out, r)
	}
	return out
}

func checkRanges(text string, network netip.Prefix) error {
	type span struct{ from, to netip.Addr }
	var seen []span
	for _, r := range Ranges(text) {
		var s span
		for _, end := range []struct {
			name string
			at   *netip.Addr
		}{{"start-address", &s.from}, {"end-address", &s.to}} {
			a, err := netip.ParseAddr(r[end.name])
			if err != nil {
				return refuse("dhcp-range", "%s is not a valid IP %s", end.name, r[end.name])
			}
			*end.at = a
		}
		if s.to.Less(s.from) {
			return refuse("dhcp-range", "start-address %s must be smaller than end-address %s", s.from, s.to)
		}
		for name, a := range map[string]netip.Addr{"start-address": s.from, "end-address": s.to} {
			if !network.Contains(a) {
				return refuse("dhcp-range", "%s %s is not in subnet %s", name, a, network)
			}
		}
		for _, o := range seen {
			if !s.to.Less(o.from) && !o.to.Less(s.from) {
				return refuse("dhcp-range", "dhcp ranges must not overlap")
			}
		}
		seen = append(seen, s)
	}
	return nil
}

// Bridge is what an applied network is on every node of its zone.
type Bridge struct {
	Name, Zone string
	Nodes      []string // empty is all
	Address    string   // of the gateway in a simple zone, CIDR
	MTU        int
	VNI        int      // of a vxlan zone
	Peers      []string // of a vxlan zone
}

// Bridges returns the bridges that run, sorted by name.
func (s *Store) Bridges() []Bridge {
	_, running := s.View()
	var out []Bridge
	for _, id := range slices.Sorted(maps.Keys(running.Of(VNets))) {
		vnet := running.Of(VNets)[id]
		zone, ok := running.Of(Zones)[vnet["zone"]]
		if !ok {
			continue
		}
		b := Bridge{Name: id, Zone: vnet["zone"]}
		b.MTU, _ = strconv.Atoi(zone["mtu"]) // "" is 0, none
		if zone["type"] == "vxlan" {
			b.VNI, _ = strconv.Atoi(vnet["tag"]) // checked when it was declared
			b.Peers = strings.FieldsFunc(zone["peers"], func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
		}
		if zone["nodes"] != "" {
			b.Nodes = strings.Split(zone["nodes"], ",")
		}
		for sid, subnet := range running.Of(Subnets) {
			if _, bits, ok := strings.Cut(CIDR(sid), "/"); ok && subnet["vnet"] == id && zone["type"] == "simple" && subnet["gateway"] != "" && b.Address == "" {
				b.Address = subnet["gateway"] + "/" + bits
			}
		}
		out = append(out, b)
	}
	return out
}

// On reports whether the bridge is on a node.
func (b Bridge) On(node string) bool { return len(b.Nodes) == 0 || slices.Contains(b.Nodes, node) }

// ZoneOf returns the zone of a network, declared or running, "" if there is no such
// network.
func (s *Store) ZoneOf(vnet string) string {
	declared, running := s.View()
	if o, ok := declared.Of(VNets)[vnet]; ok {
		return o["zone"]
	}
	return running.Of(VNets)[vnet]["zone"]
}
