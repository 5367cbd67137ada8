package pveschema

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// netFormats are addresses and interfaces (PVE::JSONSchema, PVE::Firewall).
var netFormats = map[string]func(string) string{
	"pve-iface":            match(`(?i)^[a-z][a-z0-9_]{1,20}([:.]\d+)?$`, "invalid network interface name '%s'"), // why a bridge named proximity-lan cannot be made
	"pve-bridge-id":        match(`^[-_.\w\d]+$`, "invalid bridge ID '%s'"),
	"mac-addr":             match(`(?i)^[a-f0-9][02468ace](?::[a-f0-9]{2}){5}$`, "value does not look like a valid unicast MAC address"),
	"mac-prefix":           match(`(?i)^[a-f0-9][02468ace](?::[a-f0-9]{2}){0,2}:?$`, "value is not a valid unicast MAC address prefix"),
	"ipv4":                 refuseUnless(isIPv4, "value does not look like a valid IPv4 address"),
	"ipv6":                 refuseUnless(isIPv6, "value does not look like a valid IPv6 address"),
	"ip":                   refuseUnless(isIP, "value does not look like a valid IP address"),
	"ipv4mask":             refuseUnless(isMask, "value does not look like a valid IP netmask"),
	"CIDRv4":               refuseUnless(isCIDRv4, "value does not look like a valid IPv4 CIDR network"),
	"CIDRv6":               refuseUnless(isCIDRv6, "value does not look like a valid IPv6 CIDR network"),
	"CIDR":                 refuseUnless(isCIDR, "value does not look like a valid CIDR network"),
	"pve-ipv4-config":      refuseUnless(func(s string) bool { return s == "dhcp" || s == "manual" || isCIDRv4(s) }, "value does not look like a valid ipv4 network configuration"),
	"pve-ipv6-config":      refuseUnless(func(s string) bool { return s == "dhcp" || s == "manual" || s == "auto" || isCIDRv6(s) }, "value does not look like a valid ipv6 network configuration"),
	"pve-vlan-id-or-range": checkVLANs,
	"address": func(s string) string {
		if isIP(s) || CheckFormat("dns-name", s) == "" {
			return ""
		}
		return "value does not look like a valid address: " + s
	},
	"lxc-ip-with-ll-iface": checkResolver,
	"bridge-pair":          checkPair("pve-bridge-id"),
}

func refuseUnless(ok func(string) bool, message string) func(string) string {
	return func(s string) string {
		if ok(s) {
			return ""
		}
		return message
	}
}

func isIPv4(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() && a.Zone() == ""
}

func isIP(s string) bool { return isIPv4(s) || isIPv6(s) }

// isMask accepts a dotted mask whose ones come first.
func isMask(s string) bool {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return false
	}
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	inverse := ^v
	return inverse&(inverse+1) == 0
}

// isCIDRv4 and isCIDRv6 demand a prefix of 8 bits at least.
func isCIDRv4(s string) bool { return isCIDROf(s, isIPv4, 32) }
func isCIDRv6(s string) bool { return isCIDROf(s, isIPv6, 128) }
func isCIDR(s string) bool   { return isCIDRv4(s) || isCIDRv6(s) }

var prefixRE = regexp.MustCompile(`^\d+$`)

func isCIDROf(s string, address func(string) bool, most int) bool {
	addr, prefix, ok := strings.Cut(s, "/")
	if !ok || !address(addr) || !prefixRE.MatchString(prefix) {
		return false
	}
	n, err := strconv.Atoi(prefix)
	return err == nil && n > 7 && n <= most
}

var vlansRE = regexp.MustCompile(`^(\d+)(?:-(\d+))?$`)

func checkVLANs(s string) string {
	m := vlansRE.FindStringSubmatch(s)
	if m == nil {
		return "invalid VLAN configuration '" + s + "'"
	}
	var bounds [2]int
	for i, digits := range m[1:] {
		if digits == "" || i == 1 && digits == "0" {
			continue
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n < 2 || n > 4094 {
			return "invalid VLAN tag '" + digits + "'"
		}
		bounds[i] = n
	}
	if bounds[1] != 0 && bounds[0] >= bounds[1] {
		return "VLAN range must go from lower to higher tag '" + s + "'"
	}
	return ""
}

// checkResolver accepts an address, also link-local with an interface.
func checkResolver(s string) string {
	addr, _, zoned := strings.Cut(s, "%")
	if zoned && isIPv6(addr) || isIP(s) {
		return ""
	}
	return "value does not look like a valid IP address"
}

// checkPair is a mapping: one id, several of from:to, or 1 for the identity
// (PVE::JSONSchema, parse_idmap).
func checkPair(format string) func(string) string {
	return func(s string) string {
		if s == "1" {
			return ""
		}
		parts := []string{s}
		if from, to, ok := strings.Cut(s, ":"); ok {
			parts = []string{from, to}
		}
		for _, part := range parts {
			if msg := CheckFormat(format, part); msg != "" {
				return "entry '" + s + "' contains invalid ID - " + msg + "\n"
			}
		}
		return ""
	}
}
