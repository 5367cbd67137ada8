package appliance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Where the files are in the guest.
const (
	etcDir      = "/etc/proximity"
	stateDir    = "/var/lib/proximity"
	unitDir     = "/etc/systemd/system"
	dhcpHostDir = etcDir + "/dhcp-hosts.d"
	hostsDir    = etcDir + "/hosts.d"

	dnsmasqPath  = etcDir + "/dnsmasq.conf"
	vhostsPath   = etcDir + "/vhosts.json"
	natPath      = etcDir + "/nat.nft"
	sysctlPath   = etcDir + "/sysctl.conf"
	probesPath   = etcDir + "/probes"
	dnsQueryPath = etcDir + "/dns-query.bin"
	manifestPath = etcDir + "/manifest"
	leasesPath   = stateDir + "/dnsmasq.leases"
)

// proofBytes is how much of a hash goes into a self-check: enough that two sets never
// meet, short enough for one DNS label.
const proofBytes = 16

// Render makes the complete set of files of an appliance. It is pure: the same Input
// gives the same Bundle. An error names the first bad appliance-level field; bad
// Hosts, Vhosts and Probes only show up in Bundle.Rejected.
func Render(in Input) (Bundle, error) {
	a, err := accept(in)
	if err != nil {
		return Bundle{}, fmt.Errorf("appliance %s: %w", quoted(in.Name), err)
	}
	dnsmasq, dnsProof := renderDNSMasq(a)
	caddy, proxyProof, err := renderCaddy(a)
	if err != nil {
		return Bundle{}, fmt.Errorf("appliance %s: %w", quoted(in.Name), err)
	}
	b := Bundle{Rejected: a.rejected, forward: a.nat, Files: []File{
		{Path: dnsmasqPath, Mode: 0o644, Part: PartDNSMasq, Content: dnsmasq},
		{Path: vhostsPath, Mode: 0o644, Part: PartCaddy, Content: caddy},
		{Path: natPath, Mode: 0o644, Part: PartNAT, Content: renderNAT(a)},
		{Path: sysctlPath, Mode: 0o644, Part: PartNAT, Content: renderSysctl(a)},
		{Path: probesPath, Mode: 0o644, Part: PartData, Content: renderProbes(a)},
		{Path: dnsQueryPath, Mode: 0o644, Part: PartData, Content: dnsQuery(proofName(a))},
		{Path: AgentPath, Mode: 0o755, Part: PartData, Content: []byte(agentScript)},
	}}
	b.Files = append(b.Files, renderHosts(a)...)
	b.Files = append(b.Files, renderUnits(a)...)
	slices.SortFunc(b.Files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	size := 0
	for _, f := range b.Files {
		size += len(f.Content)
	}
	if size > MaxBundleBytes {
		return Bundle{}, fmt.Errorf("appliance %s: %d bytes of files, at most %d", quoted(in.Name), size, MaxBundleBytes)
	}
	b.Hash = setHash(b.Files)
	b.manifest = renderManifest(a, b, dnsProof, proxyProof)
	return b, nil
}

// header is the mark in every file whose language has comments.
func header(a *accepted, what string) string {
	return "# " + what + "\n" +
		"# Written by Proximity from the Appliance " + a.name + "; changes are overwritten.\n" +
		"# installation=" + a.installation + " appliance=" + a.uid + "\n"
}

// setHash is what the agent computes over the live files with find, sort and
// sha256sum: the hash of the list of hashes.
func setHash(files []File) string {
	var list bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&list, "%s  %s\n", contentHash(f.Content), f.Path)
	}
	return contentHash(list.Bytes())
}

func contentHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// renderManifest lists the set for the agent, with what the self-checks expect.
func renderManifest(a *accepted, b Bundle, dnsProof, proxyProof string) []byte {
	var m bytes.Buffer
	m.WriteString(header(a, "The live set of files, written last by every apply."))
	fmt.Fprintf(&m, "protocol %d\n", Protocol)
	fmt.Fprintf(&m, "hash %s\n", b.Hash)
	fmt.Fprintf(&m, "address %s\n", a.lan.Addr())
	fmt.Fprintf(&m, "dns-proof %s\n", hex.EncodeToString([]byte(dnsProof)))
	fmt.Fprintf(&m, "proxy-proof %s\n", proxyProof)
	for _, f := range b.Files {
		fmt.Fprintf(&m, "file %s %04o %s %s\n", contentHash(f.Content), f.Mode, f.Part, f.Path)
	}
	return m.Bytes()
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
