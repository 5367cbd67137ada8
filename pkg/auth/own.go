package auth

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ownCheck is how often the files of an own certificate are looked at, at most.
const ownCheck = 10 * time.Second

// ownCertificate is a certificate of the owner's, from files that somebody else renews.
type ownCertificate struct {
	files pair
	log   *slog.Logger
	now   func() time.Time

	current atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // of the look
	looked time.Time
	stamp  string // of the files that current, or what was refused last, is of
}

// AddCertificate lets the server also serve a certificate of the owner's, to clients that
// ask for one of its names; all others get the local one. The key file must be private.
// Files that change are read again; what cannot be used then is logged, and the certificate
// of before is served on.
func (c *Certificates) AddCertificate(certFile, keyFile string, log *slog.Logger) error {
	own := &ownCertificate{files: pair{cert: certFile, key: keyFile}, log: log, now: time.Now}
	return c.add(own)
}

func (c *Certificates) add(own *ownCertificate) error {
	own.looked, own.stamp = own.now(), own.files.stamp()
	first, err := own.load()
	if err != nil {
		return err
	}
	own.current.Store(first)
	c.TLS.GetCertificate = own.forClient
	return nil
}

func (o *ownCertificate) load() (*tls.Certificate, error) {
	own, err := o.files.load()
	if err != nil {
		return nil, fmt.Errorf("certificate of the server: %w", err)
	}
	if o.now().After(own.Leaf.NotAfter) {
		return nil, fmt.Errorf("certificate of the server: %s ended at %s", o.files.cert, own.Leaf.NotAfter.Format(time.RFC3339))
	}
	if len(own.Leaf.DNSNames)+len(own.Leaf.IPAddresses) == 0 {
		return nil, fmt.Errorf("certificate of the server: %s names no host (subjectAltName)", o.files.cert)
	}
	return &own, nil
}

// forClient is tls.Config.GetCertificate: nil for clients that get the local certificate.
func (o *ownCertificate) forClient(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.look()
	own := o.current.Load()
	if own.Leaf.VerifyHostname(hello.ServerName) != nil || hello.SupportsCertificate(own) != nil {
		return nil, nil
	}
	return own, nil
}

// look reads the files again when they have changed. One handshake does it, for all.
func (o *ownCertificate) look() {
	if !o.mu.TryLock() {
		return
	}
	defer o.mu.Unlock()
	now := o.now()
	if now.Sub(o.looked) < ownCheck {
		return
	}
	o.looked = now
	stamp := o.files.stamp()
	if stamp == o.stamp {
		return
	}
	o.stamp = stamp
	next, err := o.load()
	if err != nil { // half of a renewal, perhaps: the other half changes the stamp again
		o.log.Warn("the certificate has changed and cannot be used; the one of before is served on", "error", err)
		return
	}
	o.current.Store(next)
	o.log.Info("the certificate was read again", "file", o.files.cert, "ends", next.Leaf.NotAfter.Format(time.RFC3339))
}

// stamp changes when one of the files does.
func (p pair) stamp() string {
	var s string
	for _, name := range []string{p.cert, p.key} {
		if info, err := os.Stat(name); err == nil {
			s += fmt.Sprintf("%d %d %d;", info.ModTime().UnixNano(), info.Size(), info.Mode())
		} else {
			s += "absent;"
		}
	}
	return s
}
