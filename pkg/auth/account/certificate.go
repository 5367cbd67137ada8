package account

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// A client's certificate names a session, as an access token does, in a URI:
// proximity:session:<name>. The end of the session is the end of the certificate, whatever
// the certificate says.
const sessionURI = "session:"

// Signer signs certificates of clients; auth.Certificates is one.
type Signer interface {
	SignClient(request *x509.CertificateRequest, commonName string, uri *url.URL, notAfter time.Time) ([]byte, error)
}

// maxRequestBytes bounds a certificate request in PEM form.
const maxRequestBytes = 8 << 10

// IssueCertificate signs a client's certificate of the identity's user for the key of a
// request (PKCS #10, PEM). Only who has logged in with a password gets one.
func (s *Service) IssueCertificate(ctx context.Context, id auth.Identity, request []byte, life time.Duration, peer, client string) (cert []byte, name string, err error) {
	if _, err := ownSession(id); err != nil {
		return nil, "", err
	}
	if s.cfg.Signer == nil {
		return nil, "", fmt.Errorf("%w: this daemon signs no certificates", ErrInvalid)
	}
	if life == 0 {
		life = defaultTokenLifetime
	}
	if life < minTokenLifetime || life > maxTokenLifetime {
		return nil, "", fmt.Errorf("%w: a certificate may last from %s to %d days", ErrInvalid, minTokenLifetime, maxTokenLifetime/(24*time.Hour))
	}
	block, _ := pem.Decode(request)
	if len(request) > maxRequestBytes || block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, "", fmt.Errorf("%w: allowed is one certificate request in PEM form", ErrInvalid)
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("%w: the certificate request cannot be read", ErrInvalid)
	}
	u := s.current.Load().users[id.Subject]
	if u == nil {
		return nil, "", auth.ErrUnauthenticated
	}
	name = "c" + randomHex(8)
	now := s.cfg.Now()
	ends := now.Add(life)
	if cert, err = s.cfg.Signer.SignClient(parsed, id.Subject, &url.URL{Scheme: issuer, Opaque: sessionURI + name}, ends); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	obj := &v1alpha1.Session{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Session"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, OwnerReferences: ownedBy(u)},
		Spec: &v1alpha1.SessionSpec{User: proto.String(id.Subject), UserUid: proto.String(u.GetMetadata().GetUid()), Refreshed: proto.String(formatTime(now)),
			Expires: proto.String(formatTime(ends)), Peer: &peer, Client: proto.String(printable("certificate " + client))},
	}
	_, err = s.cfg.Store.Update(audit.WithVerb(ctx, "issue-certificate", ""), func(tx store.Tx) error {
		if err := s.makeRoom(tx, id.Subject); err != nil {
			return err
		}
		_, err := tx.Create(obj)
		return err
	})
	if err == nil {
		err = s.follower.Refresh(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, "", err
	}
	return cert, name, nil
}

// AuthenticateCertificate implements auth.CertificateAuthenticator.
func (s *Service) AuthenticateCertificate(_ context.Context, leaf *x509.Certificate) (auth.Identity, error) {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != issuer {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	name, ok := strings.CutPrefix(leaf.URIs[0].Opaque, sessionURI)
	if !ok {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	sess := s.current.Load().sessions[name]
	if sess == nil || sess.user != leaf.Subject.CommonName {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	return s.bySession(name, sess.user, sess.uid)
}
