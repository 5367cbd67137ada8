// Package appliancesim is the network appliance's software for guests in memory: the
// agent with its verbs, dnsmasq, Caddy and nft as programs of engine/mem. Controllers
// and the daemon work against it as against the real guest, without LXC and root.
//
// It works on the very files that package appliance renders, in the guest's own file
// system: the agent checks, swaps and lists them, the name service reads hosts.d and
// dhcp-hosts.d at each question, the proxy serves proxy.json and vhosts.table, as the
// Caddy of cmd/proximity-caddy does. Its output is made by
// appliance.Observation.Encode, so the format cannot drift from the real agent's.
//
// What is real here: files and their hashes, services under the guest's service
// manager (Guest.KillUnit and a reboot do what they do there), leases, names, requests
// through the proxy over HTTP and HTTPS with a CA of its own, egress that stops when
// the rules are gone. What is not: the firewall's decisions (an appliance forwards all
// or nothing), ACME (such vhosts get a certificate of the internal CA), the tools' own
// checks beyond syntax, and the roll-back of a set that passed them.
package appliancesim
