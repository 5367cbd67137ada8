package appliance

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// WANMark stands for a subnet that the WAN interface is in, which only the guest knows: the agent
// repeats a line that has it for each, and leaves it out where there is none.
const WANMark = "@WAN@"

// ProxyMark stands for the proxy's user, whom the agent puts there.
const ProxyMark = "@PROXY@"

const (
	// refuseRule answers what is not allowed, so that a guest learns it at once.
	refuseRule = "-j REJECT --reject-with icmp-admin-prohibited"

	maxMultiport = 15 // ports of one match
)

// iptables collects the rules of one table. Chains of ours have names of ours; all that is in the
// kernel's own chains is a jump, as their first rule. Nobody else's rules are touched, and none of
// them is asked: each of our chains of INPUT and FORWARD ends with a refusal.
type iptables struct {
	chains, rules bytes.Buffer
}

func (t *iptables) chain(names ...string) {
	for _, name := range names {
		fmt.Fprintf(&t.chains, ":PROXIMITY-%s - [0:0]\n", name)
	}
}

func (t *iptables) add(chain, format string, args ...any) {
	fmt.Fprintf(&t.rules, "-A PROXIMITY-"+chain+" "+format+"\n", args...)
}

// first has one of the kernel's chains ask one of ours before anything else.
func (t *iptables) first(builtin, chain string) {
	fmt.Fprintf(&t.rules, "-I %s 1 -j PROXIMITY-%s\n", builtin, chain)
}

func (t *iptables) text(table string) string {
	return "*" + table + "\n" + t.chains.String() + t.rules.String() + "COMMIT\n"
}

// renderIPTables makes the same rules as renderNAT for a guest that has only iptables. Each table
// is replaced in one transaction; filter comes first, so that nothing is let through meanwhile that
// the rest would refuse. What is in a set there is a chain here.
func renderIPTables(a *accepted) []byte {
	var raw, nat, filter iptables
	a.iptablesInput(&filter)
	a.iptablesForward(&filter)
	filter.first("INPUT", "IN")
	filter.first("FORWARD", "FWD")
	iptablesSelf(&filter)

	raw.chain("SENDER")
	a.iptablesSenders(&raw)
	raw.first("PREROUTING", "SENDER")

	nat.chain("DNAT", "SNAT")
	if a.nat {
		for _, f := range a.forwards {
			for _, from := range sources(f.From) {
				nat.add("DNAT", "-i %s%s -m addrtype --dst-type LOCAL -p %s --dport %d -j DNAT --to-destination %s", a.wanIf, from, f.Protocol, f.Port, f.To)
			}
		}
		nat.add("SNAT", "-s %s -o %s -j MASQUERADE", a.lan.Masked(), a.wanIf)
	}
	nat.first("PREROUTING", "DNAT")
	nat.first("POSTROUTING", "SNAT")
	return []byte(header(a, "Firewall and masquerade where there is no nft; loaded by "+a.family.Unit(ServiceNAT)+".") +
		filter.text("filter") + raw.text("raw") + nat.text("nat"))
}

// renderIP6Tables has what is left of it for IPv6, which is neither served nor forwarded.
func renderIP6Tables(a *accepted) []byte {
	var filter iptables
	filter.chain("IN", "FWD")
	known(&filter, "IN")
	filter.add("IN", "-i lo -j ACCEPT")
	filter.add("IN", "-p ipv6-icmp -j ACCEPT")
	a.served(&filter)
	filter.add("IN", "-j DROP")
	filter.add("FWD", "-j DROP")
	filter.first("INPUT", "IN")
	filter.first("FORWARD", "FWD")
	iptablesSelf(&filter)
	return []byte(header(a, "Firewall of IPv6 where there is no nft; loaded by "+a.family.Unit(ServiceNAT)+".") + filter.text("filter"))
}

// iptablesSelf keeps the proxy from the appliance itself (see selfChain).
func iptablesSelf(t *iptables) {
	t.chain("SELF")
	t.add("SELF", "-p tcp -m tcp ! --dport 53 -m owner --uid-owner %s -m addrtype --dst-type LOCAL -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset", ProxyMark)
	t.first("OUTPUT", "SELF")
}

