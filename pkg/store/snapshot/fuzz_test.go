package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead: a file is a snapshot as it was written, or ErrDamaged; what it is taken for can
// be written again, byte for byte.
func FuzzRead(f *testing.F) {
	for _, database := range []string{"x", "all that there is", string(make([]byte, 5000))} {
		var out bytes.Buffer
		_, err := Write(&out, Info{Size: int64(len(database)), Revision: 7, StoreID: "0b5f0e0c-0000-4000-8000-000000000000"},
			func(w io.Writer) (int64, error) { n, err := io.WriteString(w, database); return int64(n), err })
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
		f.Add(out.Bytes()[1:])
	}
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "snapshot")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var database bytes.Buffer
		info, err := CopyDatabase(&database, file)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v", err)
			}
			return
		}
		var again bytes.Buffer
		if _, err := Write(&again, info, func(w io.Writer) (int64, error) { n, err := w.Write(database.Bytes()); return int64(n), err }); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Error("it was written in another way")
		}
	})
}
