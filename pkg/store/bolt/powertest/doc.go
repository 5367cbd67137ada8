// Package powertest finds out what is left of a store after a power failure, without one.
//
// A workload of package crashtest runs under strace, which records every write to the
// database file, every barrier (fsync, fdatasync) and every line that the workload says,
// in the order in which they happened. From a recording come images: files as a disk
// might hold them after the power went at some point. All writes before the last barrier
// are in an image; of the writes after it any subset of their 512-byte sectors, because a
// disk may write them in any order and be interrupted between any two. The same goes for
// a new size of the file, and for the file's name until its directory was synced.
//
// Each image must open, pass the database's own check, hold every transaction that was
// acknowledged before that point, whole, and be at no older revision than was shown.
//
// Images are checked in child processes: bbolt maps the file, and a bad image can fault
// in a way that takes the whole process down. One child checks many images and is
// replaced when it dies.
//
// What this leaves out: sectors torn inside their 512 bytes, blocks that hold rubbish
// after a failure, and the file system's own metadata beyond the file's size and name.
//
// A program that calls Run must call crashtest.Child and Child first thing.
package powertest
