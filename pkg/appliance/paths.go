package appliance

// Where things are in the guest.
const (
	EtcDir   = "/etc/proximity"
	StateDir = "/var/lib/proximity"
	UnitDir  = "/etc/systemd/system"

	DHCPHostsDir = EtcDir + "/dhcp-hosts.d"
	HostsDir     = EtcDir + "/hosts.d"

	DNSMasqPath  = EtcDir + "/dnsmasq.conf"
	VhostsPath   = EtcDir + "/vhosts.json"
	NATPath      = EtcDir + "/nat.nft"
	SysctlPath   = EtcDir + "/sysctl.conf"
	ProbesPath   = EtcDir + "/probes"
	DNSQueryPath = EtcDir + "/dns-query.bin"
	ManifestPath = EtcDir + "/manifest"

	LeasesPath   = StateDir + "/dnsmasq.leases"
	CaddyStorage = StateDir + "/caddy"
	CARootPath   = CaddyStorage + "/pki/authorities/local/root.crt"
)

// ProxyProofHost is the Host header of the proxy's self-check (RFC 6761: never a real
// name).
const ProxyProofHost = "proximity-check.invalid"
