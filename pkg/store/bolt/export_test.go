package bolt

import (
	"os"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// WithFaults returns options whose commits fail where the functions say so: before the
// database writes anything, or after it has synced. Nil functions do nothing.
func (o Options) WithFaults(before, after func() error) Options {
	o.seams.beforeCommit, o.seams.afterCommit = before, after
	return o
}

// WithFile returns options that hand the database's open file to see.
func (o Options) WithFile(see func(*os.File)) Options {
	o.seams.openFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		if err == nil {
			see(f)
		}
		return f, err
	}
	return o
}

// SchemaVersion for tests of newer ones.
const SchemaVersion = schemaVersion

// EncodeChunks returns the chunks of events, each with the number of its events.
func EncodeChunks(events []engine.Event) (chunks [][]byte, counts []int) {
	for len(events) > 0 {
		b, n := appendChunk(nil, events, chunkBytes)
		chunks, counts, events = append(chunks, b), append(counts, n), events[n:]
	}
	return chunks, counts
}

// DecodeChunk is the reverse; last is the revision of the last event.
func DecodeChunk(last uint64, value []byte) (events []engine.Event, err error) {
	c, err := openChunk(number(last), value)
	if err == nil {
		err = c.each(func(ev engine.Event) bool { events = append(events, ev); return true })
	}
	return events, err
}

// WithRewriting returns options that call stage at each step of a rewrite of the file.
func (o Options) WithRewriting(stage func(string) error) Options {
	o.seams.rewriting = stage
	return o
}

// OldestSchema for the test of migrations.
const OldestSchema = oldestSchema

// Defaults are the bounds of the log when nobody sets others.
func Defaults() (events uint64, age time.Duration, bytes uint64) {
	o := Options{}.withDefaults()
	return o.LogMinEvents, o.LogMaxAge, o.LogMaxBytes
}

// Seal for tests of checksums.
func Seal(b []byte) []byte { return appendSealed(nil, b) }

// Unseal for tests of checksums.
var Unseal = unseal
