package appliance

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// closedByDefault are destinations that are never "the internet" (RFC 6890): private,
// shared (CGNAT), link-local, loopback, multicast and reserved ranges. What is behind
// the WAN interface in these ranges is somebody's management network.
var closedByDefault = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
}

// renderNAT makes the ruleset: one table of ours, replaced in one transaction; other
// tables are not touched. The set wan is filled by the agent with the subnets that the
// WAN interface is in, which only the guest knows; conns is the kernel's own account.
func renderNAT(a *accepted) []byte {
	var w bytes.Buffer
	w.WriteString(header(a, "Firewall and masquerade; loaded by "+a.family.Unit(ServiceNAT)+"."))
	fmt.Fprintf(&w, "# wan=%s\n", a.wanIf) // read by the agent
	// Declaring the table makes deleting it safe when it is not there.
	w.WriteString("table inet proximity\ndelete table inet proximity\ntable inet proximity {\n")
	writeSet(&w, "forbidden", a.forbidden)
	writeSet(&w, "allowed", a.allowed)
	writeSet(&w, "closed", parsePrefixes(closedByDefault))
	writeSet(&w, "wan", nil)
	writeSenders(&w, a)
	w.WriteString(selfChain)
	fmt.Fprintf(&w, inputChain, a.lanIf, a.wanIf, a.lan.Masked(), dnsWANRule(a), cockpitRule(a))
	if !a.nat {
		w.WriteString(isolatedChain + "}\n")
		return w.Bytes()
	}
	fmt.Fprintf(&w, connsSet, 1<<(32-a.lan.Bits()))
	forwarded, policies := "", ""
	if len(a.forwards) > 0 {
		forwarded = fmt.Sprintf("\t\tiifname \"%s\" oifname \"%s\" ct status dnat accept\n", a.wanIf, a.lanIf)
	}
	if len(a.policies()) > 0 {
		policies = "\t\tip saddr vmap @egress_of\n"
	}
	writeEgress(&w, a)
	fmt.Fprintf(&w, forwardChains, a.lanIf, a.wanIf, a.lan.Masked(), a.maxConnections, forwarded, policies)
	writeForwards(&w, a)
	w.WriteString("}\n")
	return w.Bytes()
}

// What the appliance itself accepts. DHCP comes before the source check, because a
// guest without a lease has the source 0.0.0.0. IPv6 is neither served nor forwarded;
// neighbour discovery is let through so that link-local addresses behave.
const inputChain = `
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		iifname "lo" accept
		meta l4proto ipv6-icmp accept
		iifname "%[1]s" udp dport 67 accept
		iifname "%[1]s" ip saddr != %[3]s drop
		iifname { "%[1]s", "%[2]s" } ip protocol icmp accept
		iifname "%[1]s" meta l4proto { tcp, udp } th dport 53 accept
		iifname "%[2]s" udp sport 67 udp dport 68 accept
%[4]s%[5]s		iifname { "%[1]s", "%[2]s" } tcp dport { 80, 443 } accept
	}
`

// selfChain keeps the proxy from the appliance itself. A backend may be a name, and what that leads
// to is known when a connection is made and not before: what nobody may reach through a Vhost,
// such as the proxy itself in a circle, is not reached through a name either. The set has the
// proxy's user, which the agent adds.
const selfChain = `
	set proxy {
		typeof meta skuid
	}

	chain self {
		type filter hook output priority filter; policy accept;
		meta skuid @proxy fib daddr type local ct state new tcp dport != 53 reject with tcp reset
	}
`

// senderChain is what a guest may say of itself. It comes before connections are tracked, so that
// nothing of what it drops becomes one. What DHCP sends it lets through: a guest whose
// reservation has changed could not ask for its address otherwise.
const senderChain = `
	chain sender {
		type filter hook prerouting priority raw; policy accept;
		iifname != "%[1]s" accept
		udp sport 68 udp dport 67 accept
		ether saddr . ip saddr @guests accept
		ether saddr @guest_macs meta protocol ip drop
		ip saddr @guest_addresses drop
		ip saddr %[2]s drop
	}
`

// writeSenders binds each guest with a reservation to its address: it may send from no other, and
// nobody else from that. Who has no reservation may have any other address.
func writeSenders(w *bytes.Buffer, a *accepted) {
	if len(a.hosts) == 0 {
		return
	}
	pairs, macs, addresses := make([]string, len(a.hosts)), make([]string, len(a.hosts)), make([]string, len(a.hosts))
	for i, h := range a.hosts {
		pairs[i], macs[i], addresses[i] = h.mac+" . "+h.address.String(), h.mac, h.address.String()
	}
	for _, s := range []struct {
		name, of string
		elements []string
	}{{"guests", "ether_addr . ipv4_addr", pairs}, {"guest_macs", "ether_addr", macs}, {"guest_addresses", "ipv4_addr", addresses}} {
		fmt.Fprintf(w, "\tset %s {\n\t\ttype %s\n\t\telements = { %s }\n\t}\n", s.name, s.of, strings.Join(s.elements, ", "))
	}
	fmt.Fprintf(w, senderChain, a.lanIf, a.lan.Addr())
}

// connsSet counts the connections of each guest. What it holds is no part of the ruleset that
// the agent compares.
const connsSet = `
	set conns {
		type ipv4_addr
		size %d
		flags dynamic
	}
`

