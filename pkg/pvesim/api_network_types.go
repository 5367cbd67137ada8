package pvesim

import (
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/ifupdown"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// fillMore applies the parameters of bonds, VLANs and Open vSwitch interfaces.
func (c *call) fillMore(f *ifupdown.File, i *ifupdown.Interface) error {
	for _, name := range ifupdown.MoreNames() {
		v, ok := c.params[name]
		if !ok {
			continue
		}
		if name == "slaves" || name == "ovs_ports" || name == "ovs_bonds" {
			v = strings.Join(slices.Sorted(slices.Values(pveschema.SplitList(v))), " ")
		}
		i.SetMore(name, v)
	}
	if strings.HasPrefix(i.Type, "OVS") {
		i.SetMore("ovs_type", i.Type)
	} else {
		i.SetMore("ovs_type", "")
	}
	if err := checkDuplicatePorts(f, i); err != nil {
		return err
	}
	return c.checkSlaves(f, i)
}

// checkSlaves demands that the slaves of a bond exist (PVE::INotify).
func (c *call) checkSlaves(f *ifupdown.File, i *ifupdown.Interface) error {
	for _, slave := range strings.Fields(i.More["slaves"]) {
		if slave != c.node.cfg.UplinkPort && f.Interfaces[slave] == nil {
			return die("bond '%s' - unable to find slave '%s'", i.Name, slave)
		}
	}
	return nil
}

// portsOf are the interfaces that belong to another one, with the parameter that names
// the first of them.
func portsOf(i *ifupdown.Interface) (ports []string, param string) {
	for _, list := range []struct {
		param string
		ports []string
	}{
		{"bridge_ports", i.BridgePorts}, {"ovs_ports", strings.Fields(i.More["ovs_ports"])},
		{"slaves", strings.Fields(i.More["slaves"])}, {"ovs_bonds", strings.Fields(i.More["ovs_bonds"])},
	} {
		if len(list.ports) > 0 && param == "" {
			param = list.param
		}
		ports = append(ports, list.ports...)
	}
	return ports, param
}

// checkDuplicatePorts refuses ports that another interface has (PVE::API2::Network,
// check_duplicate_ports).
func checkDuplicatePorts(f *ifupdown.File, i *ifupdown.Interface) error {
	own, param := portsOf(i)
	for _, other := range byPriority(f) {
		if other == i {
			continue
		}
		taken, _ := portsOf(other)
		for _, port := range own {
			if slices.Contains(taken, port) {
				return paramError(param, port+" is already used on interface '"+other.Name+"'.")
			}
		}
	}
	return nil
}