// known lets through what belongs to a connection that was let through.
func known(t *iptables, chain string) {
	t.add(chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	t.add(chain, "-m conntrack --ctstate INVALID -j DROP")
}

// served are the services of the LAN's and the proxy's ports.
func (a *accepted) served(t *iptables) {
	for _, protocol := range []string{"tcp", "udp"} {
		t.add("IN", "-i %s -p %s --dport 53 -j ACCEPT", a.lanIf, protocol)
	}
	for _, iface := range []string{a.lanIf, a.wanIf} {
		t.add("IN", "-i %s -p tcp -m multiport --dports 80,443 -j ACCEPT", iface)
	}
}

func (a *accepted) iptablesInput(t *iptables) {
	t.chain("IN")
	known(t, "IN")
	t.add("IN", "-i lo -j ACCEPT")
	t.add("IN", "-i %s -p udp --dport 67 -j ACCEPT", a.lanIf)
	t.add("IN", "! -s %s -i %s -j DROP", a.lan.Masked(), a.lanIf)
	for _, iface := range []string{a.lanIf, a.wanIf} {
		t.add("IN", "-i %s -p icmp -j ACCEPT", iface)
	}
	t.add("IN", "-i %s -p udp --sport 67 --dport 68 -j ACCEPT", a.wanIf)
	if a.dnsWAN != nil {
		from := []string{" -s " + WANMark}
		if len(a.dnsWAN.From) > 0 {
			from = sources(a.dnsWAN.From)
		}
		for _, s := range from {
			for _, protocol := range []string{"tcp", "udp"} {
				t.add("IN", "-i %s%s -p %s --dport 53 -j ACCEPT", a.wanIf, s, protocol)
			}
		}
	}
	if a.cockpit {
		t.add("IN", "-i %s -d %s/32 -p tcp --dport 9090 -j ACCEPT", a.lanIf, a.lan.Addr())
	}
	a.served(t)
	t.add("IN", "-j DROP")
}

func (a *accepted) iptablesForward(t *iptables) {
	t.chain("FWD", "FORBIDDEN", "ALLOWED", "CLOSED", "WAN", "EGRESS", "OPEN")
	for _, p := range a.forbidden {
		t.add("FORBIDDEN", "-d %s %s", p, refuseRule)
	}
	for _, p := range a.allowed {
		t.add("ALLOWED", "-d %s -j PROXIMITY-OPEN", p)
	}
	for _, p := range closedByDefault {
		t.add("CLOSED", "-d %s %s", p, refuseRule)
	}
	t.add("WAN", "-d %s %s", WANMark, refuseRule)
	if a.nat {
		known(t, "FWD")
		t.add("FWD", "-s %s -i %s -o %s -j PROXIMITY-EGRESS", a.lan.Masked(), a.lanIf, a.wanIf)
		if len(a.forwards) > 0 {
			t.add("FWD", "-i %s -o %s -m conntrack --ctstate DNAT -j ACCEPT", a.wanIf, a.lanIf)
		}
		t.add("EGRESS", "-j PROXIMITY-FORBIDDEN")
		a.iptablesPolicies(t)
		for _, chain := range []string{"ALLOWED", "CLOSED", "WAN", "OPEN"} {
			t.add("EGRESS", "-j PROXIMITY-%s", chain)
		}
		t.add("OPEN", "-m conntrack --ctstate NEW -m connlimit --connlimit-above %d --connlimit-mask 32 --connlimit-saddr %s", a.maxConnections, refuseRule)
		t.add("OPEN", "-j ACCEPT")
	}
	t.add("FWD", "-j DROP")
}

// iptablesPolicies makes a chain for each guest with a policy. What it lets through returns to the
// rules that hold for all.
func (a *accepted) iptablesPolicies(t *iptables) {
	for _, h := range a.policies() {
		own := h.address.String()
		t.chain(own)
		t.add("EGRESS", "-s %s/32 -j PROXIMITY-%s", own, own)
		for _, r := range h.egress.Rules {
			for _, match := range egressMatches(r) {
				t.add(own, "%s", match)
			}
		}
		if h.egress.Deny {
			t.add(own, "%s", refuseRule)
		}
	}
}

func egressMatches(r EgressRule) (out []string) {
	var match string
	if r.To.IsValid() {
		match = "-d " + r.To.String() + " "
	}
	if r.Protocol != "" {
		match += "-p " + r.Protocol + " "
	}
	verdict := "-j RETURN"
	if r.Deny {
		verdict = refuseRule
	}
	if len(r.Ports) == 0 {
		return []string{match + verdict}
	}
	for ports := range slices.Chunk(r.Ports, maxMultiport) {
		texts := make([]string, len(ports))
		for i, p := range ports {
			texts[i] = strconv.Itoa(p)
		}
		out = append(out, match+"-m multiport --dports "+strings.Join(texts, ",")+" "+verdict)
	}
	return out
}

// iptablesSenders is what a guest may say of itself, before connections are tracked (see
// senderChain).
func (a *accepted) iptablesSenders(t *iptables) {
	if len(a.hosts) == 0 {
		return
	}
	t.add("SENDER", "! -i %s -j RETURN", a.lanIf)
	t.add("SENDER", "-p udp --sport 68 --dport 67 -j RETURN")
	for _, h := range a.hosts {
		t.add("SENDER", "-s %s/32 -m mac --mac-source %s -j RETURN", h.address, h.mac)
	}
	for _, h := range a.hosts {
		t.add("SENDER", "-m mac --mac-source %s -j DROP", h.mac)
	}
	for _, h := range a.hosts {
		t.add("SENDER", "-s %s/32 -j DROP", h.address)
	}
	t.add("SENDER", "-s %s/32 -j DROP", a.lan.Addr())
}

// sources are matches for each of the ranges, or one for all.
func sources(ranges []netip.Prefix) []string {
	if len(ranges) == 0 {
		return []string{""}
	}
	out := make([]string, len(ranges))
	for i, p := range ranges {
		out[i] = " -s " + p.String()
	}
	return out
}
