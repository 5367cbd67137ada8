package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Config says where a daemon is and how to be let in.
type Config struct {
	// Address of the gRPC API, host:port or https://host:port.
	Address string
	// Resolve, when set, is asked for the address before every connection instead: a
	// daemon that was started again may listen on another port.
	Resolve func() (string, error)
	// REST is the base URL of the REST API; only ServerVersion needs it.
	REST string
	// CAFile is the CA that signed the daemon's certificate; "": the system's.
	CAFile string
	// Token, or the file it is in.
	Token     string
	TokenFile string
	// TokenSource, when set, is asked for the token before every call instead: the tokens of
	// a login last for minutes.
	TokenSource func(ctx context.Context) (string, error)
	// CertFile and KeyFile are shown instead of a token, when there is none.
	CertFile, KeyFile string
	// Registry has the kinds that the client understands.
	Registry *resource.Registry
	// UserAgent names the program.
	UserAgent string
}

// FromEndpoint returns the configuration for the daemon that wrote the endpoint file.
func FromEndpoint(path string, reg *resource.Registry) (Config, *Endpoint, error) {
	e, err := ReadEndpoint(path)
	if err != nil {
		return Config{}, nil, err
	}
	return Config{
		Address: e.GRPC, REST: e.REST, CAFile: e.CA, TokenFile: e.TokenFile, Registry: reg,
		Resolve: func() (string, error) {
			now, err := ReadEndpoint(path)
			if err != nil {
				return "", err
			}
			return now.GRPC, nil
		},
	}, e, nil
}

// FromContext returns the configuration for a context.
func FromContext(c *Context, reg *resource.Registry) Config {
	return Config{Address: c.Endpoint, REST: c.REST, CAFile: c.CA, Token: c.Token, TokenFile: c.TokenFile, CertFile: c.Certificate, KeyFile: c.Key, Registry: reg}
}

// hostPort takes the scheme off an address. Only schemes that mean TLS are allowed: the
// token goes with every call.
func hostPort(address string) (string, error) {
	if scheme, _, ok := strings.Cut(address, "://"); ok {
		u, err := url.Parse(address)
		if err != nil {
			return "", fmt.Errorf("address %q: %w", address, err)
		}
		if scheme != "https" && scheme != "grpcs" {
			return "", fmt.Errorf("address %q: %s would send the token in the clear; allowed are host:port and https://host:port", address, scheme)
		}
		address = u.Host
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", fmt.Errorf("address %q: allowed are host:port and https://host:port", address)
	}
	return address, nil
}

// token returns the credential.
func (c *Config) token() (string, error) {
	if c.Token != "" || c.TokenFile == "" {
		return c.Token, nil
	}
	data, err := readBounded(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("token file %s: allowed is one token", c.TokenFile)
	}
	return token, nil
}

// tls returns the TLS configuration.
func (c *Config) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate of the client: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if c.CAFile == "" {
		return conf, nil
	}
	pem, err := readBounded(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("CA file " + c.CAFile + " has no certificate in PEM form")
	}
	return conf, nil
}
