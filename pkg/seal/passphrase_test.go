package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
)

func TestPassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	place := Place{Key: resource.Key{Kind: "Secret", Name: "s"}, UID: "u", Field: "f"}
	plain, err := EnsureKeys(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := plain.Seal(place, []byte("value"))
	// Given a passphrase, the file is encrypted.
	pass := Source{Path: path, Passphrase: []byte("correct horse battery")}
	k, err := EnsureKeysFrom(pass, []string{plain.Active()})
	if err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(path)
	info, _ := os.Stat(path)
	if !isEncrypted(data) || bytes.Contains(data, []byte(plain.Active())) || info.Mode().Perm() != 0o600 {
		t.Fatalf("%s", data)
	}
	if got, err := k.Open(place, text); err != nil || string(got) != "value" {
		t.Fatal(got, err)
	}
	id, err := k.Rotate()
	if err != nil || k.Old() != 1 {
		t.Fatal(id, err)
	}
	again, err := EnsureKeysFrom(pass, []string{plain.Active(), id})
	if err != nil || again.Active() != id {
		t.Fatal(again, err)
	}
	if err := again.Retire(); err != nil || again.Has(plain.Active()) {
		t.Fatal(err)
	}
	for what, s := range map[string]Source{"none": {Path: path}, "wrong": {Path: path, Passphrase: []byte("wrong horse")}} {
		if _, err := EnsureKeysFrom(s, nil); !errors.Is(err, ErrKeys) || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", what, err)
		}
	}
	data, _ = os.ReadFile(path)
	for i := 0; i < len(data)-1; i += 31 {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		if _, err := decrypt(changed, pass.Passphrase); isEncrypted(changed) && err == nil {
			t.Fatalf("byte %d was changed and it opens", i)
		}
		if i > 100 {
			break // each is an argon2
		}
	}
}

func TestReadOnlyKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	if _, err := EnsureKeysFrom(Source{Path: path, ReadOnly: true}, nil); !errors.Is(err, ErrKeys) {
		t.Errorf("a credential that is missing: %v", err)
	}
	if _, err := EnsureKeys(path, nil); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	k, err := EnsureKeysFrom(Source{Path: path, ReadOnly: true, Passphrase: []byte("ignored for a plain file")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rotate(); !errors.Is(err, ErrKeys) {
		t.Errorf("a credential was changed: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was written")
	}
}
