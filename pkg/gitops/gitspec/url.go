// Package gitspec is what can be said of a Git source without asking anybody: whether a URL,
// a range of versions, the name of a commit or a path inside a repository make sense.
package gitspec

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
)

// ErrURL is what is wrong with a URL, in words.
type ErrURL struct{ Text string }

func (e *ErrURL) Error() string { return e.Text }

// scpLike is git@host:path, which Git takes for ssh.
var scpLike = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^/\\].*|/[^/].*)$`)
})

// schemes are no hosts: https:host/x lacks its slashes.
var schemes = []string{"http", "https", "ssh", "file", "git", "ftp"}

// ParseURL checks the URL of a repository. Allowed are https, http, ssh and file URLs and
// user@host:path, without a password.
func ParseURL(raw string) (*url.URL, error) {
	if strings.ContainsAny(raw, "\x00\r\n\t ") {
		return nil, &ErrURL{"a URL without white space"}
	}
	if !strings.Contains(raw, "://") {
		if m := scpLike().FindStringSubmatch(raw); m != nil && !slices.Contains(schemes, m[2]) {
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

// IsCommit tells whether s is the full name of a commit: 40 hexadecimal digits in lower case.
func IsCommit(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == "" && strings.Trim(s, "0") != ""
}

// CheckSemver tells what is wrong with a range of versions.
func CheckSemver(text string) error {
	_, err := semver.NewConstraint(text)
	return err
}

const maxVariable = 128

// IsVariable tells whether s can be the name of a value that manifests name as ${s}.
func IsVariable(s string) bool {
	if s == "" || len(s) > maxVariable || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
