// Package engine is what all backends of the store have in common: the rules of the
// contract in package store. A backend adds a Log, which makes changes durable and
// remembers them; without one the engine is a store in memory.
//
// # How a write goes
//
//	Update -> queue -> executor: run closures -> committer: Log.Commit -> publish -> answer
//
// Two goroutines own all writing. The executor takes transactions from the queue and runs
// their closures one after the other, each on the result of the ones before, durable or
// not. What it has done since the last commit began is a batch; when the committer is free
// it takes the batch, hands its changes to the log as one commit, then publishes the
// new view and the events, then answers. There is no timer: an idle store commits one
// transaction at once, a busy one commits many for the price of one, and the closures of
// the next batch run while the disk works on this one. A batch of one transaction after
// another such batch, with nobody waiting, the executor commits itself: then waking the
// committer is what takes longest.
//
// Answers wait for the commit even when a transaction changed nothing or failed, because
// what it saw may have been the work of a transaction that is not durable yet. When a
// commit fails, all that was executed on top of it fails, and the store is read-only.
//
// # How objects are kept
//
// As their bytes. Decoded they would take several times the room, and in so many pieces
// that the collector would be busy with little else than looking at them. A write compares
// and joins bytes: only fields that differ are decoded, to see whether they mean something
// else (see wire.go and revise.go; a test holds all of it against the same work done on
// decoded objects). A read decodes, and so does the goroutine of a watcher; what was decoded
// last, and what is looked at again and again, is kept decoded for a while, within bounds
// (see decoded.go).
//
// # How a read goes
//
// A view is an immutable tree per kind and the revision it belongs to. Readers take the
// pointer to the current one and need no lock. The executor works on a draft of the next
// one, in which a batch copies the nodes it changes once; trees share the rest. What a
// transaction that fails has drafted is put back.
//
// A list in pages holds on to the view it began with, so that its pages fit together
// whatever is written meanwhile. Views share what did not change; the number of those held
// and the time are bounded.
//
// # How a watch goes
//
// The newest events are in a ring in memory. A watcher is a goroutine with a cursor in it,
// not a buffer: the committer appends, wakes all watchers and goes on. Selection and
// delivery happen in the watcher's goroutine. One that takes no event while
// Options.MaxWatchLag of them are published is cut off; one that takes them slowly falls
// out of the ring and reads on from the log, and is cut off when the log has moved on too.
package engine
