package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// A record is one event in the log:
//
//	1 byte    'A' added, 'M' modified, 'D' deleted
//	8 bytes   time of the change, Unix nanoseconds, big-endian
//	3 times   uvarint length and bytes: kind, namespace, name
//	the rest  the encoded object, sealed (see seal.go)
//
// The key is in the object too; here it can be read without decoding the object, and for
// kinds that are not known.
const recordHeader = 1 + 8

var errRecord = errors.New("damaged log record")

var eventCodes = map[store.EventType]byte{store.Added: 'A', store.Modified: 'M', store.Deleted: 'D'}

var eventTypes = map[byte]store.EventType{'A': store.Added, 'M': store.Modified, 'D': store.Deleted}

// encodeRecord returns the record of an event, and its end: the value of the object.
func encodeRecord(ev engine.Event) (record, sealed []byte) {
	key := ev.Key
	b := make([]byte, 0, recordHeader+3*binary.MaxVarintLen32+len(key.Kind)+len(key.Namespace)+len(key.Name)+len(ev.Encoded)+sealBytes)
	b = append(b, eventCodes[ev.Type])
	b = binary.BigEndian.AppendUint64(b, uint64(ev.Time.UnixNano()))
	for _, s := range []string{key.Kind, key.Namespace, key.Name} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	head := len(b)
	b = appendSealed(b, ev.Encoded)
	return b, b[head:]
}

// decodeRecord is the reverse. The result does not refer to the record's bytes.
func decodeRecord(revision uint64, record []byte) (engine.Event, error) {
	ev, sealed, err := decodeHead(revision, record)
	if err != nil {
		return ev, err
	}
	encoded, err := unseal(sealed)
	if err != nil {
		return ev, fmt.Errorf("%w: %s: %w", errRecord, ev.Key, err)
	}
	ev.Encoded = bytes.Clone(encoded)
	return ev, nil
}

// decodeEvent is decodeRecord with the object, nil when the registry does not know its kind.
func decodeEvent(reg *resource.Registry, revision uint64, record []byte) (engine.Event, error) {
	ev, err := decodeRecord(revision, record)
	kind, ok := reg.Get(ev.Key.Kind)
	if err != nil || !ok {
		return ev, err
	}
	obj := kind.New()
	if err := proto.Unmarshal(ev.Encoded, obj); err != nil {
		return ev, fmt.Errorf("%w: %s: %w", errRecord, ev.Key, err)
	}
	if got := resource.KeyOf(obj); got != ev.Key {
		return ev, fmt.Errorf("%w: it is about %s and holds %s", errRecord, ev.Key, got)
	}
	ev.Object = obj
	return ev, nil
}

// decodeHead reads all of a record but its object, and returns the bytes of that.
func decodeHead(revision uint64, record []byte) (ev engine.Event, rest []byte, err error) {
	ev = engine.Event{Event: store.Event{Revision: revision}}
	if len(record) < recordHeader {
		return ev, nil, fmt.Errorf("%w: %d bytes", errRecord, len(record))
	}
	typ, ok := eventTypes[record[0]]
	if !ok {
		return ev, nil, fmt.Errorf("%w: event type %#x", errRecord, record[0])
	}
	ev.Type, ev.Time = typ, recordTime(record)
	rest = record[recordHeader:]
	for _, field := range []*string{&ev.Key.Kind, &ev.Key.Namespace, &ev.Key.Name} {
		n, width := binary.Uvarint(rest)
		if width <= 0 || n > uint64(len(rest)-width) {
			return ev, nil, fmt.Errorf("%w: key", errRecord)
		}
		*field = string(rest[width : width+int(n)])
		rest = rest[width+int(n):]
	}
	return ev, rest, nil
}

// recordTime reads the time of a record that has a header.
func recordTime(record []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(record[1:recordHeader])))
}

// decodeObject reads the value of an object.
func decodeObject(kind *resource.Kind, value []byte) (resource.Object, error) {
	encoded, err := unseal(value)
	if err != nil {
		return nil, err
	}
	obj := kind.New()
	if err := proto.Unmarshal(encoded, obj); err != nil {
		return nil, err
	}
	return obj, nil
}
