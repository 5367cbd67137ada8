// Package engine is what all backends of the store have in common: the rules of the
// contract in package store. A backend adds a Log, which makes changes durable and
// remembers them; without one the engine is a store in memory.
//
// # How a write goes
//
//	Update -> queue -> committer: run closures -> Log.Commit -> publish -> answer
//
// One goroutine, the committer, owns all writing. It takes a transaction from the queue
// and whatever else queued while it was busy with the last commit, runs each closure on
// the result of the ones before it, hands all changes to the log as one commit, then
// publishes the new view and the events, then answers. There is no timer: an idle
// store commits one transaction at once, a busy one commits many for the price of one.
//
// Answers wait for the commit even when a transaction changed nothing or failed, because
// what it saw may have been the work of a transaction before it in the same commit, which
// is not durable yet. When the commit fails, all of them fail.
//
// # How a read goes
//
// A view is an immutable radix tree per kind and the revision it belongs to. Readers take
// the pointer to the current one and need no lock. A transaction makes its own version
// of the trees it changes; trees share what did not change, so a version costs a few
// nodes, and a transaction that fails is dropped by forgetting its version. No overlay,
// no undo.
//
// # How a watch goes
//
// The newest events are in a ring in memory. A watcher is a goroutine with a cursor in it,
// not a buffer: the committer appends, wakes all watchers and goes on. Selection and
// delivery happen in the watcher's goroutine. One that takes no event while
// Options.MaxWatchLag of them are published is cut off; one that takes them slowly falls
// out of the ring and reads on from the log, and is cut off when the log has moved on too.
package engine