// cockpitRule opens the management UI to the LAN.
func cockpitRule(a *accepted) string {
	if !a.cockpit {
		return ""
	}
	return fmt.Sprintf("\t\tiifname \"%s\" ip daddr %s tcp dport 9090 accept\n", a.lanIf, a.lan.Addr())
}

// dnsWANRule lets declared sources ask for names on the WAN interface.
func dnsWANRule(a *accepted) string {
	if a.dnsWAN == nil {
		return ""
	}
	from := "@wan"
	if len(a.dnsWAN.From) > 0 {
		from = "{ " + joined(a.dnsWAN.From) + " }"
	}
	return fmt.Sprintf("\t\tiifname \"%s\" ip saddr %s meta l4proto { tcp, udp } th dport 53 accept\n", a.wanIf, from)
}

// What guests may send on. A refusal is answered, so that a guest learns it at once.
const forwardChains = `
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		iifname "%[1]s" oifname "%[2]s" ip saddr %[3]s jump egress
%[5]s	}

	chain egress {
		ip daddr @forbidden reject with icmpx admin-prohibited
%[6]s		ip daddr @allowed jump open
		ip daddr @closed reject with icmpx admin-prohibited
		ip daddr @wan reject with icmpx admin-prohibited
		jump open
	}

	chain open {
		ct state new add @conns { ip saddr ct count over %[4]d } reject with icmpx admin-prohibited
		accept
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "%[2]s" ip saddr %[3]s masquerade
	}
`

const isolatedChain = `
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
`

// policies are the guests that may not go everywhere.
func (a *accepted) policies() (hosts []acceptedHost) {
	for _, h := range a.hosts {
		if h.egress != nil {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// writeEgress makes a chain for each guest with a policy. What a chain lets through returns to
// the rules that hold for all.
func writeEgress(w *bytes.Buffer, a *accepted) {
	chain := func(h acceptedHost) string { return "guest_" + strings.ReplaceAll(h.address.String(), ".", "_") }
	var entries []string
	for _, h := range a.policies() {
		entries = append(entries, h.address.String()+" : jump "+chain(h))
		fmt.Fprintf(w, "\n\tchain %s {\n", chain(h))
		for _, r := range h.egress.Rules {
			w.WriteString("\t\t" + egressRule(r) + "\n")
		}
		if h.egress.Deny {
			w.WriteString("\t\treject with icmpx admin-prohibited\n")
		}
		w.WriteString("\t}\n")
	}
	if len(entries) > 0 {
		fmt.Fprintf(w, "\n\tmap egress_of {\n\t\ttype ipv4_addr : verdict\n\t\telements = { %s }\n\t}\n", strings.Join(entries, ", "))
	}
}

func egressRule(r EgressRule) string {
	var words []string
	if r.To.IsValid() {
		words = append(words, "ip daddr "+r.To.String())
	}
	switch {
	case len(r.Ports) > 0:
		ports := make([]string, len(r.Ports))
		for i, p := range r.Ports {
			ports[i] = strconv.Itoa(p)
		}
		words = append(words, r.Protocol+" dport { "+strings.Join(ports, ", ")+" }")
	case r.Protocol != "":
		words = append(words, "meta l4proto "+r.Protocol)
	}
	verdict := "return"
	if r.Deny {
		verdict = "reject with icmpx admin-prohibited"
	}
	return strings.Join(append(words, verdict), " ")
}

// writeForwards leads declared ports to their guests.
func writeForwards(w *bytes.Buffer, a *accepted) {
	if len(a.forwards) == 0 {
		return
	}
	w.WriteString("\n\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n")
	for _, f := range a.forwards {
		from := ""
		if len(f.From) > 0 {
			from = " ip saddr { " + joined(f.From) + " }"
		}
		// Only what is for the appliance itself: another address that is routed here is not ours.
		fmt.Fprintf(w, "\t\tiifname \"%s\"%s fib daddr type local %s dport %d dnat ip to %s\n", a.wanIf, from, f.Protocol, f.Port, f.To)
	}
	w.WriteString("\t}\n")
}

func joined(ranges []netip.Prefix) string {
	texts := make([]string, len(ranges))
	for i, p := range ranges {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

// writeSet declares a set of ranges; nft has no notation for an empty element list.
func writeSet(w *bytes.Buffer, name string, ranges []netip.Prefix) {
	fmt.Fprintf(w, "\tset %s {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n", name)
	if len(ranges) > 0 {
		fmt.Fprintf(w, "\t\telements = { %s }\n", joined(ranges))
	}
	w.WriteString("\t}\n")
}

// renderSysctl is read line by line by the agent (the guest need not have procps);
// forwarding comes last, when everything else is in place.
func renderSysctl(a *accepted) []byte {
	forward := 0
	if a.nat {
		forward = 1
	}
	return []byte(header(a, "Kernel settings of forwarding; written by "+a.family.Unit(ServiceNAT)+".") +
		"net.ipv4.conf.all.accept_redirects=0\n" +
		"net.ipv4.conf.all.send_redirects=0\n" +
		fmt.Sprintf("net.ipv4.ip_forward=%d\n", forward))
}

// parsePrefixes is for constants of this package.
func parsePrefixes(texts []string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}
