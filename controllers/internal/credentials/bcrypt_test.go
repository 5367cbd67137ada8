package credentials

import (
	"strings"
	"testing"

	reference "golang.org/x/crypto/bcrypt"
)

// TestBcrypt: the hashes are those that everybody else's bcrypt takes for the password.
func TestBcrypt(t *testing.T) {
	for i, password := range []string{"a", "correct horse battery staple", "päss\x00wort", strings.Repeat("x", 72)} {
		hash, err := bcrypt([]byte(password), [16]byte{byte(i), 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := reference.CompareHashAndPassword([]byte(hash), []byte(password)); err != nil {
			t.Errorf("%q: %s: %v", password, hash, err)
		}
		if reference.CompareHashAndPassword([]byte(hash), []byte(password[:len(password)-1]+"?")) == nil {
			t.Errorf("%q: another password is right too", password)
		}
		if again, _ := bcrypt([]byte(password), [16]byte{byte(i), 2, 3}); again != hash {
			t.Error("not the same twice")
		}
		if c, err := reference.Cost([]byte(hash)); err != nil || c != cost {
			t.Errorf("cost %d, %v", c, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 73)} {
		if _, err := bcrypt([]byte(bad), [16]byte{}); err == nil {
			t.Errorf("a password of %d bytes is taken", len(bad))
		}
	}
}
