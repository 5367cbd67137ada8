// Package bulk looks at all guests of a cluster at once, so that a reconcile that finds
// nothing changed asks Proxmox nothing.
//
// A controller that has looked at its guest directly leaves what it saw with the View of
// the connection (Guest.Saw). An Observer then looks, once a period, at everything that
// could tell of a change, and the controller gets back what it saw (Guest.Recall) for as
// long as nothing did. Whatever does change wakes the object that the guest belongs to.
//
// # What a look costs
//
// For each connection with N guests on n nodes, every Period (5 s):
//
//	1    GET /cluster/resources: where guests are, which nodes are online, who has our tags
//	n    GET /nodes/{n}/lxc: power, process, lock, tags, name and limits, live
//
// and, as a budget of its own, what finds out about settings that no list shows:
//
//	n/6  GET /nodes/{n}/tasks: what ended since on which guest; of each node every 30 s
//	2 a  GET of configuration and addresses of a guests, the audit
//
// The audit also reads for the first time what nobody has read of a guest that ours has just
// made: its configuration must be exactly what was asked for, and its address the one that its
// appliance leased to it; otherwise its controller looks.
//
// The audit finds what no list shows (a NIC, the description, an address): the guests whose
// configuration was read longest ago, at least auditGuests (12) of them and as many as are
// needed for each guest to have its turn within auditAll (30 min). Up to 12 guests are thus
// audited with every look, 500 within 210 s, and 4,320 or more within 30 min: 12 guests
// are 4.8 requests a second, and 10,000 guests take 28 a look, 11.2 a second. A cluster in
// which nobody has guests is not looked at.
//
// A look that changes nothing writes nothing. Requests are given up after patience (4 s),
// and a node that does not answer holds up no other. What is older than three periods is not
// relied upon: then every reconcile looks for itself, as it does where there is no View.
//
// # What may be relied upon
//
// Knowledge of this package is a reason to do nothing, never a reason to do something.
// Whoever would act looks directly before. Absence is not inferred: a guest that a list
// lacks is a reason to look. Recall answers only when all of this holds:
//
// For two periods a direct look holds by itself, when it came after our last own change and what
// came of that is known. Then a list has to bear it out. So:
//
//   - a list that was begun after our last own change showed the guest, within three periods;
//   - the direct look began after the list that first showed the guest as it is now, so it
//     cannot have missed what changed with it;
//   - the list says of the power what the direct look said;
//   - no task has ended on the guest since, and no audit found another configuration.
//
// # Guests that are just made
//
// A guest that a task of ours has made well is taken for what it was made with for a minute at
// most (AsMade), until it has been seen to run: its configuration is not read then, and of
// its power, lock, tags and limits it is a list that tells, asked for after the task. Any other
// change of ours, a request whose outcome is not known, a task of somebody else's, a copy, or
// another face than the last one that was relied upon end that. Nothing is done on this ground
// but to start the guest (package lxc). Its first address is looked up in the leases of its
// appliance when others ask at the same time (FirstAddresses, leases.go): by one command for all.
//
// # Nodes and templates
//
// Inventory is what nodes are chosen by, read once for all who ask (inventory.go has what it
// costs). Fetch has one object fetch a template for all who wait for it (fetches.go).
//
// # Turns
//
// Here too is what bounds the work on guests: Turns per node, for tasks and for work inside
// of guests, and per storage (turns.go has the figures), first come first served.
//
// # Tasks
//
// Who waits for a task waits together with others on its node (wait.go): one list of tasks says
// which ended well, and when it is time to ask for another one itself. Nobody asks before the
// last tasks of the type had ended; then, while others of them did, in a dozen steps of at least
// 20 ms, and after that less and less often, down to twice a second. Likewise many who ask for the
// status of a guest at the same time, or within a second after many did, get it from one list
// (shared.go).
//
// # Bounds
//
// Everything is in memory and of this daemon's life. A View keeps at most maxGuests guests
// (further ones are always looked at directly), forgets those that nobody asked about for
// keepFor, and remembers at most taskRows ended tasks per node. There are as many Views as
// connections.
package bulk
