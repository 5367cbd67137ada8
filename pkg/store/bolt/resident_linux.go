package bolt

import (
	"golang.org/x/sys/unix"

	"go.etcd.io/bbolt"
)

// letGo makes the pages of the file that were read so far count as the kernel's again, not
// as memory of this process. They stay in the page cache for as long as there is room, and
// are mapped again when they are read. Nobody may remap the database meanwhile: no
// transaction that writes may be under way. A failure costs memory and nothing else.
func letGo(db *bbolt.DB) {
	var size int64
	_ = db.View(func(tx *bbolt.Tx) error { // a closed database is its owner's business
		size = tx.Size()
		return nil
	})
	if size == 0 {
		return
	}
	// bbolt gives the mapping's address as a number. It is no memory of Go's.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, db.Info().Data, uintptr(size), unix.MADV_DONTNEED)
}
