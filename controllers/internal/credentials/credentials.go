// Package credentials opens the Secrets that Vhosts and Appliances refer to, as the proxy gets
// them: passwords hashed, certificates with their keys.
//
// The controllers of both kinds ask it, so that they come to the same answer. It keeps hashes
// only, by the version of the Secret's value, because to make one takes a tenth of a second.
package credentials

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"sync"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

// maxHashes bounds what is kept; beyond it all are forgotten.
const maxHashes = 10_000

// Reader opens references. It is safe for concurrent use.
type Reader struct {
	secrets *secretref.Resolver
	mu      sync.Mutex
	hashes  map[string]string
}

// New returns a Reader that opens with a Resolver.
func New(secrets *secretref.Resolver) *Reader {
	return &Reader{secrets: secrets, hashes: map[string]string{}}
}

// Vhost opens what a Vhost refers to. What is missing for a while is said in Missing and
// Reason; an error is the store's.
func (r *Reader) Vhost(ctx context.Context, c runtime.Client, v *v1alpha1.Vhost) (routing.Credentials, error) {
	var found routing.Credentials
	for _, u := range v.GetSpec().GetAuth().GetBasic().GetUsers() {
		value, err := r.secrets.Resolve(ctx, c, v, u.GetPassword())
		if err != nil {
			return found.Lacking(err)
		}
		hash, err := r.hash(v.GetMetadata().GetUid(), u.GetName(), value)
		if err != nil {
			return routing.Credentials{Missing: fmt.Sprintf("password of user %s: %v", u.GetName(), err), Reason: "SecretUnusable"}, nil
		}
		found.Users = append(found.Users, appliance.BasicUser{Name: u.GetName(), Hash: appliance.Hidden(hash)})
	}
	if tls := v.GetSpec().GetTls(); tls.GetMode() == appliance.TLSProvided {
		certificate, err := r.secrets.Resolve(ctx, c, v, tls.GetCertificate())
		if err != nil {
			return found.Lacking(err)
		}
		key, err := r.secrets.Resolve(ctx, c, v, tls.GetPrivateKey())
		if err != nil {
			return found.Lacking(err)
		}
		found.Certificate, found.PrivateKey = string(certificate.Bytes()), appliance.Hidden(key.Bytes())
	}
	return found, nil
}

// isHash tells bcrypt's own hashes, which are taken as they are.
var isHash = regexp.MustCompile(`\A\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}\n?\z`)

func (r *Reader) hash(uid, user string, password secretref.Value) (string, error) {
	if isHash.Match(password.Bytes()) {
		return string(password.Bytes()[:60]), nil
	}
	at := uid + " " + user + " " + password.Version()
	r.mu.Lock()
	hash := r.hashes[at]
	r.mu.Unlock()
	if hash != "" {
		return hash, nil
	}
	// The salt is another for each Vhost, user and version of the password, and the same in the
	// next life of the daemon. It is no secret.
	sum := sha256.Sum256([]byte("proximity basic auth " + at))
	hash, err := bcrypt(password.Bytes(), [16]byte(sum[:16]))
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.hashes) >= maxHashes {
		clear(r.hashes)
	}
	r.hashes[at] = hash
	return hash, nil
}

// ACME opens what an Appliance's spec.acme refers to: the root of its directory, and the name
// server of DNS challenges.
func (r *Reader) ACME(ctx context.Context, c runtime.Client, a *v1alpha1.Appliance) (root string, dns *appliance.DNSUpdate, err error) {
	spec := a.GetSpec().GetAcme()
	if ref := spec.GetRoot(); ref != nil {
		value, err := r.secrets.Resolve(ctx, c, a, ref)
		if err != nil {
			return "", nil, err
		}
		root = string(value.Bytes())
	}
	if d := spec.GetDns(); d != nil {
		value, err := r.secrets.Resolve(ctx, c, a, d.GetKey())
		if err != nil {
			return root, nil, err
		}
		dns = &appliance.DNSUpdate{
			Server: routing.WithPort(d.GetServer(), "53"), KeyName: d.GetKeyName(), Algorithm: d.GetAlgorithm(),
			Key: appliance.Hidden(trimSpace(value.Bytes())),
		}
		if dns.Algorithm == "" {
			dns.Algorithm = "hmac-sha256"
		}
	}
	return root, dns, nil
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == ' ') {
		b = b[:len(b)-1]
	}
	return b
}

// IsMissing tells whether an error says that something is missing for a while, and what.
func IsMissing(err error) (*runtime.WaitingError, bool) {
	var waiting *runtime.WaitingError
	return waiting, errors.As(err, &waiting)
}
