package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Keys open files that are encrypted with age.
type Keys struct{ identities []age.Identity }

// ParseKeys reads private keys as age-keygen writes them: one in each line, comments begin
// with #. Errors do not quote them.
func ParseKeys(texts ...string) (*Keys, error) {
	k := &Keys{}
	for _, text := range texts {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			id, err := parseIdentity(line)
			if err != nil {
				return nil, err
			}
			k.identities = append(k.identities, id)
		}
	}
	if len(k.identities) == 0 {
		return nil, errors.New("there is no key: allowed are lines AGE-SECRET-KEY-1..., as age-keygen writes them")
	}
	return k, nil
}

func parseIdentity(line string) (age.Identity, error) {
	if strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1") {
		if id, err := age.ParseHybridIdentity(line); err == nil {
			return id, nil
		}
	} else if id, err := age.ParseX25519Identity(line); err == nil {
		return id, nil
	}
	return nil, errors.New("a line is no key of age: allowed are AGE-SECRET-KEY-1..., as age-keygen writes them")
}

var errNoKeys = errors.New("it is encrypted, and there are no keys: name them in spec.decryption.ageKeyRefs")

// open opens a file, in armor or not.
func (k *Keys) open(data []byte) ([]byte, error) {
	if k == nil || len(k.identities) == 0 {
		return nil, errNoKeys
	}
	var r io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(bytes.TrimLeft(data, " \r\n\t"), []byte(armor.Header)) {
		r = armor.NewReader(r)
	}
	plain, err := age.Decrypt(r, k.identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, errors.New("it is encrypted for other keys than those in spec.decryption.ageKeyRefs")
	}
	if err != nil {
		return nil, fmt.Errorf("it cannot be opened as a file of age: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(plain, resource.MaxSourceBytes+1))
	if err != nil {
		return nil, fmt.Errorf("it cannot be opened as a file of age: %w", err)
	}
	return out, nil
}
