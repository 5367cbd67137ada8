package pveschema

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// firewallFormats are those of PVE::Firewall.
var firewallFormats = map[string]func(string) string{
	"IPorCIDR":                refuseUnless(isIPOrCIDR, "value does not look like a valid IP address or CIDR network"),
	"IPorCIDRorAlias":         checkIPOrCIDROrAlias,
	"pve-fw-addr-spec":        CheckAddressList,
	"pve-fw-sport-spec":       func(s string) string { return CheckPorts(s, false) },
	"pve-fw-dport-spec":       func(s string) string { return CheckPorts(s, true) },
	"pve-fw-protocol-spec":    checkProtocol,
	"pve-fw-icmp-type-spec":   checkICMPType,
	"pve-fw-conntrack-helper": checkHelpers,
}

var anyPrefixRE = regexp.MustCompile(`^(.*?)(?:/(\d{1,3}))?$`)

// isIPOrCIDR takes every prefix length, also those that isCIDR refuses.
func isIPOrCIDR(s string) bool {
	m := anyPrefixRE.FindStringSubmatch(s)
	return m != nil && isIP(m[1])
}

// aliasRE is a reference to an alias, dc/ or guest/ in front says where it is.
var aliasRE = regexp.MustCompile(`^(?:dc/|guest/)?[A-Za-z][A-Za-z0-9\-_]+$`)

// IsAlias reports whether the text has the shape of a reference to an alias.
func IsAlias(s string) bool { return aliasRE.MatchString(s) }

func checkIPOrCIDROrAlias(s string) string {
	if IsAlias(s) || isIPOrCIDR(s) {
		return ""
	}
	return "value does not look like a valid IP address or CIDR network"
}

// Lengths of names that the kernel bounds.
const (
	maxIPSetName = 64
	maxAliasName = 64
)

// CheckAddressList checks a source or destination: a set, an alias, or addresses,
// networks and one range of one family.
func CheckAddressList(s string) string {
	if strings.HasPrefix(s, "+") && len(s) > 1 && !strings.ContainsAny(s, " \t\n") {
		if len(s) > maxIPSetName+1 {
			return "ipset name too long"
		}
		return ""
	}
	if IsAlias(s) {
		if len(s) > maxAliasName {
			return "alias name too long"
		}
		return ""
	}
	if strings.HasPrefix(s, ",") || strings.HasSuffix(s, ",") {
		return "extraneous commas in list"
	}
	family, ranges := 0, false
	elements := strings.Split(s, ",")
	for _, e := range elements {
		f, isRange, ok := addressFamily(e)
		if !ok {
			return "invalid IP address: " + addressFault(e)
		}
		ranges = ranges || isRange
		if family != 0 && family != f {
			return "detected mixed ipv4/ipv6 addresses in address list '" + s + "'"
		}
		family = f
	}
	if ranges && len(elements) > 1 {
		return "you can't use a range in a list"
	}
	return ""
}

// AddressFamily is 4 or 6 for a list that CheckAddressList accepts, 0 for a reference.
func AddressFamily(s string) int {
	first, _, _ := strings.Cut(s, ",")
	f, _, _ := addressFamily(first)
	return f
}

func addressFamily(e string) (family int, isRange, ok bool) {
	from, to, isRange := strings.Cut(e, "-")
	a, err := netip.ParseAddr(strings.TrimSpace(from))
	if !isRange {
		if p, perr := netip.ParsePrefix(e); perr == nil {
			a, err = p.Addr(), nil
			if p.Masked() != p { // Net::IP takes networks without host bits only
				return 0, false, false
			}
		}
	} else if b, berr := netip.ParseAddr(strings.TrimSpace(to)); berr != nil || err == nil && (b.Is4() != a.Is4() || b.Less(a)) {
		return 0, true, false
	}
	if err != nil {
		return 0, isRange, false
	}
	if a.Is4() {
		return 4, isRange, true
	}
	return 6, isRange, true
}

// addressFault words what Net::IP says of text that is no address.
func addressFault(e string) string {
	if p, err := netip.ParsePrefix(e); err == nil {
		return fmt.Sprintf("Invalid prefix %s/%d", p.Addr(), p.Bits())
	}
	if strings.Count(e, ".") > 0 && strings.Trim(e, "0123456789./") == "" {
		return "Invalid quad in IP address " + e
	}
	return "Cannot determine IP version for " + e
}

var (
	portRangeRE = regexp.MustCompile(`^([0-9]+):([0-9]+)$`)
	portRE      = regexp.MustCompile(`^[0-9]+$`)
)

// maxPorts is how many ports a rule may list, a range counts twice.
const maxPorts = 15

// CheckPorts checks a list of ports, ranges and service names; with icmp also names of
// ICMP types.
func CheckPorts(s string, icmp bool) string {
	if strings.HasSuffix(s, ",") {
		return "extraneous commas in list"
	}
	count, types := 0, false
	for _, item := range strings.Split(s, ",") {
		if m := portRangeRE.FindStringSubmatch(item); m != nil {
			count += 2
			for _, p := range m[1:] {
				if !isPort(p) {
					return "invalid port '" + p + "'"
				}
			}
			if a, b := atoi(m[1]), atoi(m[2]); a > b {
				return fmt.Sprintf("backwards range '%s:%s' not allowed, did you mean '%s:%s'?", m[1], m[2], m[2], m[1])
			}
			continue
		}
		switch {
		case portRE.MatchString(item):
			count++
			if !isPort(item) {
				return "invalid port '" + item + "'"
			}
		case icmp && (slices.Contains(ICMPTypes, item) || slices.Contains(ICMPv6Types, item)):
			types = true
		case !slices.Contains(services, item):
			return "invalid port '" + item + "'"
		}
	}
	if types && count > 0 {
		return "ICMP ports not allowed in port range"
	}
	if count > maxPorts {
		return "too many entries in port list (> 15 numbers)"
	}
	return ""
}

func isPort(s string) bool { n, err := strconv.Atoi(s); return err == nil && n <= 65535 }

func atoi(s string) int {
	n, _ := strconv.Atoi(s) // digits
	return n
}

func checkProtocol(s string) string {
	if s == "" || s == "0" || slices.Contains(protocols, s) {
		return ""
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 143 {
		return ""
	}
	return "unknown protocol '" + s + "'"
}

func checkICMPType(s string) string {
	if s == "" || slices.Contains(ICMPTypes, s) || slices.Contains(ICMPv6Types, s) {
		return ""
	}
	return "invalid icmp-type value '" + s + "'"
}

func checkHelpers(s string) string {
	if strings.HasSuffix(s, ",") {
		return "extraneous commas in list"
	}
	for _, h := range strings.Split(s, ",") {
		if !slices.Contains([]string{"amanda", "ftp", "irc", "netbios-ns", "pptp", "sane", "sip", "snmp", "tftp"}, h) {
			return "unknown helper " + h
		}
	}
	return ""
}
