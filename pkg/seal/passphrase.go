package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// An encrypted key file is one line:
//
//	proximity-keys-v1 argon2id m=65536,t=4,p=1 <salt> <nonce and box>
//
// with salt and box in base64. The key of the box is the Argon2id hash of the passphrase;
// everything before the box is authenticated with it.
const (
	encryptedHead = "proximity-keys-v1 argon2id "
	passMemoryKiB = 64 << 10
	passTime      = 4
	passSalt      = 16
)

var passParams = fmt.Sprintf("m=%d,t=%d,p=1", passMemoryKiB, passTime)

var errPassphrase = errors.New("the passphrase is wrong, or the file was changed")

func isEncrypted(data []byte) bool { return bytes.HasPrefix(data, []byte(encryptedHead)) }

func encrypt(plain, passphrase []byte) ([]byte, error) {
	salt := make([]byte, passSalt)
	_, _ = rand.Read(salt) // never returns an error
	head := encryptedHead + passParams + " " + base64.StdEncoding.EncodeToString(salt) + " "
	aead, err := chacha20poly1305.NewX(argon2.IDKey(passphrase, salt, passTime, passMemoryKiB, 1, chacha20poly1305.KeySize))
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	box := aead.Seal(nonce, nonce, plain, []byte(head))
	return []byte(head + base64.StdEncoding.EncodeToString(box) + "\n"), nil
}

func decrypt(data, passphrase []byte) ([]byte, error) {
	fields := strings.Fields(string(data))
	if len(fields) != 5 || fields[2] != passParams {
		return nil, errPassphrase
	}
	salt, err := base64.StdEncoding.DecodeString(fields[3])
	if err != nil || len(salt) != passSalt {
		return nil, errPassphrase
	}
	box, err := base64.StdEncoding.DecodeString(fields[4])
	aead, aeadErr := chacha20poly1305.NewX(argon2.IDKey(passphrase, salt, passTime, passMemoryKiB, 1, chacha20poly1305.KeySize))
	if err != nil || aeadErr != nil || len(box) < chacha20poly1305.NonceSizeX {
		return nil, errPassphrase
	}
	head := strings.Join(fields[:4], " ") + " "
	plain, err := aead.Open(nil, box[:chacha20poly1305.NonceSizeX], box[chacha20poly1305.NonceSizeX:], []byte(head))
	if err != nil {
		return nil, errPassphrase
	}
	return plain, nil
}
