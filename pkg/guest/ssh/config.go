package ssh

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Bounds of connections.
const (
	// DefaultSessions is how many commands run on one connection at once. sshd's
	// MaxSessions is ten by default; two are left for an administrator's multiplexing.
	DefaultSessions = 8
	MaxSessions     = 64

	dialTimeout      = 10 * time.Second
	handshakeTimeout = 15 * time.Second
	keepaliveEvery   = 15 * time.Second
	keepaliveWait    = 15 * time.Second
	// refusalPause is how long a refused key or a wrong host key is remembered, so that a
	// standing mistake does not knock at the node for each command.
	refusalPause = 10 * time.Second
	// abandonGrace is how long a cancelled command may take to end before its connection is
	// given up: it would occupy one of the few sessions.
	abandonGrace = 5 * time.Second
	// maxNodes bounds the table of connections.
	maxNodes = 1024
)

// Config says how to reach nodes and how both sides prove who they are.
type Config struct {
	// Address maps a node's name to host:port; nil is the name itself, port 22.
	Address func(node string) string
	// User is the login, root by default: pct and lxc-attach need it.
	User string
	// PrivateKey is in PEM form; Passphrase opens it. Password is the alternative.
	PrivateKey []byte
	Passphrase []byte
	Password   string
	// HostKeys are lines such as "ssh-ed25519 AAAA...", each good for any node.
	// KnownHosts are files in OpenSSH's known_hosts form. One of both is needed.
	HostKeys   []string
	KnownHosts []string
	// Sessions bounds commands at once, per node; 0 means DefaultSessions.
	Sessions int
	Log      *slog.Logger
}

// hostKeys is how a node's key is judged.
type hostKeys struct {
	check ssh.HostKeyCallback
	// algorithms returns which kinds of key to ask the node at address for: those that
	// check knows. Otherwise a node with several keys may show another one.
	algorithms func(address string, remote net.Addr) []string
}

func (c Config) hostKeys() (hostKeys, error) {
	switch {
	case len(c.HostKeys) > 0 && len(c.KnownHosts) > 0:
		return hostKeys{}, errors.New("ssh: both host keys and known_hosts files are given")
	case len(c.HostKeys) > 0:
		return pinnedKeys(c.HostKeys)
	case len(c.KnownHosts) > 0:
		return knownKeys(c.KnownHosts)
	}
	return hostKeys{}, errors.New("ssh: no host key is given: add the node's, e.g. from ssh-keyscan run on a trusted network")
}

func pinnedKeys(lines []string) (hostKeys, error) {
	var keys []ssh.PublicKey
	var algorithms []string
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return hostKeys{}, fmt.Errorf("ssh: host key %.40q: %w", line, err)
		}
		keys = append(keys, key)
		algorithms = appendAlgorithms(algorithms, key.Type())
	}
	check := func(_ string, _ net.Addr, key ssh.PublicKey) error {
		for _, k := range keys {
			if bytes.Equal(k.Marshal(), key.Marshal()) {
				return nil
			}
		}
		return fmt.Errorf("the node shows %s", ssh.FingerprintSHA256(key))
	}
	return hostKeys{check, func(string, net.Addr) []string { return algorithms }}, nil
}

func knownKeys(files []string) (hostKeys, error) {
	check, err := knownhosts.New(files...)
	if err != nil {
		return hostKeys{}, fmt.Errorf("ssh: known_hosts: %w", err)
	}
	// A key that no file can know makes the callback tell what the files have.
	probe, err := throwawayKey()
	if err != nil {
		return hostKeys{}, err
	}
	algorithms := func(address string, remote net.Addr) []string {
		var out []string
		var mismatch *knownhosts.KeyError
		if errors.As(check(address, remote, probe), &mismatch) {
			for _, k := range mismatch.Want {
				out = appendAlgorithms(out, k.Key.Type())
			}
		}
		return out
	}
	return hostKeys{check, algorithms}, nil
}

func throwawayKey() (ssh.PublicKey, error) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(pub)
}

// appendAlgorithms adds the signature algorithms of a key type. An RSA key signs with
// SHA-2 only: SHA-1 is not accepted.
func appendAlgorithms(list []string, keyType string) []string {
	add := []string{keyType}
	if keyType == ssh.KeyAlgoRSA {
		add = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	for _, a := range add {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func (c Config) authMethods() ([]ssh.AuthMethod, error) {
	var out []ssh.AuthMethod
	if len(c.PrivateKey) > 0 {
		var signer ssh.Signer
		var err error
		if len(c.Passphrase) > 0 {
			signer, err = ssh.ParsePrivateKeyWithPassphrase(c.PrivateKey, c.Passphrase)
		} else {
			signer, err = ssh.ParsePrivateKey(c.PrivateKey)
		}
		if err != nil {
			return nil, fmt.Errorf("ssh: private key: %w", err)
		}
		out = append(out, ssh.PublicKeys(signer))
	}
	if c.Password != "" {
		out = append(out, ssh.Password(c.Password))
	}
	if len(out) == 0 {
		return nil, errors.New("ssh: neither a private key nor a password is given")
	}
	return out, nil
}

func (c Config) sessions() (int, error) {
	n := cmp.Or(c.Sessions, DefaultSessions)
	if n < 1 || n > MaxSessions {
		return 0, fmt.Errorf("ssh: %d sessions are not within 1 to %d", n, MaxSessions)
	}
	return n, nil
}
