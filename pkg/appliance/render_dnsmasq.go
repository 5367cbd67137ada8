package appliance

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// renderDNSMasq makes dnsmasq.conf and the proof: the text of a TXT record that only
// this very file serves, so that a query tells whether the running dnsmasq has read it.
func renderDNSMasq(a *accepted) (conf []byte, proof string) {
	var w bytes.Buffer
	lines := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	address := a.lan.Addr()

	w.WriteString(header(a, "DHCP and DNS of the LAN. Guests are in dhcp-hosts.d and hosts.d."))
	// bind-dynamic: the interface may come later than dnsmasq, and lo stays free.
	lines("interface=%s", a.lanIf)
	lines("except-interface=lo")
	lines("bind-dynamic")
	lines("user=dnsmasq")
	lines("pid-file=/run/proximity-dnsmasq.pid")
	lines("log-facility=-")
	lines("log-async=25")

	lines("dhcp-authoritative")
	// An ICMP check before each first offer would cost the guest 3 s of its boot.
	lines("no-ping")
	lines("dhcp-range=%s,%s,%s,%d", a.start, a.end, netmask(a.lan), int(a.lease.Seconds()))
	lines("dhcp-option=option:router,%s", address)
	lines("dhcp-option=option:dns-server,%s", address)
	lines("dhcp-option=option:domain-search,%s", a.zone)
	lines("dhcp-hostsdir=%s", DHCPHostsDir)
	lines("dhcp-leasefile=%s", LeasesPath)
	lines("dhcp-lease-max=%d", 1<<(32-a.lan.Bits()))
	// Names come from hosts.d only: no guest takes a name by asking for it.
	lines("dhcp-ignore-names")

	lines("domain=%s", a.zone)
	w.WriteString(a.localZones())
	lines("no-hosts")
	lines("hostsdir=%s", HostsDir)
	lines("host-record=%s.%s,%s", a.label, a.lanZone(), address)
	lines("domain-needed")
	lines("bogus-priv")
	lines("dns-loop-detect")
	lines("cache-size=2000")
	lines("dns-forward-max=300")
	// stop-dns-rebind is left out on purpose: names of a home or office network in
	// private ranges are ordinary answers of the upstream here.
	if len(a.upstreams) == 0 {
		lines("resolv-file=/etc/resolv.conf")
	} else {
		lines("no-resolv")
		for _, u := range a.upstreams {
			lines("server=%s", u)
		}
	}
	proof = contentHash(w.Bytes())[:2*proofBytes]
	lines("txt-record=%s,%s", proofName(a), proof)
	return w.Bytes(), proof
}

// localZones are the zones whose names are answered here and nowhere else. What has no name of
// its own below a wildcard of a Vhost leads to the proxy.
func (a *accepted) localZones() string {
	var w strings.Builder
	zone := func(name string) { fmt.Fprintf(&w, "local=/%s/\n", name) }
	zone(a.zone)
	for _, name := range reverseZones(a.lan) {
		zone(name)
	}
	wild := false
	for _, v := range a.vhosts {
		for _, parent := range v.wild() {
			fmt.Fprintf(&w, "address=/%s/%s\n", parent, a.lan.Addr())
			wild = true
		}
	}
	if wild {
		zone(a.lanZone()) // guests' own names are none of a wildcard's
	}
	return w.String()
}

// renderDNSWAN makes the configuration of the dnsmasq that answers on the WAN interface. It
// asks the other one, and only for names of the local zones: whoever asks for other names is
// refused, so there is no recursion. Who may ask at all is the firewall's matter. The agent
// starts it with one more option, by which the appliance's address is the one on the WAN there.
func renderDNSWAN(a *accepted) []byte {
	var w bytes.Buffer
	lines := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	w.WriteString(header(a, "DNS of the uplink, for names of the local zone only."))
	lines("interface=%s", a.wanIf)
	lines("except-interface=lo")
	lines("bind-dynamic")
	lines("user=dnsmasq")
	lines("pid-file=/run/proximity-dnsmasq-wan.pid")
	lines("log-facility=-")
	lines("no-resolv")
	lines("no-hosts")
	for _, zone := range append([]string{a.zone}, reverseZones(a.lan)...) {
		lines("server=/%s/%s", zone, a.lan.Addr())
	}
	lines("cache-size=0") // an answer is as old as the other's
	lines("dns-forward-max=150")
	return w.Bytes()
}

// proofName is where the proof is asked for; no host name has an underscore.
func proofName(a *accepted) string { return "_config." + a.label + "." + a.lanZone() }

func netmask(p netip.Prefix) netip.Addr {
	m := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)})
}

// reverseZones are the in-addr.arpa zones that the LAN fills completely: one for /16
// and /24, up to 128 between them. A LAN smaller than /24 has none; bogus-priv answers
// for it where its range is private.
func reverseZones(lan netip.Prefix) []string {
	b := lan.Masked().Addr().As4()
	if lan.Bits() == 16 {
		return []string{fmt.Sprintf("%d.%d.in-addr.arpa", b[1], b[0])}
	}
	if lan.Bits() > 24 {
		return nil
	}
	var zones []string
	for i := range 1 << (24 - lan.Bits()) {
		zones = append(zones, fmt.Sprintf("%d.%d.%d.in-addr.arpa", int(b[2])+i, b[1], b[0]))
	}
	return zones
}

// renderHosts makes the live data of dnsmasq: a reservation and a names file per
// guest, a names file per Vhost. The first name of a line is what a reverse lookup
// answers.
func renderHosts(a *accepted) []File {
	proxied := map[string]bool{}
	for _, v := range a.vhosts {
		for _, h := range v.Hosts {
			proxied[h] = true
		}
	}
	var files []File
	for _, h := range a.hosts {
		names := h.hostname + "." + a.lanZone()
		if plain := h.hostname + "." + a.zone; !proxied[plain] {
			names += " " + plain
		}
		files = append(files,
			hostFile(a, DHCPHostsDir+"/"+h.fileName, fmt.Sprintf("%s,%s,%d", h.mac, h.address, int(a.lease.Seconds()))),
			hostFile(a, HostsDir+"/app."+h.fileName, h.address.String()+" "+names))
	}
	for _, v := range a.vhosts {
		if names := v.exact(); len(names) > 0 {
			files = append(files, hostFile(a, HostsDir+"/vhost."+v.fileName, a.lan.Addr().String()+" "+strings.Join(names, " ")))
		}
	}
	return files
}

// hostFile is a file of one line, with the mark: both kinds of directories take comments.
func hostFile(a *accepted, path, line string) File {
	mark := "# proximity installation=" + a.installation + " appliance=" + a.uid + "\n"
	return File{Path: path, Mode: 0o644, Part: PartHosts, Content: []byte(mark + line + "\n")}
}

// Types of records that are asked for.
const typeA, typeTXT = 1, 16

// dnsQuery is a complete DNS question (RFC 1035 section 4) for the records of a name, ready to
// be sent: the guest has no tool that could build one.
func dnsQuery(name string, kind byte) []byte {
	const id, flagsRD, classIN = 0x5072, 0x0100, 1
	q := []byte{id >> 8, id & 0xff, flagsRD >> 8, flagsRD & 0xff, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		q = append(q, byte(len(label)))
		q = append(q, label...)
	}
	return append(q, 0, 0, kind, 0, classIN)
}
