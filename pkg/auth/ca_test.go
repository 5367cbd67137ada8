package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustEnsureCA(t *testing.T, dir string, hosts []string, now time.Time) *Certificates {
	t.Helper()
	c, err := ensureCA(dir, hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pool(t *testing.T, c *Certificates) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(read(t, c.CAFile)) {
		t.Fatal("ca.crt holds no certificate")
	}
	return p
}

func TestEnsureCAServesAVerifiableCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	c := mustEnsureCA(t, dir, []string{"node1.Example.org", "192.0.2.7", "127.0.0.1"}, start)
	for name, mode := range map[string]os.FileMode{"ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want mode %v", name, info, err, mode)
		}
	}
	leaf := c.TLS.Certificates[0].Leaf
	for _, host := range []string{"127.0.0.1", "::1", "localhost", "node1.example.org", "192.0.2.7"} {
		opts := x509.VerifyOptions{Roots: pool(t, c), DNSName: host, CurrentTime: start.Add(time.Minute)}
		if net.ParseIP(host) != nil {
			opts.DNSName = "[" + host + "]"
		}
		if _, err := leaf.Verify(opts); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool(t, c), DNSName: "other.example.org", CurrentTime: start}); err == nil {
		t.Error("the certificate is valid for a name nobody asked for")
	}
	if got := leaf.NotAfter.Sub(start); got != leafLifetime {
		t.Errorf("the leaf lasts %v", got)
	}
	if leaf.IsCA {
		t.Error("the leaf can sign certificates")
	}
}

func TestEnsureCARenewal(t *testing.T) {
	hosts := []string{"node1.example.org"}
	tests := map[string]struct {
		prepare func(t *testing.T, dir string)
		hosts   []string
		after   time.Duration
		renewed bool
	}{
		"next day":            {after: 24 * time.Hour, hosts: hosts},
		"31 days left":        {after: leafLifetime - 31*24*time.Hour, hosts: hosts},
		"29 days left":        {after: leafLifetime - 29*24*time.Hour, hosts: hosts, renewed: true},
		"ended":               {after: leafLifetime + time.Hour, hosts: hosts, renewed: true},
		"another host":        {hosts: []string{"node2.example.org"}, renewed: true},
		"certificate removed": {prepare: remove("server.crt"), hosts: hosts, renewed: true},
		"key removed":         {prepare: remove("server.key"), hosts: hosts, renewed: true},
		"key readable":        {prepare: chmod("server.key"), hosts: hosts, renewed: true},
		"certificate garbage": {prepare: garbage("server.crt"), hosts: hosts, renewed: true},
		"crash between key and certificate": {prepare: func(t *testing.T, dir string) {
			other := t.TempDir()
			mustEnsureCA(t, other, nil, start)
			if err := os.WriteFile(filepath.Join(dir, "server.key"), read(t, other, "server.key"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, hosts: hosts, renewed: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustEnsureCA(t, dir, hosts, start)
			ca, leaf := read(t, dir, "ca.crt"), read(t, dir, "server.crt")
			if tt.prepare != nil {
				tt.prepare(t, dir)
			}
			c := mustEnsureCA(t, dir, tt.hosts, start.Add(tt.after))
			if !bytes.Equal(ca, read(t, dir, "ca.crt")) {
				t.Error("the CA was replaced")
			}
			if renewed := !bytes.Equal(leaf, read(t, dir, "server.crt")); renewed != tt.renewed {
				t.Errorf("renewed %t, want %t", renewed, tt.renewed)
			}
			opts := x509.VerifyOptions{Roots: pool(t, c), CurrentTime: start.Add(tt.after)}
			if _, err := c.TLS.Certificates[0].Leaf.Verify(opts); err != nil {
				t.Error(err)
			}
		})
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func chmod(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func garbage(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnsureCANeverReplacesATrustedCA(t *testing.T) {
	tests := map[string]struct {
		prepare func(*testing.T, string)
		after   time.Duration
	}{
		"key lost":     {prepare: remove("ca.key")},
		"key readable": {prepare: chmod("ca.key")},
		"garbage":      {prepare: garbage("ca.crt")},
		"ended":        {after: caLifetime + time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustEnsureCA(t, dir, nil, start)
			if tt.prepare != nil {
				tt.prepare(t, dir)
			}
			before := read(t, dir, "ca.crt")
			if _, err := ensureCA(dir, nil, start.Add(tt.after)); err == nil {
				t.Error("no error")
			}
			if !bytes.Equal(before, read(t, dir, "ca.crt")) {
				t.Error("the CA was replaced")
			}
		})
	}
	t.Run("a key alone is a crash at first start", func(t *testing.T) {
		dir := t.TempDir()
		mustEnsureCA(t, dir, nil, start)
		remove("ca.crt")(t, dir)
		mustEnsureCA(t, dir, nil, start)
	})
	t.Run("near the end of the CA the leaf is not renewed at every start", func(t *testing.T) {
		dir := t.TempDir()
		mustEnsureCA(t, dir, nil, start)
		late := start.Add(caLifetime - 10*24*time.Hour)
		mustEnsureCA(t, dir, nil, late)
		leaf := read(t, dir, "server.crt")
		mustEnsureCA(t, dir, nil, late.Add(time.Hour))
		if !bytes.Equal(leaf, read(t, dir, "server.crt")) {
			t.Error("renewed again")
		}
	})
}

func TestEnsureCARefusesHosts(t *testing.T) {
	tests := []string{"", "0.0.0.0", "::", "*.example.org", "a b", "-a", "a_b", "a..b", "ex\nample", strings.Repeat("a", 64)}
	for _, host := range tests {
		if _, err := ensureCA(t.TempDir(), []string{host}, start); err == nil {
			t.Errorf("host %q was accepted", host)
		}
	}
	many := make([]string, maxHosts+1)
	for i := range many {
		many[i] = net.IPv4(10, 0, 0, byte(i)).String()
	}
	if _, err := ensureCA(t.TempDir(), many, start); err == nil {
		t.Error("more hosts than the bound were accepted")
	}
}

func TestTLSNeedsVersion13(t *testing.T) {
	c, err := EnsureCA(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	handshake := func(max uint16) error {
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			defer server.Close()
			_ = tls.Server(server, c.TLS).Handshake()
		}()
		return tls.Client(client, &tls.Config{RootCAs: pool(t, c), ServerName: "localhost", MaxVersion: max}).Handshake()
	}
	if err := handshake(tls.VersionTLS13); err != nil {
		t.Errorf("TLS 1.3: %v", err)
	}
	if err := handshake(tls.VersionTLS12); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}
