package pveschema

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// sdnFormats are those of PVE::Network::SDN.
var sdnFormats = map[string]func(string) string{
	"pve-sdn-zone-id":       checkShortID("zone"),
	"pve-sdn-vnet-id":       checkShortID("vnet"),
	"pve-sdn-ipam-id":       match(`(?i)^[a-z][a-z0-9]*[a-z0-9]$`, "ipam ID '%s' contains illegal characters"),
	"pve-sdn-dns-id":        match(`(?i)^[a-z][a-z0-9]*[a-z0-9]$`, "dns ID '%s' contains illegal characters"),
	"pve-sdn-controller-id": match(`(?i)^[a-z][a-z0-9_-]*[a-z0-9]$`, "controller ID '%s' contains illegal characters"),
	"pve-sdn-fabric-id":     match(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,6}[a-zA-Z0-9]?$`, "invalid fabric ID '%s'"),
	"pve-sdn-subnet-id":     checkSubnetID,
	"pve-sdn-isis-net":      match(`^[a-fA-F0-9]{2}(?:\.[a-fA-F0-9]{4}){3,9}\.[a-fA-F0-9]{2}$`, "value does not look like a valid isis net"),
	"pve-sdn-bgp-rt":        match(`^(?:\d+|\d+\.\d+\.\d+\.\d+):\d+$`, "value does not look like a valid bgp route-target"),
	"pve-sdn-dhcp-range":    anything, // a property string, checked against its subnet
}

var shortIDRE = regexp.MustCompile(`(?i)^[a-z][a-z0-9]*[a-z0-9]$`)

// maxShortID leaves room in an interface's name for what PVE puts behind it.
const maxShortID = 8

func checkShortID(kind string) func(string) string {
	return func(s string) string {
		switch {
		case !shortIDRE.MatchString(s):
			return kind + " ID '" + s + "' contains illegal characters"
		case utf8.RuneCountInString(s) > maxShortID:
			return kind + " ID '" + s + "' can't be more length than 8 characters"
		}
		return ""
	}
}

// checkSubnetID takes a network, or zone-address-prefix.
func checkSubnetID(s string) string {
	cidr := s
	if !strings.Contains(s, "/") {
		parts := strings.Split(s, "-")
		if len(parts) < 3 {
			return "value does not look like a valid CIDR network"
		}
		cidr = parts[1] + "/" + parts[2]
	}
	if isCIDR(cidr) {
		return ""
	}
	return "value does not look like a valid CIDR network"
}
