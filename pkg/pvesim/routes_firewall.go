package pvesim

import "strings"

// firewallHandlers are the methods of the firewalls of the datacenter, nodes, guests and
// virtual networks.
var firewallHandlers = firewallRoutes()

func firewallRoutes() map[string]handler {
	out := map[string]handler{
		"GET /cluster/firewall/macros":            firewallMacros,
		"GET /cluster/firewall/groups":            listSecurityGroups,
		"POST /cluster/firewall/groups":           createSecurityGroup,
		"GET /cluster/firewall/groups/{group}":    listFirewallRules,
		"POST /cluster/firewall/groups/{group}":   createFirewallRule,
		"DELETE /cluster/firewall/groups/{group}": deleteSecurityGroup,
	}
	rules := map[string]handler{"GET /{pos}": getFirewallRule, "PUT /{pos}": updateFirewallRule, "DELETE /{pos}": deleteFirewallRule}
	lists := map[string]handler{
		"GET /rules": listFirewallRules, "POST /rules": createFirewallRule,
		"GET /options": getFirewallOptions, "PUT /options": putFirewallOptions, "GET ": firewallIndex,
	}
	sets := map[string]handler{
		"GET /ipset": listIPSets, "POST /ipset": createIPSet, "GET /ipset/{name}": listIPSetEntries, "POST /ipset/{name}": createIPSetEntry,
		"DELETE /ipset/{name}": deleteIPSet, "GET /ipset/{name}/{cidr}": getIPSetEntry, "PUT /ipset/{name}/{cidr}": updateIPSetEntry,
		"DELETE /ipset/{name}/{cidr}": deleteIPSetEntry,
		"GET /aliases":                listAliases, "POST /aliases": createAlias, "GET /aliases/{name}": getAlias, "PUT /aliases/{name}": updateAlias,
		"DELETE /aliases/{name}": deleteAlias, "GET /refs": firewallRefs,
	}
	log := map[string]handler{"GET /log": firewallLog}
	mount := func(base string, tables ...map[string]handler) {
		for _, table := range tables {
			for key, h := range table {
				method, path, _ := strings.Cut(key, " ")
				out[method+" "+base+path] = h
			}
		}
	}
	mount("/cluster/firewall", lists, sets)
	mount("/nodes/{node}/firewall", lists, log)
	mount("/nodes/{node}/lxc/{vmid}/firewall", lists, sets, log)
	mount("/cluster/sdn/vnets/{vnet}/firewall", lists)
	for _, base := range []string{"/cluster/firewall/rules", "/cluster/firewall/groups/{group}", "/nodes/{node}/firewall/rules", "/nodes/{node}/lxc/{vmid}/firewall/rules", "/cluster/sdn/vnets/{vnet}/firewall/rules"} {
		mount(base, rules)
	}
	return out
}
