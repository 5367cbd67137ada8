package pvesim

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/ifupdown"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// bridgeACL is the path on which the use of a bridge is granted: that of its zone, which
// for a plain bridge is localnetwork.
func (c *cluster) bridgeACL(bridge string) string {
	zone := c.sdn.ZoneOf(bridge)
	if zone == "" {
		zone = "localnetwork"
	}
	return "/sdn/zones/" + zone + "/" + bridge
}

func listNetwork(c *call) (result, error) {
	_, pending, _, err := c.node.networkText()
	if err != nil {
		return result{}, err
	}
	active, err := c.node.engine.Bridges(c.ctx)
	if err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	for _, i := range byPriority(ifupdown.Parse(pending)) {
		if i.Type == "loopback" || !matchesType(c.params["type"], i.Type) {
			continue
		}
		if i.Type == "bridge" && !c.may(c.node.bridgeACL(i.Name), "SDN.Audit", "SDN.Use") {
			continue
		}
		row := interfaceRow(i, slices.Contains(active, i.Name))
		row["iface"] = i.Name
		rows = append(rows, row)
	}
	return result{data: rows, changes: c.node.networkChanges()}, nil
}

func matchesType(filter, typ string) bool {
	switch filter {
	case "":
		return true
	case "any_bridge", "any_local_bridge", "include_sdn":
		return typ == "bridge"
	default:
		return filter == typ
	}
}

func byPriority(f *ifupdown.File) []*ifupdown.Interface {
	list := f.Sorted()
	slices.SortStableFunc(list, func(a, b *ifupdown.Interface) int { return a.Priority - b.Priority })
	return list
}

// interfaceRow is an interface as the API shows it.
func interfaceRow(i *ifupdown.Interface, active bool) map[string]any {
	families := i.Families
	if len(families) == 0 {
		families = []string{"inet"}
	}
	row := map[string]any{"type": i.Type, "priority": i.Priority, "families": families}
	familyRow(row, "", i.Inet)
	familyRow(row, "6", i.Inet6)
	if i.Autostart {
		row["autostart"] = 1
	}
	if active {
		row["active"] = 1
	}
	if i.MTU != "" {
		row["mtu"] = i.MTU
	}
	for key, v := range i.More {
		row[key] = v
	}
	if i.Type == "bridge" {
		row["bridge_ports"] = strings.Join(i.BridgePorts, " ")
		row["bridge_stp"], row["bridge_fd"] = i.BridgeSTP, i.BridgeFD
		if i.BridgeVLANAware {
			row["bridge_vlan_aware"], row["bridge_vids"] = 1, i.BridgeVIDs
		}
	}
	return row
}

func familyRow(row map[string]any, suffix string, f ifupdown.Family) {
	row["method"+suffix] = "manual"
	if f.Method != "" {
		row["method"+suffix] = f.Method
	}
	for key, value := range map[string]string{"address": f.Address, "netmask": f.Prefix, "cidr": f.CIDR(), "gateway": f.Gateway, "comments": f.Comments} {
		if value != "" {
			row[key+suffix] = value
		}
	}
	if len(f.Options) > 0 {
		row["options"+suffix] = f.Options
	}
}

func getInterface(c *call) (result, error) {
	_, pending, _, err := c.node.networkText()
	if err != nil {
		return result{}, err
	}
	i := ifupdown.Parse(pending).Interfaces[c.params["iface"]]
	if i == nil {
		return result{}, paramError("iface", "interface does not exist")
	}
	active, err := c.node.engine.Bridges(c.ctx)
	if err != nil {
		return result{}, err
	}
	return result{data: interfaceRow(i, slices.Contains(active, i.Name))}, nil
}

func createInterface(c *call) (result, error) {
	name := c.params["iface"]
	return result{}, c.node.editNetwork(c.ctx, func(f *ifupdown.File) error {
		if f.Interfaces[name] != nil {
			return paramError("iface", "interface already exists")
		}
		i := &ifupdown.Interface{Name: name, Families: []string{"inet"}}
		f.Interfaces[name] = i
		return c.fillInterface(f, i)
	})
}

func updateInterface(c *call) (result, error) {
	name := c.params["iface"]
	return result{}, c.node.editNetwork(c.ctx, func(f *ifupdown.File) error {
		i := f.Interfaces[name]
		if i == nil {
			return paramError("iface", "interface does not exist")
		}
		for _, key := range pveschema.SplitList(c.params["delete"]) {
			deleteKey(i, key)
		}
		return c.fillInterface(f, i)
	})
}

