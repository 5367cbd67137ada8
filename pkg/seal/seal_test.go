package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

func drawPlace(t *rapid.T, label string) Place {
	word := rapid.StringMatching(`[a-z"\[\].]{0,3}`)
	return Place{
		Key: resource.Key{Kind: word.Draw(t, label+" kind"), Namespace: word.Draw(t, label+" namespace"), Name: word.Draw(t, label+" name")},
		UID: word.Draw(t, label+" uid"), Field: word.Draw(t, label+" field"),
	}
}

func TestOpensOnlyWhereItWasSealed(t *testing.T) {
	keys, others := NewEphemeral(), NewEphemeral()
	rapid.Check(t, func(t *rapid.T) {
		here, there := drawPlace(t, "here"), drawPlace(t, "there")
		value := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
		text := keys.Seal(here, value)
		got, err := keys.Open(here, text)
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("opened %q, %v", got, err)
		}
		if len(value) > 7 && strings.Contains(text, string(value)) {
			t.Fatal("the value is in the text")
		}
		if again := keys.Seal(here, value); again == text || sealed.MarkOf(again) == sealed.MarkOf(text) {
			t.Fatal("two seals of a value look alike")
		}
		if _, err := keys.Open(there, text); (err == nil) != (here == there) {
			t.Fatalf("sealed to %+v, opened at %+v: %v", here, there, err)
		}
		if _, err := others.Open(here, text); !errors.Is(err, ErrUnknownKey) {
			t.Fatalf("another keyring: %v", err)
		}
	})
}

func TestTamperedValuesDoNotOpen(t *testing.T) {
	keys := NewEphemeral()
	place := Place{Key: resource.Key{Kind: "Secret", Namespace: "default", Name: "db"}, UID: "u", Field: "spec.stringData[\"k\"]"}
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(keys.Seal(place, rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "value")))
		i := rapid.IntRange(0, len(text)-1).Draw(t, "position")
		was := text[i]
		text[i] = rapid.ByteRange(' ', '~').Draw(t, "byte")
		if text[i] == was {
			t.Skip("nothing was changed")
		}
		if value, err := keys.Open(place, string(text)); err == nil {
			t.Fatalf("byte %d changed from %q to %q, and it opens: %q", i, was, text[i], value)
		}
	})
}

func TestOlderKeysOpen(t *testing.T) {
	old, next := newKey(), newKey()
	before, err := newKeyring(old)
	if err != nil {
		t.Fatal(err)
	}
	both, err := newKeyring(next, old)
	if err != nil {
		t.Fatal(err)
	}
	text := before.Seal(Place{}, []byte("v"))
	if got, err := both.Open(Place{}, text); err != nil || string(got) != "v" {
		t.Fatalf("%q, %v", got, err)
	}
	if v, _ := sealed.Parse(both.Seal(Place{}, []byte("v"))); v.KeyID != keyID(next) {
		t.Fatal("the first key does not seal")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	if _, err := EnsureKeys(path, []string{"0123456789ab"}); !errors.Is(err, ErrKeys) || !strings.Contains(err.Error(), "is missing") {
		t.Fatalf("a missing key that is needed: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a file was made though a key is missing")
	}
	keys, err := EnsureKeys(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	text := keys.Seal(Place{}, []byte("v"))
	v, _ := sealed.Parse(text)
	again, err := EnsureKeys(path, []string{v.KeyID})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(Place{}, text); err != nil || string(got) != "v" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := EnsureKeys(path, []string{v.KeyID, "0123456789ab"}); !errors.Is(err, ErrKeys) || !strings.Contains(err.Error(), "0123456789ab") {
		t.Fatalf("another key is needed: %v", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":   nil,
		"no key":  []byte("# nothing\n"),
		"id":      bytes.Replace(data, []byte(v.KeyID), []byte("0123456789ab"), 1),
		"cut":     data[:len(data)-4],
		"rubbish": []byte("hello\n"),
	} {
		_, err := parseKeys(bad)
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "hello") {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureKeys(path, nil); err == nil {
		t.Fatal("a file that others can read was taken")
	}
}
