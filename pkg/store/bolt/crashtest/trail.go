package crashtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// The trail's files are small, so that kills hit it while it begins a new one and removes
// an old one.
const (
	trailSegment = 64 << 10
	trailBytes   = 1 << 20
	trailPause   = time.Millisecond
)

func openTrail(dir string) (*trail.Trail, error) {
	return trail.Open(dir, trail.Options{SegmentBytes: trailSegment, MaxBytes: trailBytes})
}

// recordsOf are a store's audit records as the trail reads them.
type recordsOf struct{ *bolt.Store }

// Records implements trail.Records.
func (r recordsOf) Records(ctx context.Context, after uint64, limit int) ([]*audit.Record, error) {
	return r.Audit(ctx, store.AuditOptions{After: after, Limit: limit})
}

// follow copies changes into the trail as the daemon does, only all the time, and tells how
// far it is; until it is told to stop.
func (w Workload) follow(st *bolt.Store, s *speaker) (stop func() error, err error) {
	if w.Trail == "" {
		return func() error { return nil }, nil
	}
	tr, err := openTrail(w.Trail)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- copyAll(ctx, tr, st, s) }()
	return func() error {
		cancel()
		return errors.Join(<-ended, tr.Close())
	}, nil
}

func copyAll(ctx context.Context, tr *trail.Trail, st *bolt.Store, s *speaker) error {
	for {
		revision := st.Revision()
		err := tr.Copy(ctx, recordsOf{st})
		if errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = s.say("%s %d", trailedLine, revision)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(trailPause):
		}
	}
}

// verifyTrail opens the trail as the daemon would. What it said it has must be in it; it may
// have nothing that the store does not have, and with the rest copied both are the same.
func (w Workload) verifyTrail(st *bolt.Store, book *Ledger) (err error) {
	if w.Trail == "" {
		return nil
	}
	tr, err := openTrail(w.Trail)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tr.Close()) }()
	ctx := context.Background()
	isChange := func(e *trail.Entry) bool { return e.Revision != 0 }
	newest := func() (uint64, error) {
		lines, err := tr.Lines(ctx, trail.Query{Newest: true, Limit: 1, Match: isChange})
		if err != nil || len(lines) == 0 {
			return 0, err
		}
		e, _, err := trail.Decode([]byte(lines[0]))
		if err != nil {
			return 0, err
		}
		return e.Revision, nil
	}
	has, err := newest()
	switch {
	case err != nil:
		return err
	case has > st.Revision():
		return fmt.Errorf("the trail has a change of revision %d, the store is at %d", has, st.Revision())
	}
	records, err := st.Audit(ctx, store.AuditOptions{Newest: true, Limit: 1, Match: func(r *audit.Record) bool { return r.Revision <= book.Trailed }})
	if err != nil {
		return err
	}
	if len(records) > 0 && has < records[0].Revision {
		return fmt.Errorf("the trail ends at revision %d, it said that it has %d", has, records[0].Revision)
	}
	r, err := tr.Verify(ctx, "", recordsOf{st})
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("the trail: %d problems, the first: %s", len(r.Problems), r.Problems[0])
	}
	newestRecord, err := st.Audit(ctx, store.AuditOptions{Newest: true, Limit: 1})
	if err != nil {
		return err
	}
	if has, err = newest(); err == nil && len(newestRecord) > 0 && has != newestRecord[0].Revision {
		err = fmt.Errorf("the trail ends at revision %d, the records of the store at %d", has, newestRecord[0].Revision)
	}
	return err
}
