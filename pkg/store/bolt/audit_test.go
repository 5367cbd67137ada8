package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// auditStore is a store with that many changes by a user, one each.
func auditStore(t *testing.T, path string, opts bolt.Options, changes int) *bolt.Store {
	t.Helper()
	st, err := bolt.Open(path, storetest.Registry(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	ctx := audit.WithOrigin(context.Background(), audit.Origin{Type: "user", Identity: "me"})
	for i := range changes {
		a := benchApp(0)
		a.Spec.Vmid = proto.Int32(int32(i))
		_, err := st.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Update(a)
			if errors.Is(err, store.ErrNotFound) {
				_, err = tx.Create(a)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return st
}

func records(t *testing.T, st *bolt.Store) []*audit.Record {
	t.Helper()
	got, err := st.Audit(t.Context(), store.AuditOptions{Limit: store.MaxAuditPage})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAuditRecordsAreBoundedByNumberAgeAndBytes(t *testing.T) {
	for name, c := range map[string]struct {
		opts      bolt.Options
		low, high int
	}{
		"number": {bolt.Options{AuditMaxRecords: 10}, 10, 10},
		"age":    {bolt.Options{AuditMaxAge: time.Nanosecond}, 1, 1},
		"bytes":  {bolt.Options{AuditMaxBytes: 1000}, 2, 15},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			st := auditStore(t, path, c.opts, 40)
			got := records(t, st)
			if len(got) < c.low || len(got) > c.high {
				t.Fatalf("%d records are kept, want %d to %d", len(got), c.low, c.high)
			}
			for i, r := range got {
				if want := st.Revision() - uint64(len(got)-1-i); r.Revision != want {
					t.Fatalf("record %d is of revision %d, want %d: the newest are to be kept", i, r.Revision, want)
				}
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			// What is counted is right after a restart too.
			if again := records(t, auditStore(t, path, c.opts, 5)); len(again) < c.low || len(again) > c.high {
				t.Fatalf("%d records are kept after a restart", len(again))
			}
		})
	}
}

func TestAuditRecordsAreInSnapshots(t *testing.T) {
	dir := t.TempDir()
	st := auditStore(t, filepath.Join(dir, "state.db"), bolt.Options{}, 3)
	want := fmt.Sprint(len(records(t, st)))
	from, _ := snapshotOf(t, st)
	to := filepath.Join(dir, "restored.db")
	if _, err := bolt.Restore(to, from, storetest.Registry(), false); err != nil {
		t.Fatal(err)
	}
	restored := auditStore(t, to, bolt.Options{}, 1)
	got := records(t, restored)
	if fmt.Sprint(len(got)-1) != want || got[len(got)-1].Revision != restored.Revision() {
		t.Fatalf("%d records after restoring %s and one more change", len(got), want)
	}
}
