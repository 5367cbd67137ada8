package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// The log is in chunks: events of one commit, in order, as one value under the revision of
// the last of them. A value for each event would cost a commit of many small ones as much as
// the random writes that the log is there to spare it.
//
//	8 bytes   revision of the first event, big-endian; the others follow without a gap
//	records   per event:
//	          1 byte    'A' added, 'M' modified, 'D' deleted
//	          8 bytes   time of the change, Unix nanoseconds, big-endian
//	          4 times   uvarint length and bytes: kind, namespace, name, the encoded object
//	4 bytes   checksum of all of it (see seal.go)
//
// The key is in the object too; here it can be read without decoding the object, and for
// kinds that are not known.

const (
	// chunkBytes ends a chunk of a large commit, fewChunkBytes that of a small one: bbolt
	// writes up to four neighbours anew with each commit, for it keeps them in one node. So a
	// commit writes in chunks that are a small part of it.
	chunkBytes    = 16 << 10
	fewChunkBytes = 4 << 10
	chunkPart     = 8
	chunkHeader   = 8
	recordHeader  = 1 + 8
)

var errRecord = errors.New("damaged log record")

var eventCodes = map[store.EventType]byte{store.Added: 'A', store.Modified: 'M', store.Deleted: 'D'}

var eventTypes = map[byte]store.EventType{'A': store.Added, 'M': store.Modified, 'D': store.Deleted}

// chunkSize is where chunks of a commit of so many bytes end.
func chunkSize(commit int) int { return min(max(commit/chunkPart, fewChunkBytes), chunkBytes) }

// appendChunk appends a chunk of the first of the events, at least one, of about that size,
// and returns how many it took. Their revisions follow one another.
func appendChunk(b []byte, events []engine.Event, size int) (_ []byte, taken int) {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, events[0].Revision)
	for taken < len(events) && (taken == 0 || len(b)-start < size) {
		b = appendRecord(b, &events[taken])
		taken++
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli)), taken
}

func appendRecord(b []byte, ev *engine.Event) []byte {
	b = append(b, eventCodes[ev.Type])
	b = binary.BigEndian.AppendUint64(b, uint64(ev.Time.UnixNano()))
	for _, s := range [...]string{ev.Key.Kind, ev.Key.Namespace, ev.Key.Name} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(ev.Encoded)))
	return append(b, ev.Encoded...)
}

// chunk is one that was read. Its records are the file's.
type chunk struct {
	first, last uint64
	records     []byte
}

func openChunk(key, value []byte) (chunk, error) {
	if len(key) != 8 {
		return chunk{}, fmt.Errorf("%w: key %x is no revision", errRecord, key)
	}
	c := chunk{last: binary.BigEndian.Uint64(key)}
	b, err := unseal(value)
	if err != nil {
		return c, fmt.Errorf("%w: revisions up to %d: %w", errRecord, c.last, err)
	}
	if len(b) < chunkHeader {
		return c, fmt.Errorf("%w: revisions up to %d: %d bytes", errRecord, c.last, len(b))
	}
	c.first, c.records = binary.BigEndian.Uint64(b), b[chunkHeader:]
	if c.first > c.last {
		return c, fmt.Errorf("%w: it begins at revision %d and ends at %d", errRecord, c.first, c.last)
	}
	return c, nil
}

// each calls fn for every event, as long as it returns true. What they refer to is the
// file's, and their objects are encoded.
func (c chunk) each(fn func(engine.Event) bool) error {
	b := c.records
	for revision := c.first; revision <= c.last; revision++ {
		ev, rest, err := decodeRecord(revision, b)
		if err != nil {
			return fmt.Errorf("revision %d: %w", revision, err)
		}
		if !fn(ev) {
			return nil
		}
		b = rest
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes after revision %d", errRecord, len(b), c.last)
	}
	return nil
}

// decodeRecord reads the first record and returns the bytes after it.
func decodeRecord(revision uint64, b []byte) (ev engine.Event, rest []byte, err error) {
	ev = engine.Event{Event: store.Event{Revision: revision}}
	if len(b) < recordHeader {
		return ev, nil, fmt.Errorf("%w: %d bytes", errRecord, len(b))
	}
	typ, ok := eventTypes[b[0]]
	if !ok {
		return ev, nil, fmt.Errorf("%w: event type %#x", errRecord, b[0])
	}
	ev.Type, ev.Time = typ, time.Unix(0, int64(binary.BigEndian.Uint64(b[1:recordHeader])))
	var texts [4][]byte
	b = b[recordHeader:]
	for i := range texts {
		if texts[i], b, ok = cutText(b); !ok {
			return ev, nil, fmt.Errorf("%w: its texts", errRecord)
		}
	}
	ev.Key = resource.Key{Kind: string(texts[0]), Namespace: string(texts[1]), Name: string(texts[2])}
	ev.Encoded = texts[3]
	return ev, b, nil
}

// cutText reads a uvarint length and so many bytes.
func cutText(b []byte) (text, rest []byte, ok bool) {
	n, width := binary.Uvarint(b)
	if width <= 0 || n > uint64(len(b)-width) {
		return nil, nil, false
	}
	end := width + int(n)
	return b[width:end:end], b[end:], true
}
