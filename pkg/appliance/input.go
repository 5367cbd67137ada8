package appliance

import (
	"net/netip"
	"strings"
	"time"
)

// Input is everything that the files of one appliance are made from. The order of
// Hosts and Vhosts matters only for conflicts: the earlier one keeps what both claim
// (a caller who sorts by age lets the older win).
type Input struct {
	Name           string // of the Appliance; also its own name in the zone: <name>.lan.<zone>
	UID            string // of the Appliance resource, the mark in file headers
	InstallationID string // of the daemon's installation, likewise
	OS             string // the guest's Family; "" = debian

	LANInterface string       // in the guest; "" = eth1
	WANInterface string       // in the guest; "" = eth0
	LAN          netip.Prefix // IPv4; the appliance's own address with the subnet's length: 10.20.0.1/24
	DHCPStart    netip.Addr   // first and last dynamic address, both inside LAN
	DHCPEnd      netip.Addr
	LeaseTime    time.Duration // 2 min to 7 days in whole seconds; 0 = DefaultLeaseTime
	Zone         string        // local DNS zone without dots at the ends: prox.local
	Upstreams    []netip.Addr  // DNS servers to forward to; empty = the guest's /etc/resolv.conf

	// NAT lets guests reach the internet, masqueraded as the appliance. Without it
	// the network is isolated: nothing is forwarded.
	NAT bool
	// Forbidden destinations are never reachable for guests, even if Allowed contains
	// them: the addresses of Proxmox nodes belong here.
	Forbidden []netip.Prefix
	// Allowed opens destinations inside the ranges that are closed by default.
	Allowed []netip.Prefix

	// MaxConnections bounds the connections of one guest to the outside; 0 = DefaultMaxConnections.
	MaxConnections int
	Forwards       []Forward
	DNSWAN         *DNSWAN // nil = no name is answered on the WAN interface

	// Cockpit has Cockpit answer on port 9090 of the LAN address.
	Cockpit bool

	// LogMiB is the room for the guest's journal; 0 = DefaultLogMiB.
	LogMiB int

	// ACMERoot is the root in PEM that ACME directories are trusted by beside the guest's own;
	// "" = none.
	ACMERoot string
	// ACMEDNS takes the records of DNS-01 challenges; without it there are none.
	ACMEDNS *DNSUpdate

	Hosts  []Host
	Vhosts []Vhost
	Probes []Probe
}

// Host is one guest of the LAN with a reserved address.
type Host struct {
	Key      string // "namespace/name" of the App
	Hostname string // one DNS label
	MAC      string // "BC:24:11:AA:BB:CC", any case
	Address  netip.Addr
	Egress   *Egress // nil = everywhere that the appliance lets it
}

// Probe kinds.
const (
	ProbeHTTP = "http" // GET, 200..399 is ok
	ProbeTCP  = "tcp"  // the connection is accepted
)

// Probe is one question that the agent asks during every observe, from the
// appliance's place in the network.
type Probe struct {
	Key     string // chosen by the caller, one word: "app/default/nginx-01"
	Kind    string // ProbeHTTP or ProbeTCP
	Address string // "ip:port" or "name:port"
	Path    string // of ProbeHTTP; "" = "/"
	Host    string // Host header of ProbeHTTP; "" = Address. With 127.0.0.1:80 it asks through the proxy
}

// DefaultLogMiB is the room for the journal when Input.LogMiB is 0.
const DefaultLogMiB = 200

// DefaultLeaseTime is what guests get when Input.LeaseTime is 0.
const DefaultLeaseTime = 12 * time.Hour

// Bounds of an Input. An appliance of the intended scale (one bridge, a home or a
// small company) has tens of Apps; the design goal is 10,000 Vhosts, so the bounds
// are above that and below what would make a bundle exceed MaxBundleBytes.
const (
	MaxHosts         = 16384
	MaxVhosts        = 16384
	MaxHostsPerVhost = 64
	MaxRules         = 64   // of one Vhost
	MaxBackends      = 64   // of one Rule
	MaxWeight        = 1000 // of one Backend
	MaxProbes        = 1024 // 200 at a time, 2 s each, within one observe
	MaxUpstreams     = 8
	MaxPrefixes      = 256 // of Forbidden and of Allowed, and of a Vhost's lists
	MaxBundleBytes   = 64 << 20
)

// normalMAC is the one form in which MAC addresses are compared and written.
func normalMAC(mac string) string { return strings.ToLower(mac) }
