package auth

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/privatefile"
)

// pair is a certificate file and its key file.
type pair struct {
	cert, key string
}

// load reads both and checks that they belong together; Leaf is set.
func (p pair) load() (tls.Certificate, error) {
	certPEM, err := privatefile.Read(p.cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := privatefile.ReadPrivate(p.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and its key: %w", p.cert, err)
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return tls.Certificate{}, fmt.Errorf("%s: %w", p.cert, err)
		}
	}
	return c, nil
}

// issue makes a key and a certificate from the template, signed by the issuer (nil:
// by itself), and writes them: the key first, so that a crash between the two leaves a
// pair that load refuses, and the next start makes both again.
func (p pair) issue(template *x509.Certificate, issuer *tls.Certificate) (tls.Certificate, error) {
	key, serial, err := newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	template.SerialNumber = serial
	parent, signer := template, any(key)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign %s: %w", p.cert, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("encode %s: %w", p.key, err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := privatefile.Replace(p.key, keyPEM, privatefile.PrivateMode); err != nil {
		return tls.Certificate{}, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := privatefile.Replace(p.cert, certPEM, privatefile.PublicMode); err != nil {
		return tls.Certificate{}, err
	}
	return p.load()
}
