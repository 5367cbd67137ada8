// Package placement chooses the node for a guest that is to be made.
//
// Place is pure: from what is asked for and the nodes as they are it makes a Decision, the
// node with the reason for it and, for each other node, what it lacks or has less of. Facts
// come from an Inventory, which package bulk reads once for all who ask.
//
// What a node must have: it is online and not in maintenance, the network leads there, the
// storage is there, active, takes root file systems and is not full (its data, and the
// metadata of a thin pool). With Request.Strict the template must be there or fetchable, and
// there must be room for all the memory and disk that the guest may take: what others
// of ours were promised and do not use yet counts as used, and so does what was reserved and
// is not made yet. What others than we have promised to their guests is not counted, only
// what they use: Proxmox lets everybody promise more than there is.
//
// A node that a human named is taken when it can work at all, and one that the network
// leaves no choice about, likewise; shortage of memory there is a Warning.
//
// What Proxmox does not tell (figures of a node without Sys.Audit, metadata of a thin pool
// without Sys.Audit on /) is not held against a node.
package placement
