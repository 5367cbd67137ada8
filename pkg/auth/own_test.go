package auth

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// served is the certificate that a client gets who asks for a name.
func served(t *testing.T, config *tls.Config, name string) *x509.Certificate {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		_ = tls.Server(server, config).Handshake()
	}()
	c := tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

// TestOwnCertificateIsReadAgain: a renewal needs no restart, and one that went wrong takes
// nothing away.
func TestOwnCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	now := start
	certs := mustEnsureCA(t, filepath.Join(dir, "pki"), nil, now)
	files := pair{cert: filepath.Join(dir, "own.crt"), key: filepath.Join(dir, "own.key")}
	issued := 0
	issue := func(name string, until time.Time) {
		t.Helper()
		if _, err := files.issue(&x509.Certificate{DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: until}, nil); err != nil {
			t.Fatal(err)
		}
		issued++ // file systems with coarse times: no two are of one moment
		at := start.Add(time.Duration(issued) * time.Second)
		for _, f := range []string{files.cert, files.key} {
			if err := os.Chtimes(f, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	const name = "proximity.example.org"
	issue(name, now.Add(time.Hour))
	if err := certs.add(&ownCertificate{files: files, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}); err != nil {
		t.Fatal(err)
	}
	is := func(what string, want time.Time) {
		t.Helper()
		if got := served(t, certs.TLS, name); !got.NotAfter.Equal(want) {
			t.Errorf("%s: the certificate served ends at %v, want %v", what, got.NotAfter, want)
		}
	}
	first, second := start.Add(time.Hour), start.Add(90*24*time.Hour)
	is("at first", first)
	issue(name, second)
	is("a moment later", first) // nobody can make the daemon read files with each handshake
	now = now.Add(ownCheck)
	is("after the renewal", second)
	issue(name, now.Add(-time.Minute))
	now = now.Add(ownCheck)
	is("after a renewal that has ended already", second)
	if err := os.WriteFile(files.key, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(ownCheck)
	is("with a broken key", second)
	if err := os.Remove(files.cert); err != nil {
		t.Fatal(err)
	}
	now = now.Add(ownCheck)
	is("without its file", second)
	third := start.Add(200 * 24 * time.Hour)
	issue(name, third)
	now = now.Add(ownCheck)
	is("put right", third)
	if err := os.Chmod(files.key, 0o644); err != nil {
		t.Fatal(err)
	}
	now = now.Add(ownCheck)
	is("with a key that others can read", third)
	// It is for its names alone, whichever it has now.
	issue("other.example.org", third)
	now = now.Add(ownCheck)
	for asked, own := range map[string]bool{name: false, "other.example.org": true, "localhost": false, "": false} {
		if got := served(t, certs.TLS, asked).NotAfter.Equal(third); got != own {
			t.Errorf("asked for %q: its own certificate %t, want %t", asked, got, own)
		}
	}
}
