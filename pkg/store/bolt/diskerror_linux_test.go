package bolt_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// What TestFailedCommitMakesTheStoreReadOnly shows, with the real thing: the database's file descriptor is replaced by one that
// fails as a full disk does (/dev/full) or whose sync fails (/dev/null: EINVAL).
func TestDiskErrors(t *testing.T) {
	for name, c := range map[string]struct{ device, says string }{
		"disk full":   {"/dev/full", "no space left"},
		"failed sync": {"/dev/null", "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			var file *os.File
			path := newPath(t)
			st := openGood(t, path, bolt.Options{}.WithFile(func(f *os.File) { file = f }))
			before := st.Stats()
			bad, err := os.OpenFile(c.device, os.O_RDWR, 0)
			if err != nil {
				t.Skip(err)
			}
			defer bad.Close()
			if err := syscall.Dup3(int(bad.Fd()), int(file.Fd()), syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			if err := create(st, bridge("bad")); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
			expectReadOnly(t, st, before, c.says)
			_ = st.Close()
			st = open(t, path, bolt.Options{})
			if !has(st, bridge("good")) || has(st, bridge("bad")) || st.Revision() != before.Revision {
				t.Errorf("the store is at %d after a restart, was at %d", st.Revision(), before.Revision)
			}
		})
	}
}
