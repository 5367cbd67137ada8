package appliance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// proofBytes is how much of a hash goes into a self-check: enough that two sets never
// meet, short enough for one DNS label.
const proofBytes = 16

// proofs are what the self-checks of a set expect.
type proofs struct {
	dns, stock, proxy, table string
}

// Render makes the complete set of files of an appliance. It is pure: the same Input
// gives the same Bundle. An error names the first bad appliance-level field; bad
// Hosts, Vhosts and Probes only show up in Bundle.Rejected.
func Render(in Input) (Bundle, error) {
	a, err := accept(in)
	if err != nil {
		return Bundle{}, fmt.Errorf("appliance %s: %w", quoted(in.Name), err)
	}
	var p proofs
	var dnsmasq, stock, proxy, table []byte
	var err1, err2, err3 error
	dnsmasq, p.dns = renderDNSMasq(a)
	stock, p.stock, err1 = renderCaddy(a, stockConfig)
	proxy, p.proxy, err2 = renderCaddy(a, proxyConfig)
	table, p.table, err3 = renderTable(a)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Bundle{}, fmt.Errorf("appliance %s: %w", quoted(in.Name), err)
	}
	b := Bundle{Rejected: a.rejected, family: a.family, forward: a.nat, Files: []File{
		{Path: DNSMasqPath, Mode: 0o644, Part: PartDNSMasq, Content: dnsmasq},
		// Passwords' hashes and keys are in them: agent and Caddy read them, nobody else.
		{Path: VhostsPath, Mode: 0o640, Part: PartCaddy, Content: stock},
		{Path: ProxyPath, Mode: 0o640, Part: PartProxy, Content: proxy},
		{Path: TablePath, Mode: 0o640, Part: PartTable, Content: table},
		{Path: NATPath, Mode: 0o644, Part: PartNAT, Content: renderNAT(a)},
		{Path: IPTablesPath, Mode: 0o644, Part: PartNAT, Content: renderIPTables(a)},
		{Path: IP6TablesPath, Mode: 0o644, Part: PartNAT, Content: renderIP6Tables(a)},
		{Path: SysctlPath, Mode: 0o644, Part: PartNAT, Content: renderSysctl(a)},
		{Path: ProbesPath, Mode: 0o644, Part: PartData, Content: renderProbes(a)},
		{Path: DNSQueryPath, Mode: 0o644, Part: PartData, Content: dnsQuery(proofName(a), typeTXT)},
		{Path: AgentPath, Mode: 0o755, Part: PartData, Content: []byte(a.family.agent())},
	}}
	if a.dnsWAN != nil {
		b.Files = append(b.Files, File{Path: DNSWANPath, Mode: 0o644, Part: PartDNSWAN, Content: renderDNSWAN(a)},
			File{Path: DNSWANQueryPath, Mode: 0o644, Part: PartData, Content: dnsQuery(a.label+"."+a.lanZone(), typeA)})
	}
	if a.cockpit {
		b.Files = append(b.Files, File{Path: CockpitPath, Mode: 0o644, Part: PartCockpit, Content: renderCockpit(a)})
		if origins := a.cockpitOrigins(); origins != nil {
			b.Files = append(b.Files, File{Path: CockpitConfPath, Mode: 0o644, Part: PartCockpit, Content: renderCockpitConf(a, origins)})
		}
	}
	b.Files = append(b.Files, a.family.logs(a))
	if a.acmeRoot != "" {
		b.Files = append(b.Files, File{Path: ACMERootPath, Mode: 0o644, Part: PartProxy, Content: []byte(a.acmeRoot)})
	}
	b.Files = append(b.Files, renderHosts(a)...)
	for _, s := range a.services() {
		b.Files = append(b.Files, a.family.definition(a, s))
	}
	slices.SortFunc(b.Files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	size := 0
	for _, f := range b.Files {
		size += len(f.Content)
	}
	if size > MaxBundleBytes {
		return Bundle{}, fmt.Errorf("appliance %s: %d bytes of files, at most %d", quoted(in.Name), size, MaxBundleBytes)
	}
	b.Hash = setHash(b)
	b.manifest = renderManifest(a, b, p)
	return b, nil
}

// header is the mark in every file whose language has comments.
func header(a *accepted, what string) string {
	return "# " + what + "\n" +
		"# Written by Proximity from the Appliance " + a.name + "; changes are overwritten.\n" +
		"# installation=" + a.installation + " appliance=" + a.uid + "\n"
}

// renderCockpit has the socket listen on the LAN address only, which may come later than it, and,
// where a Vhost leads to it, for the proxy alone.
func renderCockpit(a *accepted) []byte {
	proxied := ""
	if a.cockpitOrigins() != nil {
		proxied = "ListenStream=" + CockpitSocket + "\nSocketUser=caddy\nSocketMode=0600\n"
	}
	return []byte(header(a, "The socket of Cockpit, the management UI.") +
		fmt.Sprintf("[Socket]\nListenStream=\nListenStream=%s:%d\nFreeBind=yes\n%s", a.lan.Addr(), CockpitPort, proxied))
}

// cockpitOrigins are the names under which Vhosts lead to Cockpit, as browsers say where a page is
// from; nil without any.
func (a *accepted) cockpitOrigins() (origins []string) {
	for _, v := range a.vhosts {
		if v.leadsToUI() {
			for _, h := range v.Hosts {
				origins = append(origins, "https://"+h)
			}
		}
	}
	return origins
}

// renderCockpitConf has Cockpit take requests that came over the proxy for what they were before.
// With a list of origins there is no other than those, so it has those of the LAN too.
func renderCockpitConf(a *accepted, origins []string) []byte {
	for _, own := range []string{a.lan.Addr().String(), a.label + "." + a.lanZone()} {
		origins = append(origins, fmt.Sprintf("https://%s:%d", own, CockpitPort))
	}
	return []byte(header(a, "The configuration of Cockpit; the agent links it where Cockpit reads it.") +
		"[WebService]\nOrigins = " + strings.Join(origins, " ") + "\nProtocolHeader = X-Forwarded-Proto\nForwardedForHeader = X-Forwarded-For\n")
}

func setHash(b Bundle) string { return HashSet(b.Hashes()) }

func contentHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// renderProbes writes one probe per line: kind, address, path, Host header, key.
func renderProbes(a *accepted) []byte {
	var out bytes.Buffer
	out.WriteString(header(a, "What the agent asks during every observe."))
	for _, p := range a.probes {
		fmt.Fprintf(&out, "%s %s %s %s %s\n", p.Kind, p.Address, p.Path, p.Host, p.Key)
	}
	return out.Bytes()
}
