package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestOwnCertificate: it is served to who asks for its name, and the local one to all others.
func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"proximity.example.org"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{DataDir: dir, TLS: TLSConfig{CertFile: filepath.Join(dir, "own.crt"), KeyFile: filepath.Join(dir, "own.key")}}
	write := func(path, kind string, data []byte, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(cfg.TLS.CertFile, "CERTIFICATE", der, 0o644)
	if _, _, err := certificates(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("without its key it is taken")
	}
	write(cfg.TLS.KeyFile, "PRIVATE KEY", raw, 0o600)
	_, certs, err := certificates(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", certs.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); _ = c.Close() }()
		}
	}()
	for name, own := range map[string]bool{"proximity.example.org": true, "localhost": false, "": false, "other.example.org": false} {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(name, err)
		}
		leaf := c.ConnectionState().PeerCertificates[0]
		if got := len(leaf.DNSNames) == 1 && leaf.DNSNames[0] == "proximity.example.org"; got != own {
			t.Errorf("%q got a certificate for %v", name, leaf.DNSNames)
		}
		_ = c.Close()
	}
	if err := os.Chmod(cfg.TLS.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := certificates(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a key that others can read is taken")
	}
}
