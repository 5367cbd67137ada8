package pveschema

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// formats are the named formats: each returns the refusal of a value, or "". A format
// without an entry accepts everything.
var formats = map[string]func(string) string{
	"pve-node":             match(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)$`, "value does not look like a valid node name"),
	"pve-vmid":             match(`^[1-9][0-9]{2,8}$`, "value does not look like a valid VM ID"),
	"pve-configid":         match(`(?i)^[a-z][a-z0-9_-]+$`, "invalid configuration ID"),
	"pve-storage-id":       match(`(?i)^[a-z][a-z0-9\-_.]*[a-z0-9]$`, "storage ID contains illegal characters"),
	"pve-volume-id":        match(`^[^:\s]+:[^\s]+$`, "unable to parse volume ID"),
	"pve-userid":           match(`^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$`, "value does not look like a valid user name"),
	"pve-roleid":           match(`^[A-Za-z0-9.\-_]+$`, "value does not look like a valid role name"),
	"pve-realm":            match(`^[A-Za-z][A-Za-z0-9.\-_]+$`, "value does not look like a valid realm"),
	"pve-poolid":           match(`^[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}$`, "value does not look like a valid pool name"),
	"pve-tokenid":          match(`^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+$`, "value does not look like a valid token ID"),
	"pve-priv":             match(`^[A-Za-z][A-Za-z.]+$`, "invalid privilege"),
	"pve-iface":            checkIface,
	"pve-tag":              match(`(?i)^[a-z0-9_][a-z0-9_\-+.]*$`, "invalid characters in tag"),
	"dns-name":             match(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?$`, "value does not look like a valid DNS name"),
	"ipv4":                 checkIPv4,
	"ipv6":                 checkIPv6,
	"ipv4mask":             checkMask,
	"CIDRv4":               checkCIDRv4,
	"CIDRv6":               checkCIDRv6,
	"mac-addr":             checkMAC,
	"disk-size":            match(`^\d+(?:\.\d+)?[KMGT]?$`, "value does not look like a valid disk size"),
	"pve-ipv4-config":      checkIPv4Config,
	"pve-ipv6-config":      checkIPv6Config,
	"pve-startup-order":    checkStartup,
	"pve-vlan-id-or-range": match(`^\d{1,4}(?:-\d{1,4})?$`, "invalid VLAN configuration"),
	"pve-storage-content":  match(`^(?:images|rootdir|vztmpl|iso|backup|snippets|none|import)$`, "invalid content type"),
	"lxc-ip-with-ll-iface": checkResolver,
	"pve-lxc-mp-string":    func(string) string { return "" },
	"pve-lxc-dev-string":   match(`^/dev/`, "does not look like a valid device path"),
	"pve-task-status-type": match(`^(?:ok|error|warning|unknown)$`, "invalid status type"),
}

// SplitList splits a list parameter at commas, semicolons, blanks and NUL, as
// PVE::Tools::split_list does.
func SplitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' || r == 0 })
}

func checkFormat(name, s string) string {
	if base, ok := strings.CutSuffix(name, "-list"); ok {
		for _, item := range SplitList(s) {
			if msg := checkFormat(base, item); msg != "" {
				return msg
			}
		}
		return ""
	}
	if check := formats[name]; check != nil {
		return check(s)
	}
	return ""
}

func match(pattern, message string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(s string) string {
		if re.MatchString(s) {
			return ""
		}
		return message
	}
}

var ifaceRE = regexp.MustCompile(`(?i)^[a-z][a-z0-9_]{1,20}([:.]\d+)?$`)

// checkIface is why a bridge named proximity-lan cannot be made through the API.
func checkIface(s string) string {
	if ifaceRE.MatchString(s) {
		return ""
	}
	return fmt.Sprintf("invalid network interface name '%s'", s)
}

func checkIPv4(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return ""
	}
	return "value does not look like a valid IPv4 address"
}

func checkIPv6(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return ""
	}
	return "value does not look like a valid IPv6 address"
}

func checkMask(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		b := a.As4()
		if ones, bits := net.IPMask(b[:]).Size(); bits == 32 && ones > 0 {
			return ""
		}
	}
	return "value does not look like a valid IPv4 network mask"
}

func checkCIDRv4(s string) string {
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() && p.Bits() > 7 {
		return ""
	}
	return "value does not look like a valid IPv4 CIDR network"
}

func checkCIDRv6(s string) string {
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is6() && p.Bits() > 7 {
		return ""
	}
	return "value does not look like a valid IPv6 CIDR network"
}

var macRE = regexp.MustCompile(`^[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}$`)

func checkMAC(s string) string {
	if macRE.MatchString(s) {
		if hw, err := net.ParseMAC(s); err == nil && hw[0]&1 == 0 {
			return ""
		}
	}
	return "value does not look like a valid unicast MAC address"
}

func checkIPv4Config(s string) string {
	if s == "dhcp" || s == "manual" || checkCIDRv4(s) == "" {
		return ""
	}
	return "value does not look like a valid ipv4 network configuration"
}

func checkIPv6Config(s string) string {
	if s == "dhcp" || s == "manual" || s == "auto" || checkCIDRv6(s) == "" {
		return ""
	}
	return "value does not look like a valid ipv6 network configuration"
}

// checkResolver accepts an address, also link-local with an interface.
func checkResolver(s string) string {
	addr, _, _ := strings.Cut(s, "%")
	if _, err := netip.ParseAddr(addr); err == nil {
		return ""
	}
	return "value does not look like a valid IP address"
}

var startupRE = regexp.MustCompile(`^(?:order=\d+|\d+|up=\d+|down=\d+)$`)

func checkStartup(s string) string {
	for _, part := range strings.Split(s, ",") {
		if !startupRE.MatchString(strings.TrimSpace(part)) {
			return "unable to parse startup options"
		}
	}
	return ""
}
