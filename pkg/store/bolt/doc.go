// Package bolt is a store in one bbolt file. It adds durability to the rules that all
// backends share (package engine).
//
// # The file
//
//	meta        schema        version of this layout
//	            store-id      a random id, made with the file
//	            revision      newest revision
//	            compacted     oldest revision that a watch can start from
//	            checkpoint    the buckets of objects have every change up to this revision
//	            log-bytes     size of all chunks in log
//	obj/<Kind>  namespace \0 name -> encoded object and its checksum (see seal.go)
//	log         revision of the last of them -> a chunk of events (see chunk.go)
//	audit       revision of the last of them -> the audit records of a commit (see audit.go)
//
// Numbers in meta are 8 bytes big-endian. A kind that the registry does not know (a newer
// version wrote it) stays in the file untouched.
//
// A file with a newer schema is refused. One with an older schema is migrated when it is
// opened: on a copy, which takes its place when it is whole and can be read; the file that
// was stays beside it as path.schema-<n>, the only way back to the older version. It needs
// as much room again as the database has.
//
// # Commits
//
// A commit of the engine is one bbolt transaction, which appends to the log: the events, which
// have the objects, their audit records and the new revision appear together or not at all.
// bbolt syncs twice for it, first the data, then the page that makes it valid. Pages all over
// the file, one for each object, would cost several times as much. The file has room ahead of
// small commits, see room.go.
//
// Objects are written to their buckets later, in rounds: when the log behind the checkpoint
// has become long (Options.CheckpointBytes), or is in the way of compaction, each commit also
// writes some of the objects that had changed before the round began; when all are written,
// the checkpoint moves to where it began. So no commit waits for a round, and an object that
// changes all the time is written once a round or not at all. See checkpoint.go.
//
// A store that is closed in order brings the checkpoint to its newest revision. After a
// crash the next start reads the buckets and then the log behind the checkpoint: the bytes
// of it that CheckpointBytes allows, and about as much again when a round was under way.
//
// All reads of objects are served from memory; the file is read when the store is opened and
// for watches that start further back than the events in memory.
//
// # Compaction
//
// Each commit also removes old events, at most a few more than it adds, so the log
// shrinks without a transaction, a goroutine or a pause of its own. See Options for what
// is kept. No event goes before the checkpoint has passed it.
//
// Pages that nothing is in any more are used again, but the file does not shrink: Defrag
// writes it anew. See rewrite.go for what a crash may leave.
//
// # Failure
//
// After a failed write or sync the store only reads (store.ErrReadOnly). bbolt may leave
// the failed transaction in the file, durable or not; nothing of it is ever shown, and the
// next start finds it or does not: nobody was told that it succeeded.
package bolt
