// Package crashtest finds out what is left of a store whose process was killed.
//
// A writer is a child process that works on the database and says on its standard output
// what the store has acknowledged and what a watch has shown. The parent kills it with
// SIGKILL at a random moment, keeps what it said in a ledger on disk, and holds the
// database file against the ledger and against itself:
//
//   - nothing that was acknowledged is gone, nothing that a watch showed is taken back;
//   - the objects are exactly those of a whole number of transactions of each writer;
//   - the revision never goes back;
//   - the event log, replayed on top of the state that was recorded before the kill, ends
//     in the objects that reads show;
//   - each of these events has its audit record, and no record is of an event that is not there;
//   - the audit trail, which followed the store, has all that it said it has, nothing that
//     the store does not have, and its chain is whole;
//   - the file's own check finds nothing.
//
// In every third cycle the file is rewritten all the time.
//
// A kill does not lose what the kernel holds already; that is what package powertest is
// for, with the same workload and the same ledger.
//
// A program that calls Run must call Child first thing: the child is the same program.
package crashtest
