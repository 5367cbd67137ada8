// Package cache keeps the objects of one kind of a daemon in memory, as they are there now,
// and tells handlers what changes: what other projects call an informer.
//
// # Contract
//
//   - An Informer reads a snapshot and then every change, and goes on from the last one when
//     the connection breaks or the daemon is started again, with a pause that grows. When the
//     daemon no longer has the changes since then (they were compacted, or its database is
//     another one), a new snapshot is compared with the cache.
//   - Objects that the cache returns and that handlers get are shared. They must not be
//     changed: resource.Clone makes a copy.
//   - Each handler runs in a goroutine of its own and is told every change of the cache once,
//     in order: Add for an object that it was not told of, Update with the object as it was
//     told last, Delete. One that was added late is told of what there is first.
//   - A slow handler delays neither the cache nor other handlers. Up to MaxQueued changes wait
//     for it; beyond, changes of one object that wait are made one (the object as it was told
//     last, and as it is now), so that no more than that and one for each object wait. So a
//     handler never misses how an object ended up; it may miss what it was in between.
//   - What happened while the connection was down and was not kept by the daemon comes as one
//     change for each object. A deletion among it has no last state: Tombstone.Unknown.
//   - The cache holds at most Options.MaxObjects objects; one more ends Run with an error.
//
// Nothing blocks but Run, WaitForSync and Registration.WaitForSync.
package cache
