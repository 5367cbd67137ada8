package pvesim

import (
	"maps"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/sdn"
)

var sdnCommon = []string{"nodes", "mtu", "dns", "reversedns", "dnszone", "ipam"}

// zoneTypes are the options of each type of zone.
var zoneTypes = map[string]sectionType{
	"simple": options(append([]string{"dhcp"}, sdnCommon...)...),
	"vlan":   options(append([]string{"!bridge", "bridge-disable-mac-learning"}, sdnCommon...)...),
	"qinq":   options(append([]string{"!tag", "!bridge", "bridge-disable-mac-learning", "vlan-protocol"}, sdnCommon...)...),
	"vxlan":  options(append([]string{"peers", "vxlan-port", "fabric"}, sdnCommon...)...),
	"evpn": options(append([]string{"!vrf-vxlan", "!controller", "exitnodes", "exitnodes-local-routing", "exitnodes-primary", "advertise-subnets",
		"disable-arp-nd-suppression", "bridge-disable-mac-learning", "rt-import", "vxlan-port", "mac"}, sdnCommon...)...),
	"faucet": options(sdnCommon...),
}

var (
	vnetOptions   = options("!zone", "tag", "alias", "vlanaware", "isolate-ports")
	subnetOptions = options("!vnet", "gateway", "snat", "dnszoneprefix", "dhcp-range", "dhcp-dns-server")
)

func listZones(c *call) (result, error) {
	rows := []map[string]any{}
	all := c.sdnRows(sdn.Zones)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if c.may("/sdn/zones/"+id, "SDN.Audit", "SDN.Allocate") && (!c.has("type") || all[id]["type"] == c.params["type"]) {
			rows = append(rows, all[id])
		}
	}
	return result{data: rows}, nil
}

func getZone(c *call) (result, error) {
	row, ok := c.sdnRows(sdn.Zones)[c.params["zone"]]
	if !ok {
		return result{}, errNoZone(c.params["zone"])
	}
	return result{data: row}, nil
}

func errNoZone(id string) error { return die("sdn '%s' does not exist", id) }

// checkZone refuses names of things that do not exist: there are no DNS plugins, and one
// address management.
func checkZone(o map[string]string) error {
	for _, key := range []string{"dns", "reversedns"} {
		if o[key] != "" {
			return paramError(key, o[key]+" don't exist")
		}
	}
	switch {
	case o["dnszone"] != "":
		return paramError("dnszone", "missing dns server")
	case o["ipam"] != "" && o["ipam"] != "pve":
		return paramError("ipam", o["ipam"]+" not existing")
	}
	return nil
}

func createZone(c *call) (result, error) {
	id, kind := c.params["zone"], c.params["type"]
	given := c.sectionParams("zone", "type", "lock-token")
	if err := zoneTypes[kind].check(given, true); err != nil {
		return result{}, err
	}
	return c.sdnChange("create sdn zone object failed", func(st *sdn.State) error {
		zones := objects(st, sdn.Zones)
		if _, ok := zones[id]; ok {
			return die("sdn zone object ID '%s' already defined", id)
		}
		if err := checkZone(given); err != nil {
			return err
		}
		given["type"] = kind
		zones[id] = given
		return nil
	})
}

// objects returns the declared objects of a kind, to be changed.
func objects(st *sdn.State, kind sdn.Kind) map[string]sdn.Object {
	if st.Declared[kind] == nil {
		st.Declared[kind] = map[string]sdn.Object{}
	}
	return st.Declared[kind]
}

// updateObject sets and deletes options of an object.
func (c *call) updateObject(o sdn.Object, t sectionType, without ...string) error {
	given := c.sectionParams(append(without, "digest", "delete", "lock-token")...)
	if err := t.check(given, false); err != nil {
		return err
	}
	if err := t.checkDelete(c.list("delete"), given); err != nil {
		return err
	}
	for _, key := range c.list("delete") {
		delete(o, key)
	}
	maps.Copy(o, given)
	return nil
}

