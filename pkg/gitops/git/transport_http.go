package git

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	uploadPack = "git-upload-pack"
	maxHops    = 3
)

type httpSession struct {
	client *http.Client
	auth   Auth
	base   *url.URL // of the repository, after redirects
	adv    io.ReadCloser
}

func openHTTP(ctx context.Context, u *url.URL, auth Auth) (session, error) {
	client, err := httpClient(u, auth)
	if err != nil {
		return nil, err
	}
	s := &httpSession{client: client, auth: auth, base: u}
	req, err := s.newRequest(ctx, http.MethodGet, u.JoinPath("info/refs"), nil)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = "service=" + uploadPack
	res, err := client.Do(req)
	if err != nil {
		return nil, s.explainDial(err)
	}
	if err := s.check(res, "application/x-"+uploadPack+"-advertisement"); err != nil {
		res.Body.Close()
		s.close()
		return nil, err
	}
	// A server may have sent us on to another path of its own: the request goes there, too.
	if at, ok := strings.CutSuffix(res.Request.URL.Path, "/info/refs"); ok {
		moved := *res.Request.URL
		moved.Path, moved.RawPath, moved.RawQuery = at, "", ""
		s.base = &moved
	}
	s.adv = res.Body
	return s, nil
}

// httpClient makes a client for one session: connections of one repository, with one
// repository's authorities, are not shared with another's.
func httpClient(u *url.URL, auth Auth) (*http.Client, error) {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  0, // the context bounds it: a server may take its time to make a pack
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           2,
		IdleConnTimeout:        10 * time.Second,
	}
	if len(auth.CA) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(auth.CA) {
			return nil, failf(ReasonInvalidSpec, "spec.caBundle has no certificate in PEM form")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxHops:
			return errRedirects
		case req.URL.Host != u.Host || u.Scheme == "https" && req.URL.Scheme != "https":
			return &redirectError{to: req.URL.Scheme + "://" + req.URL.Host}
		}
		return nil
	}}, nil
}

var errRedirects = errors.New("too many redirects")

type redirectError struct{ to string }

func (e *redirectError) Error() string { return "the server redirects to " + e.to }

func (s *httpSession) newRequest(ctx context.Context, method string, u *url.URL, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, because(ReasonInvalidSpec, err, "the URL cannot be used")
	}
	req.Header.Set("User-Agent", "git/2.0 (proximity)") // some servers let only git in
	switch {
	case s.auth.Token != "":
		req.Header.Set("Authorization", "Bearer "+s.auth.Token)
	case s.auth.Username != "" || s.auth.Password != "":
		req.SetBasicAuth(s.auth.Username, s.auth.Password)
	}
	return req, nil
}

func (s *httpSession) explainDial(err error) error {
	var moved *redirectError
	if errors.As(err, &moved) {
		return failf(ReasonUnreachable, "%s, which is another host; write that into spec.url if it is meant", moved)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return because(ReasonUnreachable, err, "the server %s cannot be reached", s.base.Host)
}

// check turns an answer that is not the wanted one into an error.
func (s *httpSession) check(res *http.Response, contentType string) error {
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		if s.auth.Token == "" && s.auth.Password == "" && s.auth.Username == "" {
			return failf(ReasonAuthFailed, "the server %s wants credentials (HTTP %d); name a Secret in spec.auth", s.base.Host, res.StatusCode)
		}
		return failf(ReasonAuthFailed, "the server %s refused the credentials (HTTP %d)", s.base.Host, res.StatusCode)
	case http.StatusNotFound, http.StatusGone:
		return failf(ReasonNotFound, "the server %s has no such repository, or hides it from who may not see it (HTTP %d)", s.base.Host, res.StatusCode)
	default:
		return failf(ReasonUnreachable, "the server %s answered HTTP %d", s.base.Host, res.StatusCode)
	}
	if got := res.Header.Get("Content-Type"); got != contentType {
		return failf(ReasonUnreachable, "%s is not the URL of a Git repository: the server answered with %q", s.base.Redacted(), got)
	}
	return nil
}

func (s *httpSession) advertisement() io.Reader { return s.adv }

func (s *httpSession) request(ctx context.Context, body []byte) (io.ReadCloser, error) {
	req, err := s.newRequest(ctx, http.MethodPost, s.base.JoinPath(uploadPack), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", fmt.Sprintf("application/x-%s-request", uploadPack))
	res, err := s.client.Do(req)
	if err != nil {
		return nil, s.explainDial(err)
	}
	if err := s.check(res, "application/x-"+uploadPack+"-result"); err != nil {
		res.Body.Close()
		return nil, err
	}
	return res.Body, nil
}

func (s *httpSession) explain(err error) error { return err }

func (s *httpSession) close() {
	if s.adv != nil {
		s.adv.Close()
	}
	s.client.CloseIdleConnections()
}
