// Package apply is the one way into the store for what users want: every surface (gRPC,
// REST, the command line, repositories) goes through an Applier, so that an object means
// the same wherever it came from.
//
// # What a write goes through
//
//  1. The kind must exist and be one that users write (not System). Operations and their
//     like (ImmutableSpec) are wishes to be carried out once: they are created, never
//     part of a set, because a set is applied again and again.
//  2. Defaults are filled in, then the object is checked by itself: metadata, the options
//     of the proto, the kind's own rules.
//  3. In one transaction: its namespace exists and is not being deleted, immutable fields
//     are as they were, the object is written, and then checked among the others as they
//     are after all writes (addresses inside the Bridge's subnet).
//
// What an apply makes of a document (2, and merging it) depends on the document and on the
// object that is stored, and is found out before the transaction, which finds it out anew
// when the object is another version by then; see admit.go.
//
// Nothing else is guessed against live objects: that a host name belongs to another Vhost
// or a VMID to a foreign guest is found by the controllers and said in a condition.
//
// # Dry runs and patches
//
// A dry run (Options.DryRun) of any write goes the whole way, in a transaction that is
// taken back: what it answers, and what it refuses, is what the real run would.
//
// A Patch is an Update to what the patch makes of the live object, in the same
// transaction: it needs no resourceVersion to be safe against other writers.
//
// # What applying means
//
// A manager (Options.Manager) owns the fields of the document that it applies; package
// ownership has the rules. What it no longer has in its document, and nobody else owns, is
// removed or becomes its default again. Another value for a field that somebody else owns
// is resource.FieldErrors with ReasonManagerConflict, a cause for each field, unless
// Options.Force. A document may be a part of an object: what is checked is the whole that
// comes out. Create, Update and Patch own what they change. What is not tracked: status.
//
// A resourceVersion or uid in a document must be the current one, or the set is a
// conflict. status, generation, the timestamps and managedFields are the server's: what a
// document says of them is ignored, so that the output of `get -o yaml` can be edited and
// applied. An object that is being deleted is a conflict: it would be gone a moment after
// it was "configured".
//
// A document that changes nothing writes nothing. A set is applied completely or not at
// all, in the order of the kinds; errors are told for all documents, with file and line.
package apply
