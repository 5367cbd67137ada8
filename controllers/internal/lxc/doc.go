// Package lxc brings one LXC guest to a desired state: it is what the controllers of
// Appliance and App have in common.
//
// Plan is pure: from what is wanted and what was observed it makes the list of steps, each
// with its effect on what runs. The controllers' own plans are built on it. A Driver
// observes, asks for the plan and takes one step of the guest after the other until none is
// left. Only a deletion has steps that lose data. Steps that start a Proxmox task write its UPID into
// the Journal, durably, before they wait for it; after a restart the Driver re-attaches.
//
// Where a Memory holds what was seen last and the plan for that is empty, nothing is asked.
// Every step is planned on a look of its own, made right before. Of a guest that is made for
// the first time that look is a list (made.go): it is made when the list lacks it, for its VMID
// is reserved and Proxmox refuses a second guest of one VMID, also after a restart of the
// daemon that has forgotten the first request; and it is started when our own task has made it
// and the list shows it as it was made.
//
// What the Driver never does: change or delete a guest without our mark; take a missing
// row in a list, or one answer of a node, for a missing guest that is to be removed; repeat a request whose outcome is not known. Such a
// request ends the reconcile; the next one observes first.
package lxc
