package bolt

import (
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
			if m.read[kind.Name], err = s.List(ctx, kind.Name, store.ListOptions{}); err != nil {
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
	objects, err := readObjects(m.tx, m.reg)
	if err != nil {
		return nil, err
	}
	inFile := make(map[resource.Key]resource.Object, len(objects))
	for _, o := range objects {
		inFile[resource.KeyOf(o)] = o
	}
	for kind, list := range m.read {
		if list.Revision != counters.revision {
			add("reads show revision %d of kind %s, the file has %d", list.Revision, kind, counters.revision)
		}
		for _, o := range list.Items {
			key := resource.KeyOf(o)
			if other, ok := inFile[key]; !ok || !proto.Equal(o, other) {
				add("%s: reads show another object than the file has", key)
			}
			delete(inFile, key)
		}
	}
	for key := range inFile {
		add("%s: the file has it, reads do not show it", key)
	}
	return found, nil
}
