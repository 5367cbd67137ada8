package appliance

// Where things are in the guest.
const (
	EtcDir   = "/etc/proximity"
	StateDir = "/var/lib/proximity"
	UnitDir  = "/etc/systemd/system" // of the default family

	DHCPHostsDir = EtcDir + "/dhcp-hosts.d"
	HostsDir     = EtcDir + "/hosts.d"

	DNSMasqPath = EtcDir + "/dnsmasq.conf"
	// DNSWANPath is the configuration of the dnsmasq that answers on the WAN interface.
	DNSWANPath = EtcDir + "/dnsmasq-wan.conf"
	VhostsPath = EtcDir + "/vhosts.json"  // of a stock Caddy
	ProxyPath  = EtcDir + "/proxy.json"   // of a Caddy with our module
	TablePath  = EtcDir + "/vhosts.table" // likewise
	NATPath    = EtcDir + "/nat.nft"
	// IPTablesPath and IP6TablesPath are the same rules for a guest that has no nft.
	IPTablesPath  = EtcDir + "/nat.iptables"
	IP6TablesPath = EtcDir + "/nat.ip6tables"
	SysctlPath    = EtcDir + "/sysctl.conf"
	ProbesPath    = EtcDir + "/probes"
	DNSQueryPath  = EtcDir + "/dns-query.bin"
	// CockpitPath says where Cockpit's socket listens; the agent links it where systemd reads it.
	CockpitPath = EtcDir + "/cockpit-socket.conf"
	// CockpitConfPath is Cockpit's own configuration where Vhosts lead to it, likewise.
	CockpitConfPath = EtcDir + "/cockpit.conf"
	// JournalPath bounds the journal.
	JournalPath  = EtcDir + "/journald.conf"
	ACMERootPath = EtcDir + "/acme-root.pem"
	// DNSWANQueryPath asks for the appliance's own name, whose address depends on the side.
	DNSWANQueryPath = EtcDir + "/dns-query-wan.bin"
	ManifestPath    = EtcDir + "/manifest"

	LeasesPath   = StateDir + "/dnsmasq.leases"
	CaddyStorage = StateDir + "/caddy"
	CARootPath   = CaddyStorage + "/pki/authorities/local/root.crt"
)

// CockpitSocket is where the proxy reaches Cockpit: no name and no address leads to it, so that only
// a Vhost does that says so.
const CockpitSocket = "/run/proximity-cockpit.sock"

// CockpitPort is where Cockpit answers on the LAN address.
const CockpitPort = 9090

// ProxyProofHost and TableCheckHost are the Host headers of the proxy's self-checks (RFC
// 6761: never real names). The first tells which configuration answers, the second which table
// of Vhosts, and what is wrong with it.
const (
	ProxyProofHost = "proximity-check.invalid"
	TableCheckHost = "proximity-table.invalid"
)
