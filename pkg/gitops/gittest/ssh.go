package gittest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSH is an ssh server that runs git-upload-pack.
type SSH struct {
	Address string
	Root    string
	// PrivateKey is the one key that is let in, in PEM form.
	PrivateKey []byte

	mu   sync.Mutex
	host ssh.Signer
	user ssh.PublicKey
}

// NewSSH serves the repositories below root, or a new directory.
func NewSSH(t testing.TB, root string) *SSH {
	t.Helper()
	if root == "" {
		root = t.TempDir()
	}
	s := &SSH{Root: root}
	key, signer := NewKey(t)
	s.PrivateKey, s.user = key, signer.PublicKey()
	s.ChangeHostKey(t)
	s.Address = listen(t, s.serve)
	return s
}

// listen serves each connection to a new address on loopback, until the end of the test, and
// then waits for those under way.
func listen(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(conn) })
		}
	})
	return l.Addr().String()
}

// NewKey makes a key pair: the private key in OpenSSH's form, and its signer.
func NewKey(t testing.TB) ([]byte, ssh.Signer) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), signer
}

// ChangeHostKey gives the server another key.
func (s *SSH) ChangeHostKey(t testing.TB) {
	_, signer := NewKey(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = signer
}

// KnownHosts is the line of a known_hosts file for the server as it is now.
func (s *SSH) KnownHosts() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(knownhosts.Line([]string{s.Address}, s.host.PublicKey()) + "\n")
}

// At is the URL of a repository.
func (s *SSH) At(r *Repo) string { return fmt.Sprintf("ssh://git@%s/%s", s.Address, r.Name) }

func (s *SSH) serve(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(s.user.Marshal()) {
			return nil, errors.New("not let in")
		}
		return nil, nil
	}}
	cfg.AddHostKey(s.host)
	s.mu.Unlock()
	c, chans, reqs, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	defer c.Close()
	go ssh.DiscardRequests(reqs)
	for ch := range chans {
		if ch.ChannelType() != "session" {
			_ = ch.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := ch.Accept()
		if err != nil {
			return
		}
		s.session(channel, requests)
	}
}

func (s *SSH) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for req := range requests {
		if req.Type != "exec" {
			_ = req.Reply(false, nil)
			continue
		}
		var command struct{ Text string }
		path, ok := "", false
		if ssh.Unmarshal(req.Payload, &command) == nil {
			path, ok = strings.CutPrefix(command.Text, "git-upload-pack '")
		}
		_ = req.Reply(ok, nil)
		if !ok {
			return
		}
		path = filepath.Join(s.Root, filepath.Clean("/"+strings.TrimSuffix(path, "'")))
		cmd := exec.Command("git", "-c", "safe.directory=*", "upload-pack", path)
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(in, channel); _ = in.Close() }()
		status := struct{ Status uint32 }{}
		if cmd.Wait() != nil {
			status.Status = 128
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
		return
	}
}