func updateZone(c *call) (result, error) {
	id := c.params["zone"]
	return c.sdnChange("update sdn zone object failed", func(st *sdn.State) error {
		zones := objects(st, sdn.Zones)
		if err := c.assertDigest(sdn.Digest(zones)); err != nil {
			return err
		}
		zone, ok := zones[id]
		if !ok {
			return errNoZone(id)
		}
		ipam := zone["ipam"]
		if err := c.updateObject(zone, zoneTypes[zone["type"]], "zone"); err != nil {
			return err
		}
		if zone["ipam"] != ipam {
			for subnet := range objects(st, sdn.Subnets) {
				if strings.HasPrefix(subnet, id+"-") {
					return paramError("ipam", "can't change ipam if a subnet is already defined in this zone")
				}
			}
		}
		return checkZone(zone)
	})
}

func deleteZone(c *call) (result, error) {
	id := c.params["zone"]
	return c.sdnChange("delete sdn zone object failed", func(st *sdn.State) error {
		if _, ok := objects(st, sdn.Zones)[id]; !ok {
			return errNoZone(id)
		}
		for _, vnet := range slices.Sorted(maps.Keys(objects(st, sdn.VNets))) {
			if objects(st, sdn.VNets)[vnet]["zone"] == id {
				return die("zone %s is used by vnet %s at /usr/share/perl5/PVE/Network/SDN/Zones/Plugin.pm line 148.", id, vnet)
			}
		}
		delete(objects(st, sdn.Zones), id)
		return nil
	})
}

// vnetRow finds a network that the caller has one of the privileges on.
func (c *call) mayVNet(privileges ...string) error {
	id := c.params["vnet"]
	declared, _ := c.node.sdn.View()
	vnet, ok := declared.Of(sdn.VNets)[id]
	if !ok {
		return errNoVNet(id)
	}
	return c.needAny("/sdn/zones/"+vnet["zone"]+"/"+id, privileges...)
}

func errNoVNet(id string) error { return die("sdn vnet '%s' does not exist", id) }

func listVNets(c *call) (result, error) {
	rows := []map[string]any{}
	all := c.sdnRows(sdn.VNets)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if c.may("/sdn/zones/"+sdnParent(all[id], "zone")+"/"+id, "SDN.Audit", "SDN.Allocate") {
			rows = append(rows, all[id])
		}
	}
	return result{data: rows}, nil
}

func getVNet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Audit", "SDN.Allocate"); err != nil {
		return result{}, err
	}
	row, ok := c.sdnRows(sdn.VNets)[c.params["vnet"]]
	if !ok {
		return result{}, errNoVNet(c.params["vnet"])
	}
	return result{data: row}, nil
}

func createVNet(c *call) (result, error) {
	id := c.params["vnet"]
	given := c.sectionParams("vnet", "type", "lock-token")
	return c.sdnChange("create sdn vnet object failed", func(st *sdn.State) error {
		if err := vnetOptions.check(given, true); err != nil {
			return err
		}
		vnets := objects(st, sdn.VNets)
		if _, ok := vnets[id]; ok {
			return die("sdn vnet object ID '%s' already defined", id)
		}
		given["type"] = "vnet"
		vnets[id] = given
		return st.CheckVNet(id)
	})
}

func updateVNet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Allocate"); err != nil {
		return result{}, err
	}
	id := c.params["vnet"]
	return c.sdnChange("update sdn vnet object failed", func(st *sdn.State) error {
		vnets := objects(st, sdn.VNets)
		if err := c.assertDigest(sdn.Digest(vnets)); err != nil {
			return err
		}
		zone := vnets[id]["zone"]
		if err := c.updateObject(vnets[id], vnetOptions, "vnet"); err != nil {
			return err
		}
		if vnets[id]["zone"] != zone && len(st.SubnetsOf(id)) > 0 {
			return paramError("zone", "can't change zone if subnets exist")
		}
		return st.CheckVNet(id)
	})
}

func deleteVNet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Allocate"); err != nil {
		return result{}, err
	}
	id := c.params["vnet"]
	return c.sdnChange("delete sdn vnet object failed", func(st *sdn.State) error {
		if len(st.SubnetsOf(id)) > 0 {
			return paramError("vnet", "Can't delete vnet if subnets exists")
		}
		delete(objects(st, sdn.VNets), id)
		return nil
	})
}
