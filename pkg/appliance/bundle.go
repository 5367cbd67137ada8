package appliance

// Part says which service a file belongs to, and so what a change of it costs.
type Part string

// Parts of a Bundle.
const (
	PartDNSMasq Part = "dnsmasq" // dnsmasq restarts (about 30 ms, leases kept)
	PartDNSWAN  Part = "dns-wan" // likewise the dnsmasq of the WAN interface
	PartCockpit Part = "cockpit" // its socket restarts; sessions end
	PartJournal Part = "journal" // the bounds of the logs; what there is stays
	PartHosts   Part = "hosts"   // dnsmasq reads it by itself; a removed reservation needs a signal
	PartCaddy   Part = "caddy"   // loaded through a stock Caddy's admin socket; of no effect on ours
	PartProxy   Part = "proxy"   // likewise for a Caddy with our module
	PartTable   Part = "table"   // followed by a Caddy with our module: nothing is loaded
	PartNAT     Part = "nat"     // one atomic transaction of nft, or of iptables for each table
	PartUnit    Part = "unit"    // the definition of a service, which restarts
	PartData    Part = "data"    // read by the agent each time; nothing to reload
)

// File is one file of the guest.
type File struct {
	Path    string // absolute, below a managed directory
	Mode    uint32 // permission bits; the owner is root
	Part    Part
	Content []byte
}

// Rejected is a Host, Vhost or Probe that Render left out.
type Rejected struct {
	Kind     string // "host", "vhost" or "probe"
	Key      string // as given, shortened when it is absurdly long
	Conflict string // key of the one that keeps what both claim; "" when the value itself is invalid
	Reason   string // one line for a condition message
}

// Bundle is the complete set of files of an appliance. Two Inputs that mean the same
// give the same bytes.
type Bundle struct {
	Files    []File // sorted by path; without the manifest, which Stage adds
	Hash     string // hex SHA-256 over paths and contents; equals Observation.SetHash when all is live
	Rejected []Rejected

	family   Family
	manifest []byte
	forward  bool // what net.ipv4.ip_forward must be
}

// os is the family that the bundle is for; one that Render did not make is for the default.
func (b Bundle) os() Family {
	if b.family == nil {
		return families[0]
	}
	return b.family
}
