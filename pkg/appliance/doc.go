// Package appliance is the inside of the network appliance: the LXC guest that
// gives a Bridge its DHCP, DNS, reverse proxy and NAT.
//
// It has three parts and touches nothing by itself:
//
//   - [Render] is a pure function from an [Input] (plain Go values) to a [Bundle],
//     the complete set of files of the guest. Every value is validated again here,
//     whatever was checked before: no field can add a line or a directive to a file.
//     An invalid or conflicting Host, Vhost or Probe is left out and reported in
//     [Bundle.Rejected]; the others are served. Only a bad appliance-level field
//     makes Render fail.
//   - The agent (agent.sh, embedded) is a POSIX sh program that goes with the bundle.
//     It runs inside the guest, one call per reconcile, and tells what is there
//     (observe) or makes it so (apply): check with the real tools, swap by rename,
//     reload only what changed, probe, roll back.
//   - [ParseObservation] reads what the agent saw, and [Diff] says in words how the live
//     set differs from a Bundle.
//
// # Files in the guest
//
//	/etc/proximity/dnsmasq.conf              DHCP range, options, DNS policy      restart
//	/etc/proximity/dhcp-hosts.d/<ns>.<name>  one reservation by MAC per App       live
//	/etc/proximity/hosts.d/app.<ns>.<name>   names of one App                     live
//	/etc/proximity/hosts.d/vhost.<ns>.<name> names that lead to the proxy         live
//	/etc/proximity/dnsmasq-wan.conf          names on the WAN interface, if any   restart
//	/etc/proximity/cockpit-socket.conf       where Cockpit listens, if asked for  restart
//	/etc/proximity/cockpit.conf              its names, if Vhosts lead to it      restart
//	/etc/proximity/journald.conf             bounds of the journal                restart
//	/etc/proximity/log-size                  Alpine: bound of each log            live
//	/etc/proximity/acme-root.pem             root of an ACME directory, if any    reload
//	/etc/proximity/proxy.json                configuration of our Caddy           reload
//	/etc/proximity/vhosts.table              its Vhosts, one a line               live
//	/etc/proximity/vhosts.json               all that a stock Caddy needs         reload
//	/etc/proximity/nat.nft                   firewall and masquerade, one table   atomic
//	/etc/proximity/nat.{ip,ip6}tables        the same for a guest without nft     atomic by table
//	/etc/proximity/sysctl.conf               kernel settings of forwarding        with nat.nft
//	/etc/proximity/probes                    what observe asks on the way         read each time
//	/etc/proximity/dns-query.bin             the DNS question of the self-check   read each time
//	/etc/proximity/manifest                  the list of all these, written last
//	/etc/systemd/system/proximity-*.service  dnsmasq, caddy, nat, dnsmasq-wan     daemon-reload
//	/etc/init.d/proximity-*                  likewise on Alpine                   read each time
//	/usr/local/lib/proximity/agent           the agent itself
//	/var/lib/proximity/                      leases, certificates, stage, rollback (state, never pushed)
//
// # What the guest needs
//
// A system of one of the families (family.go), and the commands dnsmasq, nft (or iptables), caddy, curl, ip and
// bash (for its /dev/udp; everything else is POSIX sh). The distribution's own services of these
// programs are kept from starting: two owners of one port cannot both be right. Ours start at
// boot, so that after a reboot of the guest everything is back with no daemon near.
//
// # Families
//
// Debian, with apt and systemd, is the default. Alpine has apk and OpenRC, which keeps no output
// and whose supervisor may die: a service begins as the agent there, which writes down its process
// and sends its output to a log of bounded size (/var/log/proximity) before it becomes the program,
// and an apply replaces what a dead supervisor left. Cockpit needs systemd. What
// differs is behind [Family] here, and in the guest behind the functions that agent/00-common.sh
// lists and agent/family/<name>.sh has; a third family is one of each. Alpine was tried with Debian's OpenRC and
// busybox only ([Family] Untested), for there is no root file system of it to develop with.
//
// # Proxy
//
// With the Caddy of cmd/proximity-caddy a change of Vhosts is a rename of the table: nothing is
// loaded, no connection closes, and a line that cannot be served is that Vhost's matter alone
// ([Observation.Vhosts]). Only a Vhost with ACME or a provided certificate, and the first one
// whose requests are logged, change the configuration too. Files with hashes of passwords or
// keys have mode 0640 and Caddy's group. Any other Caddy
// gets vhosts.json, and loads all of it after each change. Both are part of every set; the
// agent asks the guest's Caddy what it is. A Vhost with one backend is about 2 KB in all, so
// that MaxVhosts of them are half of MaxBundleBytes.
//
// # DNS
//
// On the WAN interface names are answered only if [Input.DNSWAN] says so, by a dnsmasq of its
// own that asks the one of the LAN for the local zones and nobody for others; the appliance's
// LAN address is the WAN one there. The firewall lets declared sources ask.
//
// A name with a Vhost leads to the proxy, and so do all below its *.NAME that have none; <hostname>.<zone> without one, to the
// guest; <hostname>.lan.<zone> always to the guest, and so does the reverse zone.
// Names that guests claim in their DHCP requests are ignored: no guest can take the
// name of another.
//
// # The proxy and the appliance itself
//
// Addresses of the appliance are no backends: Render refuses them, and where a name leads to one the
// firewall refuses the proxy's connection. Cockpit, to which a Vhost may lead that says so
// ([Rule.ManagementUI]), has a socket in the file system for the proxy alone.
//
// # Forwarding
//
// Default deny. With NAT, guests reach what is behind the WAN gateway, masqueraded;
// never private, shared or link-local ranges, nor the WAN's own subnet (where the
// Proxmox nodes usually are), unless listed in [Input.Allowed]. The forbidden list of
// the Input wins over everything. A guest with an [Egress] policy has that before these rules;
// it can only take away. Declared ports of the WAN interface's address ([Forward]) lead to
// guests. Each guest has a bound of connections.
//
// nft loads the rules; a guest that has only iptables gets the same from it. Its chains are ours by
// their names there, asked before all others, and end in a refusal, so that a rule of somebody else
// opens nothing.
package appliance
