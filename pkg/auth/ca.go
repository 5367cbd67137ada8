package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/privatefile"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	// renewBefore: at a start with less than this left the server's certificate is made anew.
	renewBefore = 30 * 24 * time.Hour
	// backdate tolerates clients whose clock is behind.
	backdate = time.Hour
	// maxHosts bounds the names of the server's certificate.
	maxHosts = 64
	// serialBits is what RFC 5280 asks for at least 64 of.
	serialBits = 127
)

// loopback is always in the server's certificate.
var loopback = []string{"127.0.0.1", "::1", "localhost"}

// Certificates is what the server needs to serve TLS and its clients need to trust it.
type Certificates struct {
	// CAFile is the path of the CA's certificate, for clients.
	CAFile string
	// TLS serves the certificate, TLS 1.3 at least.
	TLS *tls.Config
	// NotAfter is when the server's certificate ends; the next start renews it in time.
	NotAfter time.Time

	ca tls.Certificate
}

// ClientCAs is what certificates of clients are checked with: the local CA alone.
func (c *Certificates) ClientCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.ca.Leaf)
	return pool
}

// maxClientLifetime bounds a client's certificate.
const maxClientLifetime = 366 * 24 * time.Hour

// SignClient signs a client's certificate for the key of a request, with a URI as the only
// name that counts. Nothing else of the request is taken over. The result is PEM.
func (c *Certificates) SignClient(request *x509.CertificateRequest, commonName string, uri *url.URL, notAfter time.Time) ([]byte, error) {
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	switch request.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, errors.New("certificate request: allowed are ECDSA and Ed25519 keys")
	}
	_, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, end := range []time.Time{c.ca.Leaf.NotAfter, now.Add(maxClientLifetime)} {
		if end.Before(notAfter) {
			notAfter = end
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName}, NotBefore: now.Add(-backdate), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, URIs: []*url.URL{uri},
	}, c.ca.Leaf, request.PublicKey, c.ca.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sign a client's certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// EnsureCA returns the certificates in dir. At first start it makes ca.crt and ca.key;
// it makes server.crt and server.key whenever they are missing, do not belong together,
// do not name exactly the loopback addresses and hosts (IP addresses or DNS names), or
// end in less than 30 days. Keys have mode 0600.
//
// A CA whose key is lost or that has ended is an error and is never replaced silently:
// clients trust it.
func EnsureCA(dir string, hosts []string) (*Certificates, error) {
	return ensureCA(dir, hosts, time.Now())
}

func ensureCA(dir string, hosts []string, now time.Time) (*Certificates, error) {
	names, err := certificateNames(hosts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, privatefile.DirMode); err != nil {
		return nil, fmt.Errorf("make the certificates' directory: %w", err)
	}
	ca, err := loadOrMakeCA(dir, now)
	if err != nil {
		return nil, fmt.Errorf("local certificate authority: %w", err)
	}
	server := pairIn(dir, "server")
	leaf, err := server.load()
	if err != nil || !usable(leaf, ca, names, now) {
		if leaf, err = makeLeaf(server, ca, names, now); err != nil {
			return nil, fmt.Errorf("server certificate: %w", err)
		}
	}
	return &Certificates{
		CAFile:   pairIn(dir, "ca").cert,
		TLS:      &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{leaf}},
		NotAfter: leaf.Leaf.NotAfter,
		ca:       ca,
	}, nil
}

// certificateNames returns the loopback names and hosts, sorted, each once.
func certificateNames(hosts []string) ([]string, error) {
	names := slices.Clone(loopback)
	for _, h := range hosts {
		switch ip := net.ParseIP(h); {
		case ip != nil && ip.IsUnspecified():
			return nil, fmt.Errorf("certificate host %q is not an address that a client can ask for", h)
		case ip != nil:
			names = append(names, ip.String())
		case validHost(h):
			names = append(names, strings.ToLower(h))
		default:
			return nil, fmt.Errorf("certificate host %q is neither an IP address nor a DNS name", h)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > maxHosts {
		return nil, fmt.Errorf("%d certificate hosts, allowed are %d", len(names), maxHosts)
	}
	return names, nil
}

// validHost tells whether h is a DNS name without wildcards: RFC 1123 labels.
func validHost(h string) bool {
	if len(h) == 0 || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		ok := len(label) > 0 && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-' &&
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
		if !ok {
			return false
		}
	}
	return true
}

func loadOrMakeCA(dir string, now time.Time) (tls.Certificate, error) {
	files := pairIn(dir, "ca")
	if _, err := os.Lstat(files.cert); errors.Is(err, fs.ErrNotExist) {
		// A key without a certificate is what a crash at first start leaves: nobody can
		// trust that CA yet.
		return makeCA(files, now)
	}
	ca, err := files.load()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w (remove %s to have a new CA made; clients must then trust it anew)", err, files.cert)
	}
	if !ca.Leaf.IsCA || now.After(ca.Leaf.NotAfter) {
		return tls.Certificate{}, fmt.Errorf("%s is not a CA or ended at %s; remove it to have a new one made; clients must then trust it anew",
			files.cert, ca.Leaf.NotAfter.Format(time.RFC3339))
	}
	return ca, nil
}

func makeCA(files pair, now time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Proximity local CA", Organization: []string{"Proximity"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	return files.issue(template, nil)
}

func makeLeaf(files pair, ca tls.Certificate, names []string, now time.Time) (tls.Certificate, error) {
	end := now.Add(leafLifetime)
	if ca.Leaf.NotAfter.Before(end) {
		end = ca.Leaf.NotAfter
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "proximityd", Organization: []string{"Proximity"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	return files.issue(template, &ca)
}

// usable tells whether the leaf can be served as it is.
func usable(leaf, ca tls.Certificate, names []string, now time.Time) bool {
	cert := leaf.Leaf
	// A CA near its end can't give more time than it has: then the leaf is not made anew at every start.
	needed := now.Add(renewBefore)
	if ca.Leaf.NotAfter.Before(needed) {
		needed = now
	}
	if cert.NotAfter.Before(needed) || cert.CheckSignatureFrom(ca.Leaf) != nil {
		return false
	}
	var has []string
	has = append(has, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		has = append(has, ip.String())
	}
	slices.Sort(has)
	return slices.Equal(has, names)
}

// newKey makes an ECDSA key on P-256.
func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	return key, serial.Add(serial, big.NewInt(1)), nil
}

func pairIn(dir, name string) pair {
	return pair{cert: filepath.Join(dir, name+".crt"), key: filepath.Join(dir, name+".key")}
}
