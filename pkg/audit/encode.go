package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A batch is records of one commit, in order:
//
//	1 byte    version, 2
//	uvarint   number of records
//	8 bytes   time of the last record, Unix nanoseconds, big-endian
//	groups    records in a row that have one origin:
//	          8 texts: the origin's fields in order; uvarint number of records in the group
//	          per record: uvarint revision; 8 bytes time; 1 byte effect;
//	          4 texts: kind, namespace, name, uid; uvarint number of fields; a text each;
//	          uvarint number of values; for each a text, the path, 1 byte that says which of
//	          before (1) and after (2) are there, and these texts
//
// A text is a uvarint length and bytes. Version 1 had no values and no Git revision, the
// last text of an origin.
const (
	batchVersion    = 2
	batchWithFields = 1
	hasBefore       = 1
	hasAfter        = 2
)

// Bounds of what is decoded, far above what the store commits at a time.
const (
	maxBatchRecords = 1 << 20
	maxText         = 64 << 10
)

// ErrDamaged: bytes that are no batch of records.
var ErrDamaged = errors.New("damaged audit records")

// Fitting returns how many of the first records, at least one, take about so many bytes.
func Fitting(records []*Record, bytes int) int {
	n := 0
	for n < len(records) && (n == 0 || bytes > 0) {
		bytes -= records[n].size()
		n++
	}
	return n
}

// size is about that of the encoded record, but for its origin.
func (r *Record) size() int {
	size := 32
	for _, text := range r.texts() {
		size += len(*text)
	}
	for _, f := range r.Fields {
		size += 1 + len(f)
	}
	for _, v := range r.Values {
		size += 4 + len(v.Path)
		for _, text := range []*string{v.Before, v.After} {
			if text != nil {
				size += len(*text)
			}
		}
	}
	return size
}

// EncodeBatch encodes records, at least one.
func EncodeBatch(records []*Record) []byte {
	size := 256
	for _, r := range records {
		size += r.size()
	}
	b := make([]byte, 0, size)
	b = append(b, batchVersion)
	b = binary.AppendUvarint(b, uint64(len(records)))
	b = binary.BigEndian.AppendUint64(b, uint64(records[len(records)-1].Time.UnixNano()))
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].Origin == records[0].Origin {
			n++
		}
		for _, field := range records[0].Origin.texts() {
			b = appendText(b, *field)
		}
		b = binary.AppendUvarint(b, uint64(n))
		for _, r := range records[:n] {
			b = r.append(b)
		}
		records = records[n:]
	}
	return b
}

func (o *Origin) texts() [8]*string {
	return [...]*string{&o.Type, &o.Identity, &o.Surface, &o.Peer, &o.Request, &o.Verb, &o.Manager, &o.GitRevision}
}

func (r *Record) texts() [4]*string {
	return [...]*string{&r.Key.Kind, &r.Key.Namespace, &r.Key.Name, &r.UID}
}

func (r *Record) append(b []byte) []byte {
	b = binary.AppendUvarint(b, r.Revision)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = append(b, byte(r.Effect))
	for _, field := range r.texts() {
		b = appendText(b, *field)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Fields)))
	for _, f := range r.Fields {
		b = appendText(b, f)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Values)))
	for _, v := range r.Values {
		b = appendText(b, v.Path)
		at := len(b)
		b = append(b, 0)
		if v.Before != nil {
			b[at] |= hasBefore
			b = appendText(b, *v.Before)
		}
		if v.After != nil {
			b[at] |= hasAfter
			b = appendText(b, *v.After)
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// BatchHead reads how many records a batch has and the time of the last one.
func BatchHead(b []byte) (records int, last time.Time, err error) {
	d := decoder{b: b}
	records, last = d.head()
	return records, last, d.err
}

// DecodeBatch is the reverse of EncodeBatch. The result does not refer to b.
func DecodeBatch(b []byte) ([]*Record, error) {
	d := decoder{b: b}
	total, _ := d.head()
	var records []*Record
	for d.err == nil && len(records) < total {
		origin := &Origin{}
		for _, field := range origin.texts() {
			if field != &origin.GitRevision || d.version != batchWithFields {
				*field = d.text()
			}
		}
		n := d.number(uint64(total - len(records)))
		if n == 0 {
			d.fail("an empty group")
		}
		for range n {
			if d.err != nil {
				break
			}
			records = append(records, d.record(origin))
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes behind the last record")
	}
	if d.err != nil {
		return nil, d.err
	}
	return records, nil
}

type decoder struct {
	b       []byte
	version byte
	err     error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrDamaged, what)
	}
}

func (d *decoder) head() (records int, last time.Time) {
	if d.version = d.byte(); d.version != batchVersion && d.version != batchWithFields {
		d.fail("unknown version")
	}
	records = int(d.number(maxBatchRecords))
	return records, d.time()
}

func (d *decoder) record(origin *Origin) *Record {
	r := &Record{Origin: origin, Revision: d.number(1<<64 - 1), Time: d.time(), Effect: Effect(d.byte())}
	for _, field := range r.texts() {
		*field = d.text()
	}
	for range d.number(MaxFields) {
		r.Fields = append(r.Fields, d.text())
	}
	if d.version == batchWithFields {
		return r
	}
	for range d.number(MaxFields) {
		v := Value{Path: d.text()}
		has := d.byte()
		if has > hasBefore|hasAfter {
			d.fail("a value")
		}
		if has&hasBefore != 0 {
			text := d.text()
			v.Before = &text
		}
		if has&hasAfter != 0 {
			text := d.text()
			v.After = &text
		}
		r.Values = append(r.Values, v)
	}
	return r
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.fail("cut off")
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a uvarint of at most limit.
func (d *decoder) number(limit uint64) uint64 {
	n, width := binary.Uvarint(d.b)
	if d.err != nil || width <= 0 || n > limit {
		d.fail("a number")
		return 0
	}
	d.b = d.b[width:]
	return n
}

func (d *decoder) time() time.Time {
	b := d.take(8)
	if b == nil {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b)))
}

func (d *decoder) text() string { return string(d.take(int(d.number(maxText)))) }
