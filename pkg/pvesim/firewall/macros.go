package firewall

import "strings"

// Macro is a named service that a rule may use instead of protocol and ports.
type Macro struct {
	Name, Description string
	// Templates are the rules that it stands for; PARAM, SOURCE and DEST are filled from
	// the rule.
	Templates []map[string]string
}

// macroTable is what Proxmox VE 9 knows: name, description, one rule a field.
const macroTable = `
Amanda|Amanda Backup|dport=10080 proto=udp|dport=10080 proto=tcp
Auth|Auth (identd) traffic|dport=113 proto=tcp
BGP|Border Gateway Protocol traffic|dport=179 proto=tcp
BitTorrent|BitTorrent traffic for BitTorrent 3.1 and earlier|dport=6881:6889 proto=tcp|dport=6881 proto=udp
BitTorrent32|BitTorrent traffic for BitTorrent 3.2 and later|dport=6881:6999 proto=tcp|dport=6881 proto=udp
CVS|Concurrent Versions System pserver traffic|dport=2401 proto=tcp
Ceph|Ceph Storage Cluster traffic (Ceph Monitors, OSD & MDS Daemons)|dport=6789 proto=tcp|dport=3300 proto=tcp|dport=6800:7300 proto=tcp
Citrix|Citrix/ICA traffic (ICA, ICA Browser, CGP)|dport=1494 proto=tcp|dport=1604 proto=udp|dport=2598 proto=tcp
DAAP|Digital Audio Access Protocol traffic (iTunes, Rythmbox daemons)|dport=3689 proto=tcp|dport=3689 proto=udp
DCC|Distributed Checksum Clearinghouse spam filtering mechanism|dport=6277 proto=tcp
DHCPfwd|Forwarded DHCP traffic|dport=67:68 proto=udp sport=67:68
DHCPv6|DHCPv6 traffic|dport=546:547 proto=udp sport=546:547
DNS|Domain Name System traffic (upd and tcp)|dport=53 proto=udp|dport=53 proto=tcp
Distcc|Distributed Compiler service|dport=3632 proto=tcp
FTP|File Transfer Protocol|dport=21 proto=tcp
Finger|Finger protocol (RFC 742)|dport=79 proto=tcp
GNUnet|GNUnet secure peer-to-peer networking traffic|dport=2086 proto=tcp|dport=2086 proto=udp|dport=1080 proto=tcp|dport=1080 proto=udp
GRE|Generic Routing Encapsulation tunneling protocol|proto=47
Git|Git distributed revision control traffic|dport=9418 proto=tcp
HKP|OpenPGP HTTP key server protocol traffic|dport=11371 proto=tcp
HTTP|Hypertext Transfer Protocol (WWW)|dport=80 proto=tcp
HTTPS|Hypertext Transfer Protocol (WWW) over SSL|dport=443 proto=tcp
ICPV2|Internet Cache Protocol V2 (Squid) traffic|dport=3130 proto=udp
ICQ|AOL Instant Messenger traffic|dport=5190 proto=tcp
IMAP|Internet Message Access Protocol|dport=143 proto=tcp
IMAPS|Internet Message Access Protocol over SSL|dport=993 proto=tcp
IPIP|IPIP capsulation traffic|proto=94
IPsec|IPsec traffic|dport=500 proto=udp sport=500|proto=50
IPsecah|IPsec authentication (AH) traffic|dport=500 proto=udp sport=500|proto=51
IPsecnat|IPsec traffic and Nat-Traversal|dport=500 proto=udp|dport=4500 proto=udp|proto=50
IRC|Internet Relay Chat traffic|dport=6667 proto=tcp
Jetdirect|HP Jetdirect printing|dport=9100 proto=tcp
L2TP|Layer 2 Tunneling Protocol traffic|dport=1701 proto=udp
LDAP|Lightweight Directory Access Protocol traffic|dport=389 proto=tcp
LDAPS|Secure Lightweight Directory Access Protocol traffic|dport=636 proto=tcp
MDNS|Multicast DNS|dport=5353 proto=udp
MSNP|Microsoft Notification Protocol|dport=1863 proto=tcp
MSSQL|Microsoft SQL Server|dport=1433 proto=tcp
Mail|Mail traffic (SMTP, SMTPS, Submission)|dport=25 proto=tcp|dport=465 proto=tcp|dport=587 proto=tcp
Munin|Munin networked resource monitoring traffic|dport=4949 proto=tcp
MySQL|MySQL server|dport=3306 proto=tcp
NNTP|NNTP traffic (Usenet).|dport=119 proto=tcp
NNTPS|Encrypted NNTP traffic (Usenet)|dport=563 proto=tcp
NTP|Network Time Protocol (ntpd)|dport=123 proto=udp
NeighborDiscovery|IPv6 neighbor solicitation, neighbor and router advertisement|dport=router-solicitation proto=icmpv6|dport=router-advertisement proto=icmpv6|dport=neighbor-solicitation proto=icmpv6|dport=neighbor-advertisement proto=icmpv6
OSPF|OSPF multicast traffic|proto=89
OpenVPN|OpenVPN traffic|dport=1194 proto=udp
PCA|Symantec PCAnywere (tm)|dport=5632 proto=udp|dport=5631 proto=tcp
PMG|Proxmox Mail Gateway web interface|dport=8006 proto=tcp
POP3|POP3 traffic|dport=110 proto=tcp
POP3S|Encrypted POP3 traffic|dport=995 proto=tcp
PPtP|Point-to-Point Tunneling Protocol|proto=47|dport=1723 proto=tcp
Ping|ICMP echo request|dport=echo-request proto=icmp
PostgreSQL|PostgreSQL server|dport=5432 proto=tcp
Printer|Line Printer protocol printing|dport=515 proto=tcp
RDP|Microsoft Remote Desktop Protocol traffic|dport=3389 proto=tcp
RIP|Routing Information Protocol (bidirectional)|dport=520 proto=udp
RNDC|BIND remote management protocol|dport=953 proto=tcp
Razor|Razor Antispam System|dport=2703 proto=tcp
Rdate|Remote time retrieval (rdate)|dport=37 proto=tcp
Rsync|Rsync server|dport=873 proto=tcp
SANE|SANE network scanning|dport=6566 proto=tcp
SMB|Microsoft SMB traffic|dport=135,445 proto=udp|dport=137:139 proto=udp|dport=1024:65535 proto=udp sport=137|dport=135,139,445 proto=tcp
SMBswat|Samba Web Administration Tool|dport=901 proto=tcp
SMTP|Simple Mail Transfer Protocol|dport=25 proto=tcp
SMTPS|Encrypted Simple Mail Transfer Protocol|dport=465 proto=tcp
SNMP|Simple Network Management Protocol|dport=161:162 proto=udp|dport=161 proto=tcp
SPAMD|Spam Assassin SPAMD traffic|dport=783 proto=tcp
SPICEproxy|Proxmox VE SPICE display proxy traffic|dport=3128 proto=tcp
SSH|Secure shell traffic|dport=22 proto=tcp
SVN|Subversion server (svnserve)|dport=3690 proto=tcp
SixXS|SixXS IPv6 Deployment and Tunnel Broker|dport=3874 proto=tcp|dport=3740 proto=udp|proto=41|dport=5072,8374 proto=udp
Squid|Squid web proxy traffic|dport=3128 proto=tcp
Submission|Mail message submission traffic|dport=587 proto=tcp
Syslog|Syslog protocol (RFC 5424) traffic|dport=514 proto=udp|dport=514 proto=tcp
TFTP|Trivial File Transfer Protocol traffic|dport=69 proto=udp
Telnet|Telnet traffic|dport=23 proto=tcp
Telnets|Telnet over SSL|dport=992 proto=tcp
Time|RFC 868 Time protocol|dport=37 proto=tcp
Trcrt|Traceroute (for up to 30 hops) traffic|dport=33434:33524 proto=udp|dport=echo-request proto=icmp
VNC|VNC traffic for VNC display's 0 - 99|dport=5900:5999 proto=tcp
VNCL|VNC traffic from Vncservers to Vncviewers in listen mode|dport=5500 proto=tcp
Web|WWW traffic (HTTP and HTTPS)|dport=80 proto=tcp|dport=443 proto=tcp
Webcache|Web Cache/Proxy traffic (port 8080)|dport=8080 proto=tcp
Webmin|Webmin traffic|dport=10000 proto=tcp
Whois|Whois (nicname, RFC 3912) traffic|dport=43 proto=tcp`

// Macros are the known macros by their name in lower case.
var Macros = parseMacros()

func parseMacros() map[string]Macro {
	out := map[string]Macro{}
	for line := range strings.Lines(strings.TrimSpace(macroTable)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		m := Macro{Name: fields[0], Description: fields[1]}
		for _, rule := range fields[2:] {
			t := map[string]string{}
			for pair := range strings.SplitSeq(rule, " ") {
				if key, value, ok := strings.Cut(pair, "="); ok {
					t[key] = value
				}
			}
			m.Templates = append(m.Templates, t)
		}
		out[strings.ToLower(m.Name)] = m
	}
	return out
}
