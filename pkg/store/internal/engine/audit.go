package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Records of changes are made of what transactions did, and travel with their events: the
// log makes both durable in one commit. No caller can forget them. The committer makes them,
// while the executor has the next batch at hand.

// manyRecords is from how many events on their records are made by all processors.
const manyRecords = 128

// addRecords gives events their audit records.
func addRecords(events []Event) {
	if parts := runtime.GOMAXPROCS(0); parts > 1 && len(events) >= manyRecords {
		var wg sync.WaitGroup
		for part := range slices.Chunk(events, (len(events)+parts-1)/parts) {
			wg.Go(func() { addRecordsTo(part) })
		}
		wg.Wait()
		return
	}
	addRecordsTo(events)
}

func addRecordsTo(events []Event) {
	for i := range events {
		if ev := &events[i]; ev.origin != nil {
			ev.Audit = recordOf(ev)
			ev.origin, ev.was, ev.within = nil, nil, nil
		}
	}
}

// recordOf returns the record of a change, nil when none is wanted.
func recordOf(ev *Event) *audit.Record {
	kind := ev.version.layout.kind
	if kind.System && ev.origin.Type == audit.TypeDaemon {
		return nil // whatever it changed
	}
	r := &audit.Record{Origin: ev.origin, Revision: ev.Revision, Time: ev.Time, Key: ev.Key}
	var room [16]field
	if meta, err := ev.version.meta(room[:0]); err == nil { // the transaction has made it
		r.UID = meta.text(metaUID)
	}
	var err error
	switch ev.Type {
	case store.Added:
		r.Effect = audit.Created
		r.Values, err = wholeValues(ev.version, false)
	case store.Deleted:
		r.Effect = audit.Deleted
		r.Values, err = wholeValues(ev.version, true)
	default:
		r.Effect = audit.Modified
		switch {
		case ev.statusAlone:
			r.Fields, r.Values, err = statusFields(ev.was, ev.version)
		default:
			known := false
			if ev.within != nil {
				r.Fields, r.Values, known = ev.version.layout.teller.Changed("spec", ev.within.was, ev.within.is)
			}
			if !known {
				r.Fields, r.Values, err = changedFields(ev.was, ev.version)
			}
		}
	}
	if err != nil {
		r.Fields, r.Values = nil, nil // what cannot be read has a record, too
	}
	if !audit.Wanted(kind, ev.origin, r.Fields) {
		return nil
	}
	return r
}

// wholeValues are those of an object that was created or deleted. The status, which is
// not told, is not decoded.
func wholeValues(v *version, deleted bool) ([]audit.Value, error) {
	var room [24]field
	all, err := fields(room[:0]).split(v.encoded)
	if err != nil {
		return nil, err
	}
	some := make([]byte, 0, len(v.encoded))
	for _, f := range all {
		if !v.layout.isStatus(f.num) {
			some = append(some, f.bytes...)
		}
	}
	m, err := part(v.layout.typ, some)
	if err != nil {
		return nil, err
	}
	return audit.Whole(m.Interface().(resource.Object), deleted), nil
}

// statusAlone is what most writes of a status change.
var statusAlone = []string{"status"}

// statusFields is audit.Changed for a write of a status. It decodes only one that names
// another task.
func statusFields(was, is *version) ([]string, []audit.Value, error) {
	if is.layout.task == nil || string(was.task()) == string(is.task()) {
		return statusAlone, nil, nil
	}
	return changedFields(was, is)
}

// task is the UPID of the task that the object's status names, or empty.
func (v *version) task() (upid []byte) {
	for b := contents(v.field(v.layout.status)); len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return nil
		}
		if num == v.layout.task.Number() {
			upid = content(b[:n])
		}
		b = b[n:]
	}
	return upid
}

// recordsOf collects the records of events.
func recordsOf(events []Event) []*audit.Record {
	var records []*audit.Record
	for i := range events {
		if events[i].Audit != nil {
			records = append(records, events[i].Audit)
		}
	}
	return records
}

// Audit implements store.AuditLog.
func (e *Engine) Audit(ctx context.Context, opts store.AuditOptions) ([]*audit.Record, error) {
	if opts.Limit < 1 || opts.Limit > store.MaxAuditPage {
		return nil, fmt.Errorf("%w: a page of %d audit records, allowed are 1 to %d", store.ErrInvalid, opts.Limit, store.MaxAuditPage)
	}
	if e.closed() {
		return nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// What is newer than the published revision may not be durable yet.
	page := &AuditPage{opts: opts, upTo: e.Revision()}
	if e.log == nil {
		e.memory.each(opts.Newest, page.add)
		return page.result(), nil
	}
	err := e.log.Audit(page)
	return page.result(), err
}

// AuditPage collects the records that were asked for from those of a log.
type AuditPage struct {
	opts    store.AuditOptions
	upTo    uint64
	records []*audit.Record
}

// Newest tells whether records are wanted from the newest backwards.
func (p *AuditPage) Newest() bool { return p.opts.Newest }

// After is the revision that the wanted records are above.
func (p *AuditPage) After() uint64 { return p.opts.After }

// Add takes the records of a batch, in their order, and tells whether more are wanted.
// Batches come in order, or backwards when Newest is true.
func (p *AuditPage) Add(batch []*audit.Record) (more bool) {
	for i := range batch {
		if p.opts.Newest {
			i = len(batch) - 1 - i
		}
		if !p.add(batch[i]) {
			return false
		}
	}
	return true
}

func (p *AuditPage) add(r *audit.Record) (more bool) {
	switch {
	case r.Revision <= p.opts.After:
		return !p.opts.Newest
	case r.Revision > p.upTo:
		return p.opts.Newest
	case p.opts.Match != nil && !p.opts.Match(r):
		return true
	}
	p.records = append(p.records, r)
	return len(p.records) < p.opts.Limit
}

// result returns the records in order.
func (p *AuditPage) result() []*audit.Record {
	if p.opts.Newest {
		for i, j := 0, len(p.records)-1; i < j; i, j = i+1, j-1 {
			p.records[i], p.records[j] = p.records[j], p.records[i]
		}
	}
	return p.records
}

// maxMemoryRecords bounds the records of a store without a log.
const maxMemoryRecords = 32 << 10

// memoryRecords are the newest records of a store without a log.
type memoryRecords struct {
	mu      sync.Mutex
	records []*audit.Record
}

func (m *memoryRecords) append(records []*audit.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, records...)
	if over := len(m.records) - maxMemoryRecords; over > maxMemoryRecords/4 { // rarely, for it copies
		m.records = append([]*audit.Record(nil), m.records[over:]...)
	}
}

// each calls fn for each record, in order or backwards, as long as it returns true.
func (m *memoryRecords) each(backwards bool, fn func(*audit.Record) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.records {
		if backwards {
			i = len(m.records) - 1 - i
		}
		if !fn(m.records[i]) {
			return
		}
	}
}
