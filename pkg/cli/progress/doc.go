// Package progress shows how far objects are on their way to a goal: becoming Ready or
// being gone.
//
// # Contract
//
//   - Board is the model: which objects are awaited, which stage each is in, when it
//     changed. It does no I/O and has no clock of its own.
//   - Run feeds a Board from a channel of changes and a Display from the Board, until all
//     objects are done, the channel is closed or the context ends. It writes from one
//     goroutine.
//   - Live draws one line per object and redraws it in place; it needs a terminal. Plain
//     writes one line per change of an object's stage, never the same line twice in a row.
//   - Summary says how long each object took and in which stages the time went.
//
// All text that comes with objects is cleaned of control characters before it is shown.
package progress
