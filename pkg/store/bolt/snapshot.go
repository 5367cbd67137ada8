package bolt

import (
	"fmt"
	"io"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/store/snapshot"
)

// Snapshot writes the database as it is now in the format of package snapshot. Writers go
// on meanwhile; pages that they free are not used again before it ends, so a slow w makes
// the file grow. Every change that was answered before is in it.
func (s *Store) Snapshot(w io.Writer) (snapshot.Info, error) {
	var info snapshot.Info
	err := s.db.view(func(tx *bbolt.Tx) error {
		c, err := readCounters(tx)
		if err != nil {
			return err
		}
		info, err = snapshot.Write(w, snapshot.Info{Size: tx.Size(), Revision: c.revision, StoreID: s.db.id}, tx.WriteTo)
		return err
	})
	if err != nil {
		return snapshot.Info{}, fmt.Errorf("snapshot: %w", err)
	}
	return info, nil
}
