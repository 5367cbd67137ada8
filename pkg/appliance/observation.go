package appliance

import (
	"net/netip"
	"time"
)

// Protocol is the version of the agent's verbs and output lines. An agent with
// another number is replaced by the next apply before anything is believed.
const Protocol = 2

// AgentPath is where apply installs the agent in the guest.
const AgentPath = "/usr/local/lib/proximity/agent"

// Names that the services of the bundle have in the default family.
const (
	UnitDNSMasq = "proximity-dnsmasq.service"
	UnitCaddy   = "proximity-caddy.service"
	UnitNAT     = "proximity-nat.service"
	UnitDNSWAN  = "proximity-dnsmasq-wan.service" // only where DNS is answered on the WAN
)

// UnitCockpit is the distribution's own socket of Cockpit, which starts it when somebody comes.
// It is part of a set that asks for Cockpit.
const UnitCockpit = "cockpit.socket"

// NATState compares the live firewall with the one that was applied last.
type NATState string

// States of the live firewall table.
const (
	NATOK      NATState = "ok"
	NATMissing NATState = "missing" // the table is not there
	NATDiffers NATState = "differs" // someone changed it, or the WAN has another subnet now
)

// Observation is what the agent saw in one look. It changes nothing in the guest.
type Observation struct {
	Protocol  int
	AgentHash string // hex SHA-256 of the running agent file
	BootID    string // one word, changes with every boot of the guest

	// Manifest is the Bundle.Hash of the last apply that came to its end; "" = none did.
	Manifest string
	SetHash  string // hex SHA-256 of the live managed files, see Bundle.Hash
	// Files maps path to hex SHA-256 of every managed and every unknown file in the
	// managed directories. It is nil when the caller named the expected hash and SetHash
	// equals it: in the steady state an observation is short.
	Files map[string]string

	Services  map[string]Service // by unit name
	Addresses []Address
	Gateway   netip.Addr // invalid = no default route
	Forward   bool       // net.ipv4.ip_forward
	NAT       NATState
	Leases    []Lease
	DNSWAN    Check // likewise on the WAN interface; no reason and not OK where that is not asked for
	DNS       Check // a query for a record that only the current dnsmasq.conf has
	// Upstream is a question that is not ours, put through dnsmasq; no reason and not OK: not asked.
	Upstream Check
	Proxy    Check // a request whose answer only the current configuration and table of Vhosts give
	// Vhosts are those of the table that the proxy says it cannot serve, with the reason in
	// its own words, by Vhost.Key.
	Vhosts   map[string]string
	Probes   map[string]ProbeResult
	DiskFree int64    // KiB free, of the file system of ours with the least
	Missing  []string // commands that the guest lacks
}

// Service is the state of one service.
type Service struct {
	Active   string // as systemd's ActiveState says it: active, activating, failed, inactive...
	Enabled  bool   // comes back after a reboot
	MainPID  int    // 0 = none
	Restarts int    // by the service manager since it was started by hand
}

// Address is one IPv4 address of an interface.
type Address struct {
	Interface string
	Prefix    netip.Prefix
}

// Lease is one line of dnsmasq's lease file.
type Lease struct {
	Expiry   time.Time // zero = never expires
	MAC      string    // lower case
	Address  netip.Addr
	Hostname string // "" = unknown
}

// Check is the outcome of a self-check with the reason of a failure.
type Check struct {
	OK     bool
	Reason string
}

// ProbeState is the outcome of one Probe.
type ProbeState string

// Probe outcomes.
const (
	ProbeOK      ProbeState = "ok"
	ProbeFail    ProbeState = "fail"
	ProbeUnknown ProbeState = "unknown" // not asked or not answered within the time of the whole observe
)

// Probe returns the answer to a Probe; a probe without an answer is ProbeUnknown.
func (o *Observation) Probe(key string) ProbeResult {
	if r, ok := o.Probes[key]; ok {
		return r
	}
	return ProbeResult{State: ProbeUnknown}
}

// ProbeResult is the answer to one Probe.
type ProbeResult struct {
	State    ProbeState
	Code     int // HTTP status, 0 = none
	Duration time.Duration
}

// Lease returns the lease of a MAC address (any case).
func (o *Observation) Lease(mac string) (Lease, bool) {
	mac = normalMAC(mac)
	for _, l := range o.Leases {
		if l.MAC == mac {
			return l, true
		}
	}
	return Lease{}, false
}

// AddressOf returns the first IPv4 address of an interface.
func (o *Observation) AddressOf(iface string) (netip.Prefix, bool) {
	for _, a := range o.Addresses {
		if a.Interface == iface {
			return a.Prefix, true
		}
	}
	return netip.Prefix{}, false
}
