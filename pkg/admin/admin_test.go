package admin

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

func try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, &out)
	return out.String(), err
}

func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	if _, err := try(t, args...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: got %v, want %q", args, err, want)
	}
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	st, err := bolt.Open(filepath.Join(t.TempDir(), "other.db"), kinds.Registry(), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "backup")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Snapshot(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	data := filepath.Join(dir, "data")
	refused(t, "data-dir", "snapshot", "restore", file)
	refused(t, "accepts 1 arg", "snapshot", "restore", "--data-dir", data)
	refused(t, "no such file", "snapshot", "restore", filepath.Join(dir, "none"), "--data-dir", data)
	out, err := try(t, "snapshot", "restore", file, "--data-dir", data)
	if err != nil || !strings.Contains(out, "of store "+st.ID()) {
		t.Fatalf("got %q, %v", out, err)
	}
	refused(t, "--force replaces it", "snapshot", "restore", file, "--data-dir", data)
	restored, err := bolt.Open(filepath.Join(data, DatabaseFile), kinds.Registry(), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "stop the daemon first", "snapshot", "restore", file, "--data-dir", data, "--force")
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := try(t, "snapshot", "restore", file, "--data-dir", data, "--force"); err != nil {
		t.Error(err)
	}
}
