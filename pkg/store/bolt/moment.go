package bolt

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Moment is a store between two commits: what reads showed then, and its file. While it
// is open, pages that writers free are not used again.
type Moment struct {
	reg  *resource.Registry
	tx   *bbolt.Tx
	read map[string]store.Snapshot // by kind
}

// Moment stops writers for as long as it takes to begin a read.
func (s *Store) Moment(ctx context.Context) (*Moment, error) {
	m := &Moment{reg: s.db.reg, read: map[string]store.Snapshot{}}
	err := s.BetweenCommits(ctx, func(func(error) error) (err error) {
		for _, kind := range m.reg.Kinds() {
			if m.read[kind.Name], err = s.List(ctx, kind.Name, store.ListOptions{Encoded: true}); err != nil {
				return err
			}
		}
		m.tx, err = s.db.db.Load().Begin(false)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Close must be called.
func (m *Moment) Close() error { return m.tx.Rollback() }

// Copy writes the file of the moment.
func (m *Moment) Copy(w io.Writer) error {
	_, err := m.tx.WriteTo(w)
	return err
}

// Differences tells where reads and file are not the same, at most maxProblems.
func (m *Moment) Differences() ([]string, error) {
	var found []string
	add := func(format string, args ...any) {
		if len(found) < maxProblems {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	counters, err := readCounters(m.tx)
	if err != nil {
		return nil, err
	}
	inFile, _, err := readState(m.tx, m.reg, counters)
	if err != nil {
		return nil, err
	}
	for _, k := range m.reg.Kinds() {
		kind, list := k.Name, m.read[k.Name]
		if list.Revision != counters.revision {
			add("reads show revision %d of kind %s, the file has %d", list.Revision, kind, counters.revision)
		}
		for _, encoded := range list.Encoded {
			obj := k.New()
			if err := proto.Unmarshal(encoded, obj); err != nil {
				add("reads show an object of kind %s that cannot be read: %v", kind, err)
				continue
			}
			key := resource.KeyOf(obj)
			if !bytes.Equal(inFile.Get(key), encoded) {
				add("%s: reads show another object than the file has", key)
			}
			inFile.Delete(key)
		}
	}
	inFile.Each(func(key resource.Key, _ []byte) { add("%s: the file has it, reads do not show it", key) })
	return found, nil
}
