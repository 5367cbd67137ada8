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

// EnsureKeys reads the key file at path, which is readable by its owner only. needed are the
// ids of keys that sealed values name: the file must have them all. A file that is not there
// is made, with a new key, only when nothing is needed: a new key next to values that are
// sealed with another one would hide that they are lost.
func EnsureKeys(path string, needed []string) (*Keyring, error) {
	k, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		if len(needed) > 0 {
			return nil, fmt.Errorf("%w: %s is missing, but the database has values that are sealed with the key %s: "+
				"put the file back, from the backup or the machine that the database came from", ErrKeys, path, strings.Join(needed, ", "))
		}
		err = makeKeys(path)
		if err == nil || errors.Is(err, fs.ErrExist) { // another process was faster
			k, err = readKeys(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	missing := slices.DeleteFunc(slices.Clone(needed), k.Has)
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: %s holds another key than the one that values in the database are sealed with, %s: "+
			"put that key's file back, or add its line", ErrKeys, path, strings.Join(missing, ", "))
	}
	return k, nil
}

func makeKeys(path string) error {
	return privatefile.Create(path, []byte(keyFileHead+keyLine(newKey())), privatefile.PrivateMode)
}

func keyLine(key []byte) string {
	return keyID(key) + " " + base64.StdEncoding.EncodeToString(key) + "\n"
}

func readKeys(path string) (*Keyring, error) {
	data, err := privatefile.ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return newKeyring(keys...)
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
