// Package embedded runs a whole Proxmox VE node on one Linux machine, as a process of
// its own beside the daemon: the simulated API of package pvesim on top of real LXC
// guests (or of guests in memory where LXC or root is missing).
//
// # Processes
//
//	daemon ── Ensure ──► init (own session; own network, mount and process-id namespace)
//	                       └─ server: API, ssh, guests, modelled uplink, forwarder, control
//	                            ├─ dnsmasq (uplink)
//	                            └─ LXC monitors and guests
//
// Both are the daemon's own executable, started again with the hidden sub-command
// "embedded-node" (NodeMain). Init does nothing but set the namespaces up, reap orphans
// and die with the server; when it dies, by whatever cause, the kernel ends everything in
// its process-id namespace: pulling one process is pulling the plug of the node. The
// daemon may die at any time; the next Ensure finds the node through the control socket.
// The memory engine needs no namespaces; then the server is started directly.
//
// # Nothing leaves the machine
//
// The listening sockets (API, ssh, forwards, control) are made by the daemon, on the
// loopback of its own network, and handed over as open files. The node's process lives in
// another network namespace, which has no link to any other: what it dials can only be
// inside. There is no fallback to get wrong. The server compares namespaces at its start
// and refuses to run in the one that it was started from.
//
// # The modelled uplink
//
//	node: vmbr0 192.168.50.2/24 (port eno1) ── router: 192.168.50.1, DHCP .100-.199, DNS
//	                                             └─ internet: 203.0.113.10
//
// The internet serves http://deb.internet.test/debian (the cached package repository),
// http://www.internet.test/ on ports 80 and 8080 (says from which address it was
// reached), and has no route to any network but 192.168.50.0/24: a guest behind an
// appliance reaches it through NAT or not at all. Any other name is NXDOMAIN.
//
// # Files
//
//	<DataDir>/node/node.json     instance, process, ports (used again when free)
//	<DataDir>/node/control.sock  HTTP on a unix socket, see control.go
//	<DataDir>/node/lock          held by Ensure, Shutdown and Destroy while they work
//	<DataDir>/node/node.log      the node's log; node.log.1 is the one before
//	<DataDir>/node/guests        root file systems (lxc) or snapshots (mem)
//	<DataDir>/node/pve           what Proxmox VE itself would keep
//
// Control groups are below /proximity-<id>, the id following from the data directory, so
// several nodes may run at once.
package embedded
