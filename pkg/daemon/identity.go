package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Names in the data directory.
const (
	pkiDir    = "pki"
	tokenFile = "admin.token"
	jwtDir    = "jwt" // below pkiDir
)

// identities is who there is and what they may do.
type identities struct {
	authorizer *auth.Authorizer
	policy     *access.Follower
	accounts   *account.Service
	endpoint   Endpoint
	certs      *auth.Certificates
}

// onChange calls fn whenever rights or credentials may have changed.
func (w identities) onChange(fn func()) {
	w.policy.OnChange(fn)
	w.accounts.Follower().OnChange(fn)
}

// certificates makes or finds the CA and the server's certificate.
func certificates(cfg Config, log *slog.Logger) (Endpoint, *auth.Certificates, error) {
	e := Endpoint{TokenFile: filepath.Join(cfg.DataDir, tokenFile)}
	certs, err := auth.EnsureCA(filepath.Join(cfg.DataDir, pkiDir), cfg.Hosts)
	if err != nil {
		return e, nil, err
	}
	e.CA = certs.CAFile
	if t := cfg.TLS; t.CertFile != "" || t.KeyFile != "" {
		if err := certs.AddCertificate(t.CertFile, t.KeyFile, log); err != nil {
			return e, nil, err
		}
	}
	return e, certs, nil
}

// users makes or finds the local administrator's token and reads the users.
func users(ctx context.Context, cfg Config, log *slog.Logger, st store.Store, system *apply.Applier, reg *resource.Registry, keys *seal.Keyring, policy *access.Follower, certs *auth.Certificates) (*account.Service, error) {
	token, err := auth.EnsureToken(filepath.Join(cfg.DataDir, tokenFile))
	if err != nil {
		return nil, err
	}
	return account.New(ctx, account.Config{
		Store: st, Applier: system, Registry: reg, Keys: keys, Policy: policy, Local: auth.NewTokenAuthenticator(token),
		KeyDir: filepath.Join(cfg.DataDir, pkiDir, jwtDir), Signer: certs, Registration: cfg.Registration, Log: log,
	})
}

// welcome prints, while there is no user, how to make the first one. The token is printed
// this once, is good for an hour, and is not in the log.
func (w identities) welcome(cfg Config, e Endpoint) {
	if token := w.accounts.SetupToken(); token != "" {
		fmt.Fprintf(cfg.Stderr, "there are no users yet; to make the first administrator within an hour: proxctl login --setup %s\n(or in a browser: %s/#setup=%s)\n", token, e.REST, token)
	}
}
