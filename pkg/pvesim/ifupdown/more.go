package ifupdown

import (
	"fmt"
	"strings"
)

// moreOptions are the options of bonds, VLANs and Open vSwitch: the name in the API and in
// the file, in the order in which they are written.
var moreOptions = []struct{ name, key string }{
	{"vlan-raw-device", "vlan-raw-device"}, {"vlan-id", "vlan-id"},
	{"slaves", "bond-slaves"}, {"bond_mode", "bond-mode"}, {"bond-primary", "bond-primary"}, {"bond_xmit_hash_policy", "bond-xmit-hash-policy"},
	{"ovs_type", "ovs_type"}, {"ovs_bridge", "ovs_bridge"}, {"ovs_ports", "ovs_ports"}, {"ovs_bonds", "ovs_bonds"}, {"ovs_tag", "ovs_tag"}, {"ovs_options", "ovs_options"},
}

// moreByKey finds the name in the API by the key in the file, with dashes.
var moreByKey = func() map[string]string {
	out := map[string]string{}
	for _, o := range moreOptions {
		out[strings.ReplaceAll(o.key, "_", "-")] = o.name
	}
	return out
}()

// MoreNames are the options of Interface.More by their names in the API.
func MoreNames() []string {
	var out []string
	for _, o := range moreOptions {
		out = append(out, o.name)
	}
	return out
}

func (i *Interface) setMore(name, value string) {
	if i.More == nil {
		i.More = map[string]string{}
	}
	i.More[name] = value
}

// SetMore sets an option, or removes it with an empty value.
func (i *Interface) SetMore(name, value string) {
	if value == "" {
		delete(i.More, name)
		return
	}
	i.setMore(name, value)
}

func (i *Interface) formatMore(b *strings.Builder) {
	for _, o := range moreOptions {
		if v := i.More[o.name]; v != "" {
			fmt.Fprintf(b, "\t%s %s\n", o.key, v)
		}
	}
}
