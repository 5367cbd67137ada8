// Package snapshot is the format of a backup of a store: the database file, followed by a
// trailer of TrailerBytes:
//
//	8 bytes   magic
//	8 bytes   size of the database, big-endian
//	8 bytes   its revision
//	36 bytes  its store id
//	32 bytes  SHA-256 of all that is before
//
// The trailer is at the end, so that a snapshot can be streamed while it is made; one that
// was cut off has none. What the database file is, this package does not know.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	magic        = "PRXSNAP1"
	storeIDBytes = 36
	// TrailerBytes is how much longer a snapshot is than its database.
	TrailerBytes = len(magic) + 8 + 8 + storeIDBytes + sha256.Size
)

// ErrDamaged: the file is not a snapshot, or not as it was written.
var ErrDamaged = errors.New("not a usable snapshot")

// Info says what a snapshot holds.
type Info struct {
	Size     int64  // of the database in bytes, without the trailer
	Revision uint64 // of the newest change in it
	StoreID  string // of the store that it was made from, 36 characters
	SHA256   []byte // as in the trailer; Write sets it
}

// Write writes a snapshot: what database writes, which must be info.Size bytes, and the
// trailer. After an error what was written is worthless, which its reader sees.
func Write(w io.Writer, info Info, database func(io.Writer) (int64, error)) (Info, error) {
	if len(info.StoreID) != storeIDBytes {
		return info, fmt.Errorf("the store's id %q has not %d characters", info.StoreID, storeIDBytes)
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	n, err := database(out)
	if err == nil && n != info.Size {
		err = fmt.Errorf("%d of %d bytes: %w", n, info.Size, io.ErrShortWrite)
	}
	if err != nil {
		return info, fmt.Errorf("write the database: %w", err)
	}
	if _, err := out.Write(info.head()); err != nil {
		return info, fmt.Errorf("write the trailer: %w", err)
	}
	info.SHA256 = sum.Sum(nil)
	if _, err := w.Write(info.SHA256); err != nil {
		return info, fmt.Errorf("write the trailer: %w", err)
	}
	return info, nil
}

// head is the trailer without the checksum.
func (i Info) head() []byte {
	b := []byte(magic)
	b = binary.BigEndian.AppendUint64(b, uint64(i.Size))
	b = binary.BigEndian.AppendUint64(b, i.Revision)
	return append(b, i.StoreID...)
}

// Verify reads a whole snapshot and returns what it holds, or ErrDamaged.
func Verify(f *os.File) (Info, error) { return CopyDatabase(io.Discard, f) }

// CopyDatabase writes the database of a snapshot to w. What was written counts only when
// no error is returned: the checksum is looked at last. Errors: ErrDamaged, those of f, of w.
func CopyDatabase(w io.Writer, f *os.File) (Info, error) {
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	size := stat.Size() - int64(TrailerBytes)
	if size <= 0 {
		return Info{}, fmt.Errorf("%w: it has %d bytes", ErrDamaged, stat.Size())
	}
	trailer := make([]byte, TrailerBytes)
	if _, err := f.ReadAt(trailer, size); err != nil {
		return Info{}, fmt.Errorf("read the trailer: %w", err)
	}
	info, err := parseTrailer(trailer)
	switch {
	case err != nil:
		return info, err
	case info.Size != size:
		return info, fmt.Errorf("%w: the database has %d bytes, %d were written", ErrDamaged, size, info.Size)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), io.NewSectionReader(f, 0, size)); err != nil {
		return info, fmt.Errorf("copy the database: %w", err)
	}
	sum.Write(info.head())
	if got := sum.Sum(nil); !bytes.Equal(got, info.SHA256) {
		return info, fmt.Errorf("%w: its SHA-256 is %x, not %x as it was written", ErrDamaged, got, info.SHA256)
	}
	return info, nil
}

// parseTrailer reads a trailer of TrailerBytes.
func parseTrailer(b []byte) (Info, error) {
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(b) != TrailerBytes {
		return Info{}, fmt.Errorf("%w: it has no trailer, so it was cut off or is something else", ErrDamaged)
	}
	return Info{
		Size:     int64(binary.BigEndian.Uint64(rest)),
		Revision: binary.BigEndian.Uint64(rest[8:]),
		StoreID:  string(rest[16 : 16+storeIDBytes]),
		SHA256:   bytes.Clone(rest[16+storeIDBytes:]),
	}, nil
}
