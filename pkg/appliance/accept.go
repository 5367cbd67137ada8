package appliance

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// accepted is an Input after validation: everything in it is normalised, free of
// conflicts, and safe to write into any of the files. Renderers read only this.
type accepted struct {
	family                         Family
	name, label, uid, installation string // label: the appliance's own DNS label
	lanIf, wanIf                   string
	lan                            netip.Prefix
	start, end                     netip.Addr
	lease                          time.Duration
	zone                           string
	upstreams                      []netip.Addr
	nat                            bool
	forbidden, allowed             []netip.Prefix
	maxConnections, logMiB         int
	forwards                       []Forward
	dnsWAN                         *DNSWAN
	cockpit                        bool
	acmeRoot                       string
	acmeDNS                        *DNSUpdate

	hosts    []acceptedHost
	vhosts   []acceptedVhost
	probes   []Probe
	rejected []Rejected
}

type acceptedHost struct {
	fileName, hostname, mac string
	address                 netip.Addr
	egress                  *Egress
}

// lanZone is the zone in which a name is always the guest's.
func (a *accepted) lanZone() string { return "lan." + a.zone }

// accept validates the appliance-level fields, then takes Hosts, Vhosts and Probes
// one by one.
func accept(in Input) (*accepted, error) {
	a, err := acceptBase(in)
	if err != nil {
		return nil, err
	}
	if err := a.acceptNetwork(in); err != nil {
		return nil, err
	}
	if a.forbidden, err = acceptPrefixes("forbidden", in.Forbidden); err != nil {
		return nil, err
	}
	if a.allowed, err = acceptPrefixes("allowed", in.Allowed); err != nil {
		return nil, err
	}
	if len(in.Upstreams) > MaxUpstreams {
		return nil, fmt.Errorf("%d upstreams, at most %d", len(in.Upstreams), MaxUpstreams)
	}
	for _, u := range in.Upstreams {
		u = u.Unmap()
		if !u.IsValid() || u.Zone() != "" || u.IsUnspecified() || u.IsMulticast() || u == a.lan.Addr() {
			return nil, fmt.Errorf("upstream %s is not a DNS server's address", u)
		}
		if !slices.Contains(a.upstreams, u) {
			a.upstreams = append(a.upstreams, u) // dnsmasq tries them in this order
		}
	}
	if err := a.acceptACME(in); err != nil {
		return nil, err
	}
	if err := a.acceptNet(in); err != nil {
		return nil, err
	}
	if a.logMiB = orNumber(in.LogMiB, DefaultLogMiB); a.logMiB < 16 || a.logMiB > 16<<10 {
		return nil, fmt.Errorf("%d MiB of logs are not from 16 to 16384", a.logMiB)
	}
	a.acceptHosts(in.Hosts)
	a.acceptForwards(in.Forwards)
	a.acceptVhosts(in.Vhosts)
	a.acceptProbes(in.Probes)
	return a, nil
}

func acceptBase(in Input) (*accepted, error) {
	family, err := FamilyOf(in.OS)
	if err != nil {
		return nil, err
	}
	if why := family.Cockpit(); in.Cockpit && why != "" {
		return nil, fmt.Errorf("Cockpit on %s: %s", family.Name(), why)
	}
	a := &accepted{
		family: family, name: in.Name, label: strings.ReplaceAll(in.Name, ".", "-"), uid: in.UID, installation: in.InstallationID,
		lanIf: orDefault(in.LANInterface, "eth1"), wanIf: orDefault(in.WANInterface, "eth0"),
		zone: strings.ToLower(in.Zone), lease: in.LeaseTime, nat: in.NAT, cockpit: in.Cockpit,
	}
	if err := checkLabel(a.label); err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	if err := checkName(a.name); err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	if err := checkIdent(a.uid); err != nil {
		return nil, fmt.Errorf("uid: %w", err)
	}
	if err := checkIdent(a.installation); err != nil {
		return nil, fmt.Errorf("installation id: %w", err)
	}
	for _, name := range []string{a.lanIf, a.wanIf} {
		if !interfaceRE.MatchString(name) || name == "lo" {
			return nil, fmt.Errorf("%s is not an interface name", quoted(name))
		}
	}
	if a.lanIf == a.wanIf {
		return nil, fmt.Errorf("LAN and WAN are the same interface %s", a.lanIf)
	}
	if err := checkHostName(a.zone); err != nil || len(a.zone) > maxZoneBytes {
		return nil, fmt.Errorf("zone %s is not a DNS name of at most %d bytes", quoted(in.Zone), maxZoneBytes)
	}
	if a.lease == 0 {
		a.lease = DefaultLeaseTime
	}
	if a.lease < 2*time.Minute || a.lease > 7*24*time.Hour || a.lease%time.Second != 0 {
		return nil, fmt.Errorf("lease time %s is not whole seconds from 2m to 168h", a.lease)
	}
	return a, nil
}

func (a *accepted) acceptNetwork(in Input) error {
	lan := in.LAN
	if !lan.IsValid() || !lan.Addr().Is4() || lan.Bits() < 16 || lan.Bits() > 29 {
		return fmt.Errorf("LAN %s is not an IPv4 address with a length from 16 to 29", lan)
	}
	if ip := lan.Addr(); ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || !usable(lan, ip) {
		return fmt.Errorf("LAN %s is not the address of a host", lan)
	}
	a.lan, a.start, a.end = lan, in.DHCPStart, in.DHCPEnd
	if !usable(lan, a.start) || !usable(lan, a.end) || a.end.Less(a.start) {
		return fmt.Errorf("DHCP range %s-%s is not a range of host addresses of %s", a.start, a.end, lan.Masked())
	}
	if ip := lan.Addr(); !ip.Less(a.start) && !a.end.Less(ip) {
		return fmt.Errorf("DHCP range %s-%s contains the appliance's own address", a.start, a.end)
	}
	return nil
}

// usable reports whether ip is a host address of the subnet: inside, and neither its
// first (network) nor its last (broadcast) address.
func usable(lan netip.Prefix, ip netip.Addr) bool {
	if !ip.IsValid() || !lan.Contains(ip) || ip == lan.Masked().Addr() {
		return false
	}
	return lan.Contains(ip.Next())
}

func acceptPrefixes(field string, in []netip.Prefix) ([]netip.Prefix, error) {
	if len(in) > MaxPrefixes {
		return nil, fmt.Errorf("%s: %d ranges, at most %d", field, len(in), MaxPrefixes)
	}
	var out []netip.Prefix
	for _, p := range in {
		if !p.IsValid() || !p.Addr().Is4() {
			return nil, fmt.Errorf("%s: %s is not an IPv4 range", field, p)
		}
		out = append(out, p.Masked())
	}
	return disjoint(out), nil
}

// disjoint sorts ranges and leaves out those that are part of another: nft refuses both in one
// set.
func disjoint(ranges []netip.Prefix) (out []netip.Prefix) {
	slices.SortFunc(ranges, netip.Prefix.Compare) // a range comes before its parts
	for _, p := range ranges {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

func (a *accepted) reject(kind, key, conflict, reason string) {
	const limit = 2 * maxKeyBytes
	if len(key) > limit {
		key = key[:limit]
	}
	a.rejected = append(a.rejected, Rejected{Kind: kind, Key: key, Conflict: conflict, Reason: reason})
}

func orNumber(n, fallback int) int {
	if n == 0 {
		return fallback
	}
	return n
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
