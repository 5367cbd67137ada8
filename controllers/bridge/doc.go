// Package bridge reconciles kind Bridge: an isolated layer-2 network on the nodes of a cluster
// (spec.nodes, default all).
//
// Reads: Bridge, Cluster, Appliance (for deletion).
//
// Owns outside: one Linux bridge per node. A name that the Proxmox network API takes (2 to 15
// of [a-z0-9_]) goes through the API, marked by its comment. Others, with a hyphen for
// instance, are a marked block of /etc/network/interfaces, written over the host seam.
//
// Finalizer: proximity/bridge. Deletion waits until no Appliance uses the bridge.
//
// Conditions, in order: Configured (it is in the nodes' configuration), Active (the kernel
// has it); InSync beside them under the drift policies warn and ignore. What goes wrong on one
// node holds up none of the others: status.nodes has an entry for each, and guests look at
// that of their own node only. A node that is offline is named, and no reason not to be Ready.
//
// Reasons: InterfaceTaken, UIDUnknown, HostAccessMissing, ForeignPendingChanges, Written, NotWritten,
// Active, NotActive, NotSeen, InUse, GuestsAttached, NodeOffline, NodeNotFound, ReloadFailed, Drifted.
//
// Steps (plan.go), on each node: Write, Remove, Reload.
//
// The staging area of a node's network configuration is shared with every administrator:
// when somebody else's changes are pending nothing is written, because applying ours would
// apply theirs too.
package bridge
