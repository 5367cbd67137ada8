// Package bridge reconciles kind Bridge: an isolated layer-2 network on the nodes of a cluster
// (spec.nodes, default all).
//
// Reads: Bridge, Cluster, Appliance (for deletion).
//
// Owns outside, with the backend linux: one Linux bridge per node. A name that the Proxmox
// network API takes (2 to 15 of [a-z0-9_]) goes through the API, marked by its comment. Others,
// with a hyphen for instance, are a marked block of /etc/network/interfaces, written over the
// host seam. With the backend sdn: a zone of the cluster's software-defined network, and in it
// one vnet, marked by its alias. A zone has no room for a mark: it is ours when our vnet is in
// it, or when status.zone says that we made it and nobody else's vnet is in it.
//
// Finalizer: proximity/bridge. Deletion waits until no Appliance uses the bridge.
//
// Conditions, in order: Configured (it is in the nodes' configuration), Active (the kernel
// has it); InSync beside them under the drift policies warn and ignore. What goes wrong on one
// node holds up none of the others: status.nodes has an entry for each, and guests look at
// that of their own node only. A node that is offline is named, and no reason not to be Ready.
//
// Reasons: InterfaceTaken, UIDUnknown, HostAccessMissing, ForeignPendingChanges, Written, NotWritten,
// Active, NotActive, NotSeen, InUse, GuestsAttached, NodeOffline, NodeNotFound, ReloadFailed, ReloadLost,
// Drifted;
// of the backend sdn also ZoneTaken, VNetTaken, TagTaken, SDNLocked, NoPeers, NotSettling.
//
// Steps (plan.go), on each node: Write, Remove, Reload. Of the backend sdn (sdnplan.go):
// WriteZone, WriteVNet, RemoveVNet, RemoveZone, Apply, and Reload on a node that did not take
// over what was applied, because it was away or its reload failed.
//
// A look, every ten seconds, costs with the backend linux one request for the cluster and one
// per node (and a command where the file is written), with sdn three and one per node.
//
// The staging area of a node's network configuration is shared with every administrator:
// when somebody else's changes are pending nothing is written, because applying ours would
// apply theirs too. Applying the software-defined network makes everything live that
// anybody staged in the cluster, and lets every node reload its own network: all of that is
// looked at right before. Between that look and the request somebody may still stage a change;
// the lock of Proxmox VE 9 would close that gap, but one that a crash leaves behind would keep
// everybody from changing anything.
package bridge
