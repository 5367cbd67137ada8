package git

import (
	"context"
	"errors"
	"io"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

// Auth is how to be let in; the values are secrets, but for CA and KnownHosts.
type Auth struct {
	Username, Password string // http basic; the username also for ssh
	Token              string // http bearer
	PrivateKey         []byte // ssh, PEM
	Passphrase         []byte // of PrivateKey
	KnownHosts         []byte // ssh, the lines of a known_hosts file
	CA                 []byte // https, PEM, in place of the system's authorities
}

// Remote is a repository on a server.
type Remote struct {
	URL    string
	Auth   Auth
	Limits Limits
	// Submodules are fetched, too, those on the same server.
	Submodules bool
}

// session is one conversation with git-upload-pack: the advertisement comes first, then at
// most one request.
type session interface {
	// advertisement is what the server says first; it is read to its end before request.
	advertisement() io.Reader
	// request sends a body and returns the answer.
	request(ctx context.Context, body []byte) (io.ReadCloser, error)
	// explain makes a failure to read or decode an answer one that says why, if the server
	// or the system told on another way.
	explain(err error) error
	close()
}

// open begins a session.
func (r Remote) open(ctx context.Context) (session, error) {
	u, err := gitspec.ParseURL(r.URL)
	if err != nil {
		return nil, failf(ReasonInvalidSpec, "the URL %s: allowed is %s", r.URL, err)
	}
	switch u.Scheme {
	case "ssh":
		return openSSH(ctx, u, r.Auth)
	case "file":
		return openFile(ctx, u.Path)
	}
	return openHTTP(ctx, u, r.Auth)
}

// advertised opens a session and reads the references.
func (r Remote) advertised(ctx context.Context) (session, *packp.AdvRefs, error) {
	s, err := r.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	adv := packp.NewAdvRefs()
	err = adv.Decode(&limitReader{s.advertisement(), maxAdvertisement})
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && adv.IsEmpty():
		s.close()
		return nil, nil, failf(ReasonEmpty, "the repository has no commit yet")
	case errors.Is(err, errLimit) || len(adv.References) > maxRefs:
		s.close()
		return nil, nil, failf(ReasonTooLarge, "the server has more references than %d MiB of them", maxAdvertisement>>20)
	case err != nil:
		err = s.explain(err)
		s.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, wrap(ReasonUnreachable, err, "the server's answer is not Git's")
	}
	return s, adv, nil
}

// Ref says which commit is wanted. At most one field is set; none is the branch that the
// server's HEAD names.
type Ref struct {
	Branch, Tag string
	Semver      string // a range: the highest tag in it
	Commit      string // 40 hexadecimal digits
}

// Head is what a Ref means now.
type Head struct {
	Name   string // main, v1.2.3, or "" for a commit
	Commit string // 40 hexadecimal digits
}

// Revision is the form that statuses have: main@sha1:<commit>, or sha1:<commit>.
func (h Head) Revision() string {
	if h.Name == "" {
		return "sha1:" + h.Commit
	}
	return h.Name + "@sha1:" + h.Commit
}

// LsRemote finds what the reference means on the server, in one exchange.
func (r Remote) LsRemote(ctx context.Context, ref Ref) (Head, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Limits.WithDefaults().Timeout)
	defer cancel()
	s, adv, err := r.advertised(ctx)
	if err != nil {
		return Head{}, err
	}
	defer s.close()
	return pick(adv, ref)
}