// deleteKey removes one option of an interface.
func deleteKey(i *ifupdown.Interface, key string) {
	switch key {
	case "comments":
		i.Inet.Comments = ""
	case "comments6":
		i.Inet6.Comments = ""
	case "gateway":
		i.Inet.Gateway = ""
	case "gateway6":
		i.Inet6.Gateway = ""
	case "cidr", "address", "netmask":
		i.Inet.Address, i.Inet.Prefix = "", ""
	case "cidr6", "address6", "netmask6":
		i.Inet6.Address, i.Inet6.Prefix = "", ""
	case "mtu":
		i.MTU = ""
	case "autostart":
		i.Autostart = false
	case "bridge_ports":
		i.BridgePorts = nil
	case "bridge_vlan_aware":
		i.BridgeVLANAware, i.BridgeVIDs = false, ""
	case "bridge_vids":
		i.BridgeVIDs = ""
	default:
		i.SetMore(key, "")
	}
}

// fillInterface applies the request's parameters. Keys that were not sent are kept, but
// the address families follow from what was sent: without an address an interface
// becomes manual, also one that had an address.
func (c *call) fillInterface(f *ifupdown.File, i *ifupdown.Interface) error {
	i.Type = c.params["type"]
	i.IsBridge = i.Type == "bridge"
	if c.has("autostart") {
		i.Autostart = c.flag("autostart")
	}
	if v, ok := c.params["mtu"]; ok {
		i.MTU = v
	}
	if v, ok := c.params["bridge_ports"]; ok {
		i.BridgePorts = slices.Sorted(slices.Values(pveschema.SplitList(v)))
	}
	if c.has("bridge_vlan_aware") {
		i.BridgeVLANAware = c.flag("bridge_vlan_aware")
	}
	if v, ok := c.params["bridge_vids"]; ok {
		i.BridgeVIDs = v
	}
	if err := c.fillMore(f, i); err != nil {
		return err
	}
	if err := c.checkPorts(f, i); err != nil {
		return err
	}
	i.Families = []string{"inet"}
	if err := c.fillFamily(f, i, &i.Inet, ""); err != nil {
		return err
	}
	if c.has("cidr6") || c.has("address6") {
		i.Families = append(i.Families, "inet6")
		return c.fillFamily(f, i, &i.Inet6, "6")
	}
	i.Inet6 = ifupdown.Family{}
	return nil
}

// checkPorts demands that the ports of a bridge exist (PVE::INotify).
func (c *call) checkPorts(f *ifupdown.File, i *ifupdown.Interface) error {
	for _, port := range i.BridgePorts {
		if port != c.node.cfg.UplinkPort && f.Interfaces[port] == nil {
			return die("bridge '%s' - unable to find bridge port '%s'", i.Name, port)
		}
	}
	return nil
}

func (c *call) fillFamily(f *ifupdown.File, i *ifupdown.Interface, fam *ifupdown.Family, suffix string) error {
	if v, ok := c.params["comments"+suffix]; ok {
		fam.Comments = ""
		if v = strings.Trim(v, "\n"); v != "" {
			fam.Comments = v + "\n"
		}
	}
	fam.Address, fam.Prefix, fam.Method = "", "", "manual"
	cidr := c.params["cidr"+suffix]
	if cidr == "" && c.has("address"+suffix) {
		cidr = c.params["address"+suffix] + "/" + prefixOf(c.params["netmask"+suffix])
	}
	if cidr != "" {
		fam.Address, fam.Prefix, _ = strings.Cut(cidr, "/")
		fam.Method = "static"
	}
	gateway, ok := c.params["gateway"+suffix]
	if !ok {
		return nil
	}
	for _, other := range byPriority(f) {
		g := other.Inet.Gateway
		if suffix != "" {
			g = other.Inet6.Gateway
		}
		if other != i && g != "" {
			return paramError("gateway"+suffix, "Default gateway already exists on interface '"+other.Name+"'.")
		}
	}
	fam.Gateway = gateway
	return nil
}

func prefixOf(mask string) string {
	if a, err := netip.ParseAddr(mask); err == nil && a.Is4() {
		f := ifupdown.Parse("iface x inet static\n\tnetmask " + mask + "\n")
		return f.Interfaces["x"].Inet.Prefix
	}
	return mask
}

func deleteInterface(c *call) (result, error) {
	name := c.params["iface"]
	return result{}, c.node.editNetwork(c.ctx, func(f *ifupdown.File) error {
		if f.Interfaces[name] == nil {
			return paramError("iface", "interface does not exist")
		}
		delete(f.Interfaces, name)
		return nil
	})
}

// reloadNetwork applies everybody's staged changes. The live file is replaced before
// ifreload runs, so a configuration that fails is live nevertheless.
func reloadNetwork(c *call) (result, error) {
	n := c.node
	return c.startTask("srvreload", "networking", n.reloadTask)
}

func revertNetwork(c *call) (result, error) {
	unlock, err := c.node.lockNetwork(c.ctx, c.node.cfg.LockTimeout)
	if err != nil {
		return result{}, err
	}
	defer unlock()
	if err := os.Remove(c.node.stagedFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result{}, err
	}
	return result{}, nil
}
