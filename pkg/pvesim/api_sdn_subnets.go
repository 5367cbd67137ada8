package pvesim

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/sdn"
)

func listSubnets(c *call) (result, error) {
	if err := c.mayVNet("SDN.Audit", "SDN.Allocate"); err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	all := c.sdnRows(sdn.Subnets)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if sdnParent(all[id], "vnet") == c.params["vnet"] {
			rows = append(rows, all[id])
		}
	}
	return result{data: rows}, nil
}

func getSubnet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Audit", "SDN.Allocate"); err != nil {
		return result{}, err
	}
	row, ok := c.sdnRows(sdn.Subnets)[c.params["subnet"]]
	switch {
	case !ok:
		return result{}, errNoSubnet(c.params["subnet"])
	case sdnParent(row, "vnet") != c.params["vnet"]:
		return result{}, paramError("vnet", "wrong vnet")
	}
	return result{data: row}, nil
}

func errNoSubnet(id string) error { return die("sdn subnet '%s' does not exist", id) }

// subnetParams are the options of a subnet; its DHCP ranges are a list.
func (c *call) subnetParams(without ...string) map[string]string {
	given := c.sectionParams(without...)
	if c.has("dhcp-range") {
		given["dhcp-range"] = strings.Join(c.array("dhcp-range"), "\n")
	}
	return given
}

func createSubnet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Allocate"); err != nil {
		return result{}, err
	}
	given := c.subnetParams("subnet", "type", "lock-token")
	return c.sdnChange("create sdn subnet object failed", func(st *sdn.State) error {
		zone := objects(st, sdn.VNets)[c.params["vnet"]]["zone"]
		id := zone + "-" + strings.Replace(c.params["subnet"], "/", "-", 1)
		if err := subnetOptions.check(given, true); err != nil {
			return err
		}
		subnets := objects(st, sdn.Subnets)
		if _, ok := subnets[id]; ok {
			return die("sdn subnet object ID '%s' already defined", id)
		}
		given["type"] = "subnet"
		subnets[id] = given
		return st.CheckSubnet(id)
	})
}

func updateSubnet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Allocate"); err != nil {
		return result{}, err
	}
	id := c.params["subnet"]
	return c.sdnChange("update sdn subnet object failed", func(st *sdn.State) error {
		subnets := objects(st, sdn.Subnets)
		if _, ok := subnets[id]; !ok {
			return errNoSubnet(id)
		}
		if err := c.assertDigest(sdn.Digest(subnets)); err != nil {
			return err
		}
		if c.has("dhcp-range") {
			c.params["dhcp-range"] = strings.Join(c.array("dhcp-range"), "\n")
		}
		if err := c.updateObject(subnets[id], subnetOptions, "subnet"); err != nil {
			return err
		}
		return st.CheckSubnet(id)
	})
}

func deleteSubnet(c *call) (result, error) {
	if err := c.mayVNet("SDN.Allocate"); err != nil {
		return result{}, err
	}
	id := c.params["subnet"]
	return c.sdnChange("delete sdn subnet object failed", func(st *sdn.State) error {
		cidr := sdn.CIDR(id)
		for _, ip := range st.IPs {
			if ip.Subnet == cidr && ip.VNet == c.params["vnet"] && !ip.Gateway {
				return die("cannot delete subnet '%s', not empty", cidr)
			}
		}
		st.IPs = slices.DeleteFunc(st.IPs, func(ip sdn.IP) bool { return ip.Subnet == cidr && ip.VNet == c.params["vnet"] })
		delete(objects(st, sdn.Subnets), id)
		return nil
	})
}

func listIPAMs(c *call) (result, error) {
	rows := []map[string]any{}
	if c.may("/sdn/ipams/pve", "SDN.Audit", "SDN.Allocate") && (!c.has("type") || c.params["type"] == "pve") {
		rows = append(rows, map[string]any{"ipam": "pve", "type": "pve", "digest": sdn.Digest(nil)})
	}
	return result{data: rows}, nil
}

func ipamStatus(c *call) (result, error) {
	if c.params["ipam"] != "pve" {
		return result{}, die("Currently only PVE IPAM is supported!")
	}
	declared, _ := c.node.sdn.View()
	rows := []map[string]any{}
	for _, ip := range c.node.sdn.IPs() {
		if declared.Of(sdn.Zones)[ip.Zone]["dhcp"] == "" || !c.may("/sdn/zones/"+ip.Zone+"/"+ip.VNet, "SDN.Audit", "SDN.Allocate") {
			continue
		}
		row := map[string]any{"zone": ip.Zone, "subnet": ip.Subnet, "vnet": ip.VNet, "ip": ip.IP}
		if ip.Gateway {
			row["gateway"] = 1
		}
		if ip.MAC != "" {
			row["mac"] = ip.MAC
		}
		if ip.VMID != 0 {
			row["vmid"] = ip.VMID
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// changeIP registers an address, moves one by its MAC, or removes it.
func changeIP(remove, replace bool) handler {
	return func(c *call) (result, error) {
		return result{}, c.node.sdn.Change(c.node.sdn.Token(), func(st *sdn.State) error {
			vnet, ip := c.params["vnet"], c.params["ip"]
			if remove || replace {
				mac := c.params["mac"]
				st.IPs = slices.DeleteFunc(st.IPs, func(i sdn.IP) bool {
					return i.VNet == vnet && !i.Gateway && (i.IP == ip || replace && strings.EqualFold(i.MAC, mac))
				})
			}
			if remove {
				return nil
			}
			subnet := subnetFor(st, vnet, ip)
			if subnet == "" {
				return die("can't find any subnet for ip %s", ip)
			}
			if slices.ContainsFunc(st.IPs, func(i sdn.IP) bool { return i.VNet == vnet && i.IP == ip }) {
				return die("can't add ip to subnet: ip %s already exists", ip)
			}
			vmid, _ := strconv.Atoi(c.params["vmid"]) // "" is 0, none
			st.IPs = append(st.IPs, sdn.IP{Zone: c.params["zone"], Subnet: subnet, VNet: vnet, IP: ip, MAC: c.params["mac"], VMID: vmid})
			return nil
		})
	}
}

// subnetFor finds the network of an address.
func subnetFor(st *sdn.State, vnet, ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	for _, id := range st.SubnetsOf(vnet) {
		if p, err := netip.ParsePrefix(sdn.CIDR(id)); err == nil && p.Contains(a) {
			return sdn.CIDR(id)
		}
	}
	return ""
}

// noObjects answers lists of what nothing is simulated of.
func noObjects(*call) (result, error) { return result{data: []any{}}, nil }
