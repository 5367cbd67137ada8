package appliance

import "fmt"

// debian is the family with apt and systemd.
type debian struct{}

func (debian) Name() string     { return "debian" }
func (debian) Untested() string { return "" }
func (debian) Template() string { return "" }
func (debian) Cockpit() string  { return "" }
func (debian) UnitDir() string  { return UnitDir }
func (debian) agent() string    { return debianAgent }

var debianAgent = joinAgent("debian")

func (debian) Unit(s ServiceName) string {
	if s == ServiceCockpit {
		return UnitCockpit
	}
	return "proximity-" + string(s) + ".service"
}

// logs bounds the journal, in which all services write. What it has is kept over boots, so that
// the end of the one before can be read.
func (debian) logs(a *accepted) File {
	return File{Path: JournalPath, Mode: 0o644, Part: PartJournal, Content: []byte(header(a, "The journal of the guest; the agent links it where journald reads it.") +
		fmt.Sprintf("[Journal]\nStorage=persistent\nSystemMaxUse=%dM\nSystemMaxFileSize=%dM\nRateLimitIntervalSec=30s\nRateLimitBurst=20000\n", a.logMiB, max(8, a.logMiB/8)))}
}

// definition is a unit. Program names are bare: systemd looks them up in its own search path,
// and packages differ in where they put them. There is no start limit: a service that cannot
// start now is tried again every second for ever, because nobody may be near to ask for it.
func (d debian) definition(a *accepted, s ServiceName) File {
	return File{Path: UnitDir + "/" + d.Unit(s), Mode: 0o644, Part: PartUnit, Content: []byte(header(a, purposes[s]) + systemdUnits[s])}
}

var systemdUnits = map[ServiceName]string{ServiceDNSMasq: dnsmasqUnit, ServiceCaddy: caddyUnit, ServiceNAT: natUnit, ServiceDNSWAN: dnsWANUnit}

const dnsWANUnit = `[Unit]
Description=Proximity DNS on the uplink
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/sh /usr/local/lib/proximity/agent dns-wan-start
Restart=always
RestartSec=1
TimeoutStopSec=5

[Install]
WantedBy=multi-user.target
`

// dnsmasq waits for nothing: it binds interfaces as they come.
const dnsmasqUnit = `[Unit]
Description=Proximity DHCP and DNS
StartLimitIntervalSec=0

[Service]
StateDirectory=proximity
ExecStartPre=-/bin/sh /usr/local/lib/proximity/agent drop-leases
ExecStart=dnsmasq --keep-in-foreground --conf-file=/etc/proximity/dnsmasq.conf
Restart=always
RestartSec=1
TimeoutStopSec=5

[Install]
WantedBy=multi-user.target
`

// Caddy tells systemd when it serves (notify), so that a start that is over is a start
// that worked. It is not root: ports below 1024 come with one capability. Which file it gets
// depends on what it is, so the agent starts it, and gives way to it.
const caddyUnit = `[Unit]
Description=Proximity reverse proxy
StartLimitIntervalSec=0

[Service]
Type=notify
User=caddy
Group=caddy
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=true
RuntimeDirectory=proximity
RuntimeDirectoryMode=0750
StateDirectory=proximity/caddy
StateDirectoryMode=0700
Environment=HOME=/var/lib/proximity/caddy XDG_DATA_HOME=/var/lib/proximity/caddy XDG_CONFIG_HOME=/var/lib/proximity/caddy
ExecStart=/bin/sh /usr/local/lib/proximity/agent caddy-start
Restart=always
RestartSec=1
TimeoutStartSec=30
TimeoutStopSec=10
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`

// The rules need the WAN's subnets, so they come after the network; forwarding is
// switched on by the same step and not before.
const natUnit = `[Unit]
Description=Proximity firewall and NAT
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/lib/proximity/agent nat-start
Restart=on-failure
RestartSec=2

[Install]
WantedBy=multi-user.target
`
