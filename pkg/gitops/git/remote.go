package git

import (
	"context"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
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
}

// ErrURL is what is wrong with a URL, in words.
type ErrURL struct{ Text string }

func (e *ErrURL) Error() string { return e.Text }

// scpLike is git@host:path, which Git takes for ssh.
var scpLike = regexp.MustCompile(`^([A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^/\\].*|/[^/].*)$`)

// ParseURL checks the URL of a repository. Allowed are https, http, ssh and file URLs and
// user@host:path, without a password.
func ParseURL(raw string) (*url.URL, error) {
	if strings.ContainsAny(raw, "\x00\r\n\t ") {
		return nil, &ErrURL{"a URL without white space"}
	}
	if !strings.Contains(raw, "://") {
		if m := scpLike.FindStringSubmatch(raw); m != nil {
			path := m[3]
			if !strings.HasPrefix(path, "/") {
				path = "/~/" + path
			}
			return &url.URL{Scheme: "ssh", User: userOf(strings.TrimSuffix(m[1], "@")), Host: m[2], Path: path}, nil
		}
		return nil, &ErrURL{"https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or file:///PATH"}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, &ErrURL{"a URL such as https://HOST/PATH"}
	}
	if _, has := u.User.Password(); has {
		return nil, &ErrURL{"a URL without a password: put it into a Secret and name that in spec.auth"}
	}
	switch u.Scheme {
	case "http", "https":
		if u.User != nil {
			return nil, &ErrURL{"a URL without a user: name it in spec.auth.username"}
		}
		fallthrough
	case "ssh":
		if u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") {
			return nil, &ErrURL{"a URL with a host"}
		}
		if strings.Trim(u.Path, "/") == "" {
			return nil, &ErrURL{"a URL with the path of a repository"}
		}
	case "file":
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
			return nil, &ErrURL{"file:///PATH with an absolute path on the daemon's machine"}
		}
	default:
		return nil, &ErrURL{"a URL of https, http, ssh or file"}
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, &ErrURL{"a URL without ? and #"}
	}
	return u, nil
}

func userOf(name string) *url.Userinfo {
	if name == "" {
		return nil
	}
	return url.User(name)
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
	u, err := ParseURL(r.URL)
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

var fullHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// IsCommit tells whether s is the full name of a commit.
func IsCommit(s string) bool {
	return fullHash.MatchString(s) && plumbing.NewHash(s) != plumbing.ZeroHash
}
