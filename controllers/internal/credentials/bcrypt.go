package credentials

import (
	"encoding/base64"
	"fmt"

	//lint:ignore SA1019 bcrypt is made of Blowfish, and bcrypt is what the proxy checks
	"golang.org/x/crypto/blowfish"
)

// cost is that of OpenBSD's default: a tenth of a second for each guess. The proxy remembers
// which password was right.
const cost = 10

// alphabet is bcrypt's own base64.
var alphabet = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

// bcrypt is the hash of a password with a salt of 16 bytes that the caller chooses.
// x/crypto/bcrypt takes a salt by chance each time; then the same Vhost would be another
// configuration whenever it is looked at anew.
func bcrypt(password []byte, salt [16]byte) (string, error) {
	const longest = 72 // of Blowfish's key
	if len(password) == 0 || len(password) > longest {
		return "", fmt.Errorf("a password of %d bytes; 1 to %d are possible", len(password), longest)
	}
	key := append(password[:len(password):len(password)], 0)
	cipher, err := blowfish.NewSaltedCipher(key, salt[:])
	if err != nil {
		return "", err
	}
	for range 1 << cost {
		blowfish.ExpandKey(key, cipher)
		blowfish.ExpandKey(salt[:], cipher)
	}
	text := []byte("OrpheanBeholderScryDoubt")
	for block := 0; block < len(text); block += blowfish.BlockSize {
		for range 64 {
			cipher.Encrypt(text[block:], text[block:])
		}
	}
	const kept = 23 // of 24 bytes, as the first implementation did
	return fmt.Sprintf("$2a$%02d$%s%s", cost, alphabet.EncodeToString(salt[:]), alphabet.EncodeToString(text[:kept])), nil
}
