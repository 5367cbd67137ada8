package appliance

import "net/netip"

// Forward leads a port of the WAN interface's address to a guest. It passes the egress rules
// by: whoever declares it opens it.
type Forward struct {
	Key      string         // chosen by the caller, one word
	Protocol string         // "tcp" or "udp"
	Port     int            // of the WAN interface's address; 80 and 443 of TCP are the proxy's
	To       netip.AddrPort // a guest of the LAN
	From     []netip.Prefix // sources that may use it; none = all
	// Unready says why it leads nowhere yet; "" = it does not.
	Unready string
}

// Egress says where a guest may go through the appliance. It can only take away: what the
// appliance refuses to all stays refused.
type Egress struct {
	Deny  bool // what no rule is about is refused
	Rules []EgressRule
}

// EgressRule is about one destination; the first that fits holds.
type EgressRule struct {
	Deny     bool
	To       netip.Prefix // invalid = everywhere
	Protocol string       // "tcp", "udp" or "" = any; with Ports it is one of the two
	Ports    []int        // none = all
}

// DNSWAN answers names of the local zone on the WAN interface: nothing else, so that nobody
// can use it as a resolver.
type DNSWAN struct {
	From []netip.Prefix // sources that are answered; none = the WAN interface's own subnets
}

// DefaultMaxConnections is what a guest gets when Input.MaxConnections is 0.
const DefaultMaxConnections = 4096

// Bounds of the above.
const (
	MaxForwards    = 256
	MaxEgressRules = 64 // of one Host
	MaxPorts       = 64 // of one rule
)
