// Package bolt is a store in one bbolt file. It adds durability to the rules that all
// backends share (package engine).
//
// # The file
//
//	meta        schema        version of this layout
//	            store-id      a random id, made with the file
//	            revision      newest revision
//	            compacted     oldest revision that a watch can start from
//	            log-bytes     size of all records in log
//	obj/<Kind>  namespace \0 name -> encoded object and its checksum (see seal.go)
//	log         revision, 8 bytes big-endian -> record (see record.go)
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
// A commit of the engine is one bbolt transaction: objects, their records and the new
// revision appear together or not at all. bbolt syncs twice for it, first the data, then
// the page that makes it valid. All reads of objects are served from memory; the file is
// read when the store is opened and for watches that start further back than the events
// in memory.
//
// # Compaction
//
// Each commit also removes old records, at most a few more than it adds, so the log
// shrinks without a transaction, a goroutine or a pause of its own. See Options for what
// is kept.
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
