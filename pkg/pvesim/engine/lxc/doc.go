// Package lxc is the engine whose guests are real: LXC 5 containers, the engine that
// Proxmox VE itself uses, with overlay root file systems, veth pairs on Linux bridges
// and control group limits that limit.
//
// # Where it runs
//
// The engine must run inside a network, mount and process-id namespace of its own
// (package embedded makes them): it makes bridges, mounts and processes and never looks
// whether somebody else's are in the way. When the first process of the process-id
// namespace dies, the kernel ends every guest, as a power failure would; the next New
// finds their root file systems and nothing running.
//
// # Files
//
//	<Dir>/<vmid>/config       generated at each start, never edited
//	<Dir>/<vmid>/upper, work  what the guest wrote (overlay); owned by 100000 if unprivileged
//	<Dir>/<vmid>/rootfs       where the overlay is mounted, or a copy where overlay is refused
//	<Dir>/<vmid>/snap/<name>    the guest's own files at a snapshot
//	<Dir>/volumes/<id>/data     a data volume, bound into the guest at its start or when it
//	                            is plugged in; snap/<name> beside it
//	<Dir>/<vmid>/monitor.pid  the LXC monitor; lxc.log and console.log beside it
//	<RootfsDir>/<template>/u100000, p0   the template, extracted once (shifted, unshifted)
//
// <Dir> is LXC's own path (-P), so lxc-info and lxc-attach work from outside the process
// once inside the namespaces.
//
// # What Proxmox does and this does too
//
// Before each start the guest gets what pve-container's set-up writes: hostname, hosts,
// resolv.conf (the node's when it has no nameserver) and /etc/network/interfaces; a file
// /etc/.pve-ignore.<name> opts out. At creation root's authorized_keys and a new
// machine-id. Names of the host side of a NIC are veth<vmid>i<n>. The id shift of an
// unprivileged guest is 0 -> 100000, 65536 ids.
//
// # What it does not do
//
// Disk sizes are not enforced (all guests share one file system), there is no AppArmor
// confinement, and VLAN tags, rate limits and the firewall flag of a NIC are ignored.
package lxc
