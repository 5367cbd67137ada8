package git

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/crypto/ssh"
)

// Keys are those whose signatures count.
type Keys struct {
	ssh []trustedKey
	pgp openpgp.EntityList
}

type trustedKey struct {
	key  ssh.PublicKey
	name string
}

const (
	pgpBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	pgpEnd   = "-----END PGP PUBLIC KEY BLOCK-----"
	maxKeys  = 256
)

// ParseKeys reads public keys: lines of an authorized_keys or allowed_signers file, and
// blocks of armored OpenPGP keys.
func ParseKeys(text string) (*Keys, error) {
	k := &Keys{}
	for {
		before, rest, found := strings.Cut(text, pgpBegin)
		if err := k.lines(before); err != nil {
			return nil, err
		}
		if !found {
			break
		}
		block, after, ended := strings.Cut(rest, pgpEnd)
		if !ended {
			return nil, errors.New("an OpenPGP key has no end")
		}
		list, err := openpgp.ReadArmoredKeyRing(strings.NewReader(pgpBegin + block + pgpEnd))
		if err != nil {
			return nil, fmt.Errorf("an OpenPGP key cannot be read: %w", err)
		}
		k.pgp = append(k.pgp, list...)
		text = after
	}
	switch n := len(k.ssh) + len(k.pgp); {
	case n == 0:
		return nil, errors.New("there is no public key: allowed are lines as in authorized_keys or allowed_signers, and armored OpenPGP keys")
	case n > maxKeys:
		return nil, fmt.Errorf("%d keys; allowed are %d", n, maxKeys)
	}
	return k, nil
}

func (k *Keys) lines(text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return fmt.Errorf("the line %q is no ssh key", shorten(line))
		}
		// A line of allowed_signers begins with whose key it is, which looks like options.
		if len(options) > 0 && !strings.Contains(options[0], "=") {
			comment = strings.Join(options, ",")
		}
		if comment == "" {
			comment = ssh.FingerprintSHA256(key)
		}
		k.ssh = append(k.ssh, trustedKey{key, oneLine(comment)})
	}
	return nil
}

// Verify checks that a commit was signed by one of the keys and returns whose it is.
func (k *Keys) Verify(c *Commit) (string, error) {
	switch sig := c.Signature; {
	case sig == "":
		return "", failf(ReasonUnverified, "the commit %s is not signed", c.Hash)
	case strings.HasPrefix(sig, "-----BEGIN SSH SIGNATURE-----"):
		return k.verifySSH(c)
	case strings.HasPrefix(sig, "-----BEGIN PGP SIGNATURE-----"):
		return k.verifyPGP(c)
	}
	return "", failf(ReasonUnverified, "the commit %s is signed in a way that is not known here; allowed are ssh and OpenPGP", c.Hash)
}

func (k *Keys) verifyPGP(c *Commit) (string, error) {
	if len(k.pgp) == 0 {
		return "", failf(ReasonUnverified, "the commit %s is signed with OpenPGP, and no such key is trusted", c.Hash)
	}
	who, err := openpgp.CheckArmoredDetachedSignature(k.pgp, bytes.NewReader(c.payload), strings.NewReader(c.Signature), nil)
	if err != nil {
		return "", because(ReasonUnverified, err, "the signature of commit %s", c.Hash)
	}
	if id := who.PrimaryIdentity(); id != nil {
		return oneLine(id.Name), nil
	}
	return fmt.Sprintf("%X", who.PrimaryKey.Fingerprint), nil
}

// sshSignature is the blob of a signature; the format is OpenSSH's PROTOCOL.sshsig.
type sshSignature struct {
	Version       uint32
	PublicKey     []byte
	Namespace     string
	Reserved      []byte
	HashAlgorithm string
	Signature     []byte
}

const (
	sshsigMagic     = "SSHSIG"
	sshsigNamespace = "git"
)

func (k *Keys) verifySSH(c *Commit) (string, error) {
	bad := func(format string, args ...any) error {
		return failf(ReasonUnverified, "the signature of commit %s: %s", c.Hash, fmt.Sprintf(format, args...))
	}
	block, _ := pem.Decode([]byte(c.Signature))
	if block == nil || block.Type != "SSH SIGNATURE" {
		return "", bad("it is damaged")
	}
	blob, ok := bytes.CutPrefix(block.Bytes, []byte(sshsigMagic))
	var sig sshSignature
	if !ok || ssh.Unmarshal(blob, &sig) != nil || sig.Version != 1 {
		return "", bad("it is damaged")
	}
	if sig.Namespace != sshsigNamespace {
		return "", bad("it is made for %q, not for git", shorten(sig.Namespace))
	}
	var hash []byte
	switch sig.HashAlgorithm {
	case "sha512":
		h := sha512.Sum512(c.payload)
		hash = h[:]
	case "sha256":
		h := sha256.Sum256(c.payload)
		hash = h[:]
	default:
		return "", bad("its hash %q is not known", shorten(sig.HashAlgorithm))
	}
	var inner ssh.Signature
	if ssh.Unmarshal(sig.Signature, &inner) != nil {
		return "", bad("it is damaged")
	}
	if inner.Format == ssh.KeyAlgoRSA {
		return "", bad("it uses SHA-1")
	}
	for _, t := range k.ssh {
		if !bytes.Equal(t.key.Marshal(), sig.PublicKey) {
			continue
		}
		signed := append([]byte(sshsigMagic), ssh.Marshal(struct {
			Namespace, Reserved, HashAlgorithm string
			Hash                               []byte
		}{sig.Namespace, string(sig.Reserved), sig.HashAlgorithm, hash})...)
		if err := t.key.Verify(signed, &inner); err != nil {
			return "", bad("it does not fit the commit")
		}
		return t.name, nil
	}
	if key, err := ssh.ParsePublicKey(sig.PublicKey); err == nil {
		return "", bad("its key %s is not trusted", ssh.FingerprintSHA256(key))
	}
	return "", bad("its key is not trusted")
}
