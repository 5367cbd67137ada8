package bolt

import (
	"os"

	"go.etcd.io/bbolt"
)

// openDB is a database with the file that it has open.
type openDB struct {
	*bbolt.DB
	file *os.File
}

// A database grows at its end, where its file has a hole. The first sync after a write into
// one also waits for the file system's journal to say where the new bytes are: measured, half
// as long again on a quiet disk and many times as long beside other writers. A commit of one
// small change is little but its syncs.
// So small commits find zeros where they are about to write: one in a hundred or so has
// written them with its own pages, under its own sync.
//
// Nothing depends on the zeros: where they are lost, or could not be written, there is a hole.

const (
	// smallCommit bounds the events of a commit that looks for room: larger ones would write
	// twice as many bytes to save a small part of their time.
	smallCommit = 8 << 10
	// defaultRoom is how much room is made at a time.
	defaultRoom = 256 << 10
)

// makeRoom writes zeros behind the last page of the database, and within its file, when
// there are few left. It must be called in a transaction that has written nothing yet: pages
// are given out when it commits, and written after that.
func (d *database) makeRoom(tx *bbolt.Tx, file *os.File, size int) {
	end := tx.Size() // behind all pages that were ever given out
	d.written = max(d.written, end)
	room := d.opts.RoomBytes
	if room < 0 || size > smallCommit || d.written-end > room/4 {
		return
	}
	info, err := file.Stat()
	if err != nil {
		return
	}
	n := min(room, info.Size()-d.written)
	if n <= 0 {
		return // the database makes its file larger soon
	}
	if len(d.zeros) == 0 {
		d.zeros = make([]byte, room)
	}
	// What fails here fails for the commit too, if it matters.
	done, _ := file.WriteAt(d.zeros[:n], d.written)
	d.written += int64(done)
}
