package appliancesim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

const (
	rootLife = 10 * 365 * 24 * time.Hour
	leafLife = 12 * time.Hour // as Caddy's internal issuer

	maxLeaves = 16384 // as many as there may be vhosts
)

// authority is the internal CA. Its key stays in the guest, where Caddy keeps it.
type authority struct {
	root *x509.Certificate
	key  crypto.Signer

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// openAuthority reads the CA from the guest's files, or makes it.
func openAuthority(files *mem.FS) (*authority, error) {
	keyPath := path.Join(path.Dir(appliance.CARootPath), "root.key")
	certPEM, err := files.ReadFile(appliance.CARootPath)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(files, keyPath)
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := files.ReadFile(keyPath)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the CA's key cannot sign")
	}
	return &authority{root: root, key: signer, leaves: map[string]*tls.Certificate{}}, nil
}

func makeAuthority(files *mem.FS, keyPath string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificate("Proximity simulated appliance - ECC Root", rootLife)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		files.MkdirAll(path.Dir(keyPath), 0o700),
		files.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600),
		files.WriteFile(appliance.CARootPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
	)
	return &authority{root: root, key: key, leaves: map[string]*tls.Certificate{}}, err
}

func certificate(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life),
	}, nil
}

// leaf returns a certificate for a name that is good for half its life at least.
func (a *authority) leaf(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leaves[name]; c != nil && time.Until(c.Leaf.NotAfter) > leafLife/2 {
		return c, nil
	}
	if len(a.leaves) >= maxLeaves {
		clear(a.leaves)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificate("", leafLife)
	if err != nil {
		return nil, err
	}
	template.DNSNames = []string{name}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}
	a.leaves[name] = c
	return c, nil
}

// serveTLS serves port 443 with a certificate for each name that the configuration
// automates, or the table has with TLS; other names get a TLS alert, as from Caddy.
func (x *proxy) serveTLS() (stop func(), err error) {
	q := newQueue()
	srv := &http.Server{Handler: x.handler("https"), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := strings.ToLower(hello.ServerName)
			if !x.certified(name) {
				return nil, fmt.Errorf("no certificate for %q", name)
			}
			return x.ca.leaf(name)
		},
	}}
	if err := x.guest.Serve(443, q.offer); err != nil {
		return nil, err
	}
	go func() { _ = srv.ServeTLS(q, "", "") }() // ends when stop closes it
	return func() {
		x.guest.Unserve(443)
		_ = q.Close()
		_ = srv.Close()
	}, nil
}
