package pveschema

import "strings"

// services are names of /etc/services that rules use; the rest of that file is written
// as numbers.
var services = strings.Fields(`tcpmux echo discard systat daytime netstat qotd chargen ftp-data ftp fsp ssh telnet smtp time whois tacacs
	domain bootps bootpc tftp gopher finger http kerberos iso-tsap acr-nema pop3 sunrpc auth nntp ntp epmap netbios-ns netbios-dgm
	netbios-ssn imap2 snmp snmp-trap cmip-man cmip-agent mailq xdmcp bgp smux qmtp z3950 ipx ptp-event ptp-general pawserv zserv
	rpc2portmap codaauth2 clearcase ldap svrloc https snpp microsoft-ds kpasswd submissions submission ldaps tinc silc webster
	domain-s http-alt postgresql mysql ircd rsync ftps ftps-data imaps pop3s socks ms-sql-s openvpn radius radius-acct nfs
	syslog printer printer ipp sip sip-tls xmpp-client xmpp-server x11 vnc zabbix-agent zabbix-trapper amqp amqps mqtt secure-mqtt git isakmp ipsec-nat-t`)

// protocols are the names of /etc/protocols.
var protocols = strings.Fields(`ip icmp igmp ggp ipencap st tcp egp igp pup udp hmp xns-idp rdp iso-tp4 dccp xtp ddp idpr-cmtp ipv6 ipv6-route
	ipv6-frag idrp rsvp gre esp ah skip ipv6-icmp icmpv6 ipv6-nonxt ipv6-opts rspf vmtp eigrp ospf ax.25 ipip etherip encap pim ipcomp vrrp l2tp
	isis sctp fc mobility-header udplite mpls-in-ip manet hip shim6 wesp rohc ethernet`)

// ICMPTypes are the names of ICMP types that rules may use.
var ICMPTypes = strings.Fields(`any echo-reply destination-unreachable network-unreachable host-unreachable protocol-unreachable port-unreachable
	fragmentation-needed source-route-failed network-unknown host-unknown network-prohibited host-prohibited TOS-network-unreachable
	TOS-host-unreachable communication-prohibited host-precedence-violation precedence-cutoff source-quench redirect network-redirect
	host-redirect TOS-network-redirect TOS-host-redirect echo-request router-advertisement router-solicitation time-exceeded
	ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem ip-header-bad required-option-missing timestamp-request
	timestamp-reply address-mask-request address-mask-reply`)

// ICMPv6Types are those of ICMPv6.
var ICMPv6Types = strings.Fields(`destination-unreachable no-route communication-prohibited beyond-scope address-unreachable port-unreachable
	failed-policy reject-route packet-too-big time-exceeded ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem bad-header
	unknown-header-type unknown-option echo-request echo-reply router-solicitation router-advertisement neighbor-solicitation
	neighbour-solicitation neighbor-advertisement neighbour-advertisement redirect`)
