package appliance

import (
	"fmt"
	"slices"
	"strings"
)

// maxDiffLines bounds how many files Diff names one by one.
const maxDiffLines = 20

// noWANAddress is the agent's reason when the WAN interface has no address.
const noWANAddress = "the interface has no address"

// Diff tells in words why what is live is not the bundle: missing, changed and extra
// files, dead services, missing rules. An empty result means that apply would change
// nothing. What apply cannot repair (the addresses of the interfaces) is not looked at.
func Diff(b Bundle, o Observation) []string {
	var out []string
	if len(o.Missing) > 0 {
		out = append(out, fmt.Sprintf("commands are missing: %v", o.Missing))
	}
	out = append(out, diffFiles(b, o)...)
	if o.Manifest != b.Hash && o.SetHash == b.Hash {
		out = append(out, "the last apply of this set did not come to its end")
	}
	// Without an address on the uplink nothing can answer there, which no apply changes.
	noUplink := o.DNSWAN.Reason == noWANAddress
	for _, name := range b.services() {
		if name == ServiceDNSWAN && noUplink {
			continue
		}
		unit := b.os().Unit(name)
		s, known := o.Services[unit]
		switch {
		case !known:
			out = append(out, unit+" is unknown to the service manager")
		case s.Active != "active":
			out = append(out, unit+" is "+s.Active)
		case !s.Enabled:
			out = append(out, unit+" does not start at boot")
		}
	}
	if o.NAT != NATOK {
		out = append(out, "the firewall table "+map[NATState]string{NATMissing: "is missing", NATDiffers: "was changed"}[o.NAT])
	}
	if o.Forward != b.forward {
		out = append(out, fmt.Sprintf("forwarding is %t, not %t", o.Forward, b.forward))
	}
	if !o.DNS.OK {
		out = append(out, "DNS: "+o.DNS.Reason)
	}
	if b.has(DNSWANPath) && !o.DNSWAN.OK && !noUplink {
		out = append(out, "DNS on the uplink: "+orDefault(o.DNSWAN.Reason, "not looked at"))
	}
	if !o.Proxy.OK {
		out = append(out, "proxy: "+o.Proxy.Reason)
	}
	return out
}

// services are those of the set, in the order in which guests need them.
func (b Bundle) services() []ServiceName {
	names := []ServiceName{ServiceNAT, ServiceDNSMasq, ServiceCaddy}
	if b.has(DNSWANPath) {
		names = append(names, ServiceDNSWAN)
	}
	if b.has(CockpitPath) {
		names = append(names, ServiceCockpit)
	}
	return names
}

func (b Bundle) has(path string) bool {
	_, found := slices.BinarySearchFunc(b.Files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	return found
}

// Hashes maps the path of every file to the hex SHA-256 of its content: what
// Observation.Files is when all is live.
func (b Bundle) Hashes() map[string]string {
	hashes := make(map[string]string, len(b.Files))
	for _, f := range b.Files {
		hashes[f.Path] = contentHash(f.Content)
	}
	return hashes
}

// Restarts names the services that an apply of the bundle restarts or starts: those of
// whose files (see Part) one differs, and those that are not active.
func Restarts(b Bundle, o Observation) []string {
	var units []string
	for _, name := range b.services() {
		unit := b.os().Unit(name)
		if o.Services[unit].Active != "active" || o.SetHash != b.Hash && restartedBy(b, o, name) {
			units = append(units, unit)
		}
	}
	return units
}

// restartedBy tells whether a file whose change restarts the service differs. When it is not
// known which files are live, any may.
func restartedBy(b Bundle, o Observation, s ServiceName) bool {
	if o.Files == nil {
		return true
	}
	return slices.ContainsFunc(b.Files, func(f File) bool {
		mine := f.Part == PartDNSMasq && s == ServiceDNSMasq || f.Part == PartDNSWAN && s == ServiceDNSWAN || f.Part == PartCockpit && s == ServiceCockpit ||
			f.Part == PartUnit && f.Path == b.os().UnitDir()+"/"+b.os().Unit(s)
		return mine && o.Files[f.Path] != contentHash(f.Content)
	})
}

// diffFiles compares the sets of files.
func diffFiles(b Bundle, o Observation) []string {
	if o.SetHash == b.Hash {
		return nil
	}
	if o.Files == nil {
		return []string{"the live files are another set"}
	}
	var out []string
	wanted := make(map[string]bool, len(b.Files))
	for _, f := range b.Files {
		wanted[f.Path] = true
		switch hash, there := o.Files[f.Path]; {
		case !there:
			out = append(out, f.Path+" is missing")
		case hash != contentHash(f.Content):
			out = append(out, f.Path+" differs")
		}
	}
	var extra []string
	for path := range o.Files {
		if !wanted[path] {
			extra = append(extra, quotedIfWild(path)+" is not part of it (any more)")
		}
	}
	slices.Sort(extra)
	out = append(out, extra...)
	if len(out) > maxDiffLines {
		out = append(out[:maxDiffLines:maxDiffLines], fmt.Sprintf("%d more files", len(out)-maxDiffLines))
	}
	if len(out) == 0 { // only the order or the spelling of a path can do this
		out = []string{"the live files are another set"}
	}
	return out
}

func quotedIfWild(path string) string {
	if wordRE.MatchString(path) {
		return path
	}
	return quoted(path)
}
