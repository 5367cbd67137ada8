// Package seal seals the values of sensitive fields with keys that are kept outside the
// database (XChaCha20-Poly1305).
//
// What a value is sealed to, its Place, is authenticated with it: a sealed value that is
// copied to another field, object, or to an object of the same name made later, does not
// open. The text form is package sealed's.
//
// A Keyring may hold several keys: values are sealed with the first and opened with the one
// that they name. So keys are changed by putting a new one in front and sealing again
// whatever names an older one.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

// Errors of Open. Neither tells anything of the value.
var (
	// ErrUnknownKey: the value was sealed with a key that the keyring does not have.
	ErrUnknownKey = errors.New("the value was sealed with a key that is not in the key file")
	// ErrNotHere: the value was changed, or was sealed to another place.
	ErrNotHere = errors.New("the sealed value was changed or belongs to another object or field")
)

// Place is what a value is sealed to.
type Place struct {
	resource.Key
	UID string
	// Field is the ID of a resource.SensitiveValue.
	Field string
}

// PlaceOf is the place of a field of an object. Its uid must be set.
func PlaceOf(obj resource.Object, field string) Place {
	return Place{Key: resource.KeyOf(obj), UID: obj.GetMetadata().GetUid(), Field: field}
}

// Keyring seals and opens. It is safe for concurrent use. Its keys change only by Rotate and
// Retire.
type Keyring struct {
	current atomic.Pointer[keySet]
	mu      sync.Mutex // one change at a time
	file    *keyFile   // nil: kept nowhere
}

// keySet never changes.
type keySet struct {
	active string
	keys   map[string]cipher.AEAD // by id
	raw    [][]byte               // the active first
}

func newKeySet(keys [][]byte) (*keySet, error) {
	k := &keySet{keys: map[string]cipher.AEAD{}, raw: keys}
	for _, key := range keys {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, err
		}
		id := keyID(key)
		if k.active == "" {
			k.active = id
		}
		k.keys[id] = aead
	}
	return k, nil
}

// keyBytes is the size of a key.
const keyBytes = chacha20poly1305.KeySize

// newKeyring returns a keyring of raw keys, the first of which seals.
func newKeyring(keys ...[]byte) (*Keyring, error) {
	set, err := newKeySet(keys)
	if err != nil {
		return nil, err
	}
	k := &Keyring{}
	k.current.Store(set)
	return k, nil
}

// NewEphemeral returns a keyring with a new key that is kept nowhere: for tests, and for
// databases in memory.
func NewEphemeral() *Keyring {
	k, err := newKeyring(newKey())
	if err != nil {
		panic(err) // the size is a constant
	}
	return k
}

func newKey() []byte {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never returns an error; crashes the program when the system has no randomness
	return key
}

// keyID names a key without telling anything of it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("proximity: id of a sealing key\x00"), key...))
	return hex.EncodeToString(sum[:sealed.KeyIDBytes])
}

// Has tells whether the keyring can open what was sealed with the key of that id.
func (k *Keyring) Has(id string) bool { return k.current.Load().keys[id] != nil }

// Active is the id of the key that seals.
func (k *Keyring) Active() string { return k.current.Load().active }

// Seal seals a value to a place, under a new version. Equal values look different.
func (k *Keyring) Seal(place Place, value []byte) string {
	version := make([]byte, sealed.VersionBytes)
	_, _ = rand.Read(version)
	set := k.current.Load()
	v := sealed.Value{Version: hex.EncodeToString(version), KeyID: set.active}
	aead := set.keys[set.active]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(value)+aead.Overhead())
	_, _ = rand.Read(nonce)
	v.Box = aead.Seal(nonce, nonce, value, bound(v, place))
	return v.String()
}

// Open returns the value of a sealed text: ErrUnknownKey, ErrNotHere, sealed.ErrFormat.
func (k *Keyring) Open(place Place, text string) ([]byte, error) {
	v, err := sealed.Parse(text)
	if err != nil {
		return nil, err
	}
	if v.IsMark() {
		return nil, sealed.ErrFormat
	}
	aead := k.current.Load().keys[v.KeyID]
	if aead == nil {
		return nil, fmt.Errorf("%w (its id is %s)", ErrUnknownKey, v.KeyID)
	}
	if len(v.Box) < aead.NonceSize() {
		return nil, ErrNotHere
	}
	nonce, box := v.Box[:aead.NonceSize()], v.Box[aead.NonceSize():]
	value, err := aead.Open(nil, nonce, box, bound(v, place))
	if err != nil {
		return nil, ErrNotHere
	}
	return value, nil
}

// Rotate makes a new key that seals from now on; the others still open. The new key is in the
// key file before it is used: what it seals can be opened after a crash. It returns the id of
// the new key.
func (k *Keyring) Rotate() (id string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	raw := append([][]byte{newKey()}, k.current.Load().raw...)
	if len(raw) > maxKeys {
		return "", fmt.Errorf("%w: there are %d keys already; finish the last change of keys", ErrKeys, len(raw)-1)
	}
	return k.change(raw)
}

// Retire forgets all keys but the active one, in the key file last. Values that name another
// key cannot be opened afterwards: nothing must name one.
func (k *Keyring) Retire() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.change(slices.Clip(k.current.Load().raw[:1]))
	return err
}

func (k *Keyring) change(raw [][]byte) (id string, err error) {
	set, err := newKeySet(raw)
	if err != nil {
		return "", err
	}
	if k.file != nil {
		if err := k.file.replace(raw); err != nil {
			return "", fmt.Errorf("%w: %w", ErrKeys, err)
		}
	}
	k.current.Store(set)
	return set.active, nil
}

// Old counts the keys that open and do not seal.
func (k *Keyring) Old() int { return len(k.current.Load().raw) - 1 }

// bound is the data that is authenticated with a value. Each part has its length before
// it, so that no two places are written alike.
func bound(v sealed.Value, p Place) []byte {
	var b []byte
	for _, part := range []string{"proximity sealed v1", v.Version, v.KeyID, p.Kind, p.Namespace, p.Name, p.UID, p.Field} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}
