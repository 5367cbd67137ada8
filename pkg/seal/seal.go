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

// Keyring seals and opens. It is immutable and safe for concurrent use.
type Keyring struct {
	active string
	keys   map[string]cipher.AEAD // by id
}

// keyBytes is the size of a key.
const keyBytes = chacha20poly1305.KeySize

// newKeyring returns a keyring of raw keys, the first of which seals.
func newKeyring(keys ...[]byte) (*Keyring, error) {
	k := &Keyring{keys: map[string]cipher.AEAD{}}
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
func (k *Keyring) Has(id string) bool { return k.keys[id] != nil }

// Seal seals a value to a place, under a new version. Equal values look different.
func (k *Keyring) Seal(place Place, value []byte) string {
	version := make([]byte, sealed.VersionBytes)
	_, _ = rand.Read(version)
	v := sealed.Value{Version: hex.EncodeToString(version), KeyID: k.active}
	aead := k.keys[k.active]
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
	aead := k.keys[v.KeyID]
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
