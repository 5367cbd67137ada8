package proxmox

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// dialError marks a failure before a single byte of a request could be written.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// newTransport builds an HTTP/1.1 transport that trusts exactly what cfg says. Proxmox
// VE speaks nothing newer than HTTP/1.1.
func newTransport(cfg Config, concurrency int) (*http.Transport, error) {
	tlsConfig, err := newTLSConfig(cfg)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialTLS(ctx, dialer, tlsConfig, network, addr)
		},
		MaxConnsPerHost:     concurrency,
		MaxIdleConns:        concurrency,
		MaxIdleConnsPerHost: concurrency,
		IdleConnTimeout:     idleConnTimeout,
		// No proxy: the endpoint is a machine of ours, and a proxy's own error pages
		// would blur what reached the server.
		Proxy: nil,
	}, nil
}

func dialTLS(ctx context.Context, d *net.Dialer, cfg *tls.Config, network, addr string) (net.Conn, error) {
	raw, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	mine := cfg.Clone()
	mine.ServerName = host
	conn := tls.Client(raw, mine)
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &dialError{fmt.Errorf("tls: %w", err)}
	}
	return conn, nil
}

func newTLSConfig(cfg Config) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case cfg.CAFile != "" && len(cfg.CAPEM) > 0 || len(cfg.Fingerprints) > 0 && (cfg.CAFile != "" || len(cfg.CAPEM) > 0):
		return nil, errors.New("proxmox: both fingerprints and authorities are given, or authorities twice")
	case len(cfg.Fingerprints) > 0:
		pins, err := parsePins(cfg.Fingerprints)
		if err != nil {
			return nil, err
		}
		// The chain is not verified because the pin is stricter: it names the one
		// certificate that may answer. VerifyConnection also runs on resumed sessions.
		out.InsecureSkipVerify = true
		out.VerifyConnection = pins.verify
	case cfg.CAFile != "":
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("proxmox: CA file: %w", err)
		}
		if out.RootCAs, err = authorities(pem); err != nil {
			return nil, fmt.Errorf("proxmox: CA file %s: %w", cfg.CAFile, err)
		}
	case len(cfg.CAPEM) > 0:
		var err error
		if out.RootCAs, err = authorities(cfg.CAPEM); err != nil {
			return nil, fmt.Errorf("proxmox: authorities: %w", err)
		}
	}
	return out, nil
}

func authorities(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("there is no certificate in it")
	}
	return pool, nil
}

// pinSet is the set of acceptable leaf certificates, by SHA-256 of their DER form.
type pinSet map[[sha256.Size]byte]bool

func parsePins(fingerprints []string) (pinSet, error) {
	pins := pinSet{}
	for _, f := range fingerprints {
		raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(f), ":", ""))
		if err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("proxmox: fingerprint %.100q is not a SHA-256 in hexadecimal", f)
		}
		pins[[sha256.Size]byte(raw)] = true
	}
	return pins, nil
}

func (p pinSet) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return ErrFingerprint
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	if !p[sum] {
		return fmt.Errorf("%w: the server has %s", ErrFingerprint, FormatFingerprint(sum[:]))
	}
	return nil
}

// FormatFingerprint writes a digest as Proxmox tools do: upper-case, with colons.
func FormatFingerprint(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
