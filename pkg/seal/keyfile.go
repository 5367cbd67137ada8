package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/privatefile"
)

// maxKeys bounds the keys of a file.
const maxKeys = 64

// ErrKeys: the key file does not fit the database. Nothing was changed.
var ErrKeys = errors.New("the key of sealed values")

const keyFileHead = `# The key that values of Secrets in this daemon's database are sealed with. Without it
# they cannot be read again: keep a copy, apart from copies of the database.
# A line each: id and key. The first key seals, all of them open.
`

// Source is where the keys are.
type Source struct {
	// Path of the key file.
	Path string
	// ReadOnly: somebody else makes the file (a systemd credential); it is never written.
	ReadOnly bool
	// Passphrase that the keys in the file are encrypted with; empty: they are not.
	Passphrase []byte
}

// keyFile reads and writes a Source.
type keyFile struct{ Source }

// EnsureKeys is EnsureKeysFrom for a file of plain keys.
func EnsureKeys(path string, needed []string) (*Keyring, error) {
	return EnsureKeysFrom(Source{Path: path}, needed)
}

// EnsureKeysFrom reads the keys, from a file that only its owner can read. needed are the
// ids of keys that sealed values name: the file must have them all. A file that is not there
// is made, with a new key, only when nothing is needed: a new key next to values that are
// sealed with another one would hide that they are lost. A file of plain keys is encrypted
// when a passphrase is given for it.
func EnsureKeysFrom(from Source, needed []string) (*Keyring, error) {
	f := &keyFile{from}
	raw, plain, err := f.read()
	if errors.Is(err, fs.ErrNotExist) {
		switch {
		case from.ReadOnly:
			return nil, fmt.Errorf("%w: %s is missing", ErrKeys, from.Path)
		case len(needed) > 0:
			return nil, fmt.Errorf("%w: %s is missing, but the database has values that are sealed with the key %s: "+
				"put the file back, from the backup or the machine that the database came from", ErrKeys, from.Path, strings.Join(needed, ", "))
		}
		var content []byte
		if content, err = f.encode([][]byte{newKey()}); err == nil {
			err = privatefile.Create(from.Path, content, privatefile.PrivateMode)
		}
		if err == nil || errors.Is(err, fs.ErrExist) { // another process was faster
			raw, plain, err = f.read()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	k, err := newKeyring(raw...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	k.file = f
	missing := slices.DeleteFunc(slices.Clone(needed), k.Has)
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: %s holds another key than the one that values in the database are sealed with, %s: "+
			"put that key's file back, or add its line", ErrKeys, from.Path, strings.Join(missing, ", "))
	}
	if plain && len(from.Passphrase) > 0 && !from.ReadOnly {
		if err := f.replace(raw); err != nil {
			return nil, fmt.Errorf("%w: encrypt the file: %w", ErrKeys, err)
		}
	}
	return k, nil
}

// read returns the keys and whether they were not encrypted.
func (f *keyFile) read() (raw [][]byte, plain bool, err error) {
	data, err := privatefile.ReadPrivate(f.Path)
	if err != nil {
		return nil, false, err
	}
	plain = !isEncrypted(data)
	if !plain {
		if len(f.Passphrase) == 0 {
			return nil, false, fmt.Errorf("%s is encrypted and no passphrase is given: set secrets.passphraseFile", f.Path)
		}
		if data, err = decrypt(data, f.Passphrase); err != nil {
			return nil, false, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if raw, err = parseKeys(data); err != nil {
		return nil, false, fmt.Errorf("%s: %w", f.Path, err)
	}
	return raw, plain, nil
}

// replace writes the keys, whole or not at all.
func (f *keyFile) replace(raw [][]byte) error {
	if f.ReadOnly {
		return fmt.Errorf("%s is not ours to change: make the new key where the file comes from, and start again", f.Path)
	}
	content, err := f.encode(raw)
	if err != nil {
		return err
	}
	return privatefile.Replace(f.Path, content, privatefile.PrivateMode)
}

func (f *keyFile) encode(raw [][]byte) ([]byte, error) {
	text := []byte(keyFileHead)
	for _, key := range raw {
		text = append(text, keyLine(key)...)
	}
	if len(f.Passphrase) == 0 {
		return text, nil
	}
	return encrypt(text, f.Passphrase)
}

func keyLine(key []byte) string {
	return keyID(key) + " " + base64.StdEncoding.EncodeToString(key) + "\n"
}

// parseKeys reads a key file. Errors name the line and never quote it.
func parseKeys(data []byte) ([][]byte, error) {
	var keys [][]byte
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, text, _ := strings.Cut(string(line), " ")
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(key) != keyBytes {
			return nil, fmt.Errorf("line %d: allowed is an id and a key of %d bytes in base64", number, keyBytes)
		}
		if keyID(key) != id {
			return nil, fmt.Errorf("line %d: the key is not the one that its id names: a character was changed", number)
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("line %d: more than %d keys", number, maxKeys)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	return keys, nil
}
