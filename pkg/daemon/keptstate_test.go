package daemon

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/appliance"
	"github.com/proximity-pve/proximity/pkg/seal"
)

func TestKeptState(t *testing.T) {
	k := keptState{dir: filepath.Join(t.TempDir(), "appliances"), keys: seal.NewEphemeral()}
	a := &v1alpha1.Appliance{Metadata: &v1alpha1.ObjectMeta{Name: "proximity", Uid: "0f30c170-8310-4b07-ae56-0a25611f0d82"}}
	if _, err := k.Kept(a); !errors.Is(err, appliance.ErrNotKept) {
		t.Fatalf("nothing was kept: %v", err)
	}
	big := make([]byte, 3*maxPiece+17)
	for i := range big {
		big[i] = byte(rand.IntN(256))
	}
	copy(big, "private key of a CA")
	for _, state := range [][]byte{[]byte("private key of a CA"), big, make([]byte, maxPiece)} {
		if err := k.Keep(a, state); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Kept(a); err != nil || !bytes.Equal(got, state) {
			t.Fatalf("%d bytes came back as %d: %v", len(state), len(got), err)
		}
	}
	if err := k.Keep(a, big); err != nil {
		t.Fatal(err)
	}
	path, _ := k.path(a)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	file, err := os.ReadFile(path)
	if err != nil || bytes.Contains(file, []byte("private key")) {
		t.Errorf("the file tells what is in it (%v)", err)
	}
	lines := bytes.SplitAfter(file, []byte("\n"))
	for name, damaged := range map[string][]byte{
		"empty":           nil,
		"a piece is gone": bytes.Join(lines[1:], nil),
		"pieces swapped":  bytes.Join([][]byte{lines[1], lines[0], lines[2], lines[3]}, nil),
		"cut":             file[:len(file)-20],
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Kept(a); !errors.Is(err, appliance.ErrNotKept) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	other := &v1alpha1.Appliance{Metadata: &v1alpha1.ObjectMeta{Name: "proximity", Uid: "another"}}
	if err := k.Keep(other, big); err == nil {
		t.Error("a uid that is none is a name of a file")
	}
	if err := k.Drop(a); err != nil {
		t.Fatal(err)
	}
	if err := k.Drop(a); err != nil {
		t.Errorf("dropped twice: %v", err)
	}
	if _, err := k.Kept(a); !errors.Is(err, appliance.ErrNotKept) {
		t.Errorf("dropped: %v", err)
	}
}
