package pvesim

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
)

// fwPlace is where a firewall request acts: on a scope, in an environment of rules.
type fwPlace struct {
	scope string
	env   firewall.Env
}

// fwPlaceOf finds the place from the path: a guest's, a virtual network's, a node's or the
// datacenter's.
func (c *call) fwPlaceOf() fwPlace {
	switch {
	case c.has("vmid"):
		return fwPlace{firewall.Guest(c.params["vmid"]), firewall.EnvGuest}
	case c.has("vnet"):
		return fwPlace{firewall.VNet(c.params["vnet"]), firewall.EnvVNet}
	case c.has("node"):
		return fwPlace{firewall.Node(c.params["node"]), firewall.EnvHost}
	case c.has("group"):
		return fwPlace{firewall.Datacenter, firewall.EnvGroup}
	}
	return fwPlace{firewall.Datacenter, firewall.EnvCluster}
}

// fwError words what package firewall refuses.
func fwError(err error) error {
	var r *firewall.Refusal
	if errors.As(err, &r) && r.Param != "" {
		return paramError(r.Param, r.Text)
	}
	return err
}

// fwChange runs a change of the place's scope.
func (c *call) fwChange(fn func(own, dc *firewall.Scope) error) (result, error) {
	return result{}, fwError(c.node.firewall.Change(c.fwPlaceOf().scope, fn))
}

// assertDigest refuses a change of something that changed since it was read.
func (c *call) assertDigest(now string) error {
	if d := c.params["digest"]; d != "" && d != now {
		return die("detected modified configuration - file changed by other user? Try again.")
	}
	return nil
}

// numericOptions are shown as numbers; every other option is text.
var numericOptions = []string{
	"enable", "dhcp", "macfilter", "ipfilter", "ndp", "radv", "ebtables", "nosmurfs", "tcpflags", "nftables",
	"nf_conntrack_max", "nf_conntrack_allow_invalid", "nf_conntrack_tcp_timeout_established", "nf_conntrack_tcp_timeout_syn_recv",
	"log_nf_conntrack", "protection_synflood", "protection_synflood_rate", "protection_synflood_burst",
}

func getFirewallOptions(c *call) (result, error) {
	row := map[string]any{}
	c.node.firewall.View(c.fwPlaceOf().scope, func(own, _ *firewall.Scope) {
		for key, v := range own.Options {
			row[key] = v
			if n, err := strconv.Atoi(v); err == nil && slices.Contains(numericOptions, key) {
				row[key] = n
			}
		}
		row["digest"] = firewall.Digest(own.Options)
	})
	return result{data: row}, nil
}

// notFirewallOptions are parameters of the request itself.
var notFirewallOptions = []string{"node", "vmid", "vnet", "digest", "delete"}

// putFirewallOptions changes options. The known ones are the parameters of the method.
func putFirewallOptions(c *call) (result, error) {
	known := func(key string) bool {
		_, ok := c.schema.Lookup(key)
		return ok && !slices.Contains(notFirewallOptions, key)
	}
	return c.fwChange(func(own, _ *firewall.Scope) error {
		if err := c.assertDigest(firewall.Digest(own.Options)); err != nil {
			return err
		}
		next := maps.Clone(own.Options)
		for _, key := range c.list("delete") {
			if !known(key) {
				return paramError("delete", "no such option '"+key+"'")
			}
			delete(next, key)
		}
		for key, v := range c.params {
			if !known(key) {
				continue
			}
			if n, err := strconv.Atoi(v); key == "enable" && err == nil && n > 1 {
				// The time of the change stands for "on" in the datacenter (PVE::API2::Firewall::Cluster).
				if v = "1"; c.fwPlaceOf().scope == firewall.Datacenter {
					v = strconv.FormatInt(time.Now().Unix(), 10)
				}
			}
			next[key] = v
		}
		own.Options = next
		return nil
	})
}

func firewallIndex(c *call) (result, error) {
	names := []string{"aliases", "rules", "options", "groups", "ipset", "macros", "refs"}
	switch c.fwPlaceOf().env {
	case firewall.EnvHost:
		names = []string{"rules", "options", "log"}
	case firewall.EnvGuest:
		names = []string{"rules", "aliases", "ipset", "refs", "options"}
	case firewall.EnvVNet:
		names = []string{"rules", "options"}
	}
	rows := []map[string]any{}
	for _, name := range names {
		rows = append(rows, map[string]any{"name": name})
	}
	return result{data: rows}, nil
}

func firewallMacros(*call) (result, error) {
	rows := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(firewall.Macros)) {
		m := firewall.Macros[name]
		rows = append(rows, map[string]any{"macro": m.Name, "descr": m.Description})
	}
	return result{data: rows}, nil
}

// firewallLog is empty, because nothing filters packets here.
func firewallLog(*call) (result, error) {
	total := 1
	return result{data: []map[string]any{{"n": 1, "t": "no content"}}, total: &total}, nil
}

// firewallRefs lists the sets and aliases that a rule of this place may use.
func firewallRefs(c *call) (result, error) {
	rows := []map[string]any{}
	place := c.fwPlaceOf()
	c.node.firewall.View(place.scope, func(own, dc *firewall.Scope) {
		rows = append(rows, refRows(dc, "dc", c.params["type"])...)
		if place.scope != firewall.Datacenter {
			rows = append(rows, refRows(own, "guest", c.params["type"])...)
		}
	})
	return result{data: rows}, nil
}

func refRows(s *firewall.Scope, where, kind string) []map[string]any {
	var rows []map[string]any
	add := func(typ, name, ref, comment string) {
		if kind != "" && kind != typ {
			return
		}
		row := map[string]any{"type": typ, "name": name, "ref": ref, "scope": where}
		if comment != "" {
			row["comment"] = comment
		}
		rows = append(rows, row)
	}
	for _, name := range slices.Sorted(maps.Keys(s.IPSets)) {
		add("ipset", name, "+"+name, s.IPSets[name].Comment)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Aliases)) {
		add("alias", name, strings.ToLower(name), s.Aliases[name].Comment)
	}
	return rows
}
