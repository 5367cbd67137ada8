package appliance

import (
	"bytes"
	"fmt"
	"net/netip"
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
// WAN interface is in, which only the guest knows.
func renderNAT(a *accepted) []byte {
	var w bytes.Buffer
	w.WriteString(header(a, "Firewall and masquerade; loaded by proximity-nat.service."))
	fmt.Fprintf(&w, "# wan=%s\n", a.wanIf) // read by the agent
	// Declaring the table makes deleting it safe when it is not there.
	w.WriteString("table inet proximity\ndelete table inet proximity\ntable inet proximity {\n")
	writeSet(&w, "forbidden", a.forbidden)
	writeSet(&w, "allowed", a.allowed)
	writeSet(&w, "closed", parsePrefixes(closedByDefault))
	writeSet(&w, "wan", nil)
	fmt.Fprintf(&w, inputChain, a.lanIf, a.wanIf, a.lan.Masked())
	if a.nat {
		fmt.Fprintf(&w, forwardChains, a.lanIf, a.wanIf, a.lan.Masked())
	} else {
		w.WriteString(isolatedChain)
	}
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
		iifname { "%[1]s", "%[2]s" } tcp dport { 80, 443 } accept
	}
`

// What guests may send on. A refusal is answered, so that a guest learns it at once.
const forwardChains = `
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		iifname "%[1]s" oifname "%[2]s" ip saddr %[3]s jump egress
	}

	chain egress {
		ip daddr @forbidden reject with icmpx admin-prohibited
		ip daddr @allowed accept
		ip daddr @closed reject with icmpx admin-prohibited
		ip daddr @wan reject with icmpx admin-prohibited
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

// writeSet declares a set of ranges; nft has no notation for an empty element list.
func writeSet(w *bytes.Buffer, name string, ranges []netip.Prefix) {
	fmt.Fprintf(w, "\tset %s {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n", name)
	if len(ranges) > 0 {
		texts := make([]string, len(ranges))
		for i, p := range ranges {
			texts[i] = p.String()
		}
		fmt.Fprintf(w, "\t\telements = { %s }\n", strings.Join(texts, ", "))
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
	return []byte(header(a, "Kernel settings of forwarding; written by proximity-nat.service.") +
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
