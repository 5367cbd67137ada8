package gittest

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// HTTP is a server of git's http-backend.
type HTTP struct {
	*httptest.Server
	Root string

	// Refs and Packs count requests for references and for packs.
	Refs, Packs atomic.Int64

	mu       sync.Mutex
	user     string
	password string
	token    string
	down     bool
	cut      int64  // bytes after which a pack ends
	redirect string // where requests for references are sent
}

// NewHTTP serves the repositories below a new directory; with TLS if so.
func NewHTTP(t testing.TB, tls bool) *HTTP {
	t.Helper()
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("git --exec-path: %v", err)
	}
	s := &HTTP{Root: t.TempDir()}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + s.Root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		Stderr: io.Discard,
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, backend) })
	if tls {
		s.Server = httptest.NewTLSServer(handler)
	} else {
		s.Server = httptest.NewServer(handler)
	}
	t.Cleanup(s.Close)
	return s
}

// Repo makes an empty repository on the server.
func (s *HTTP) Repo(t testing.TB, name string) *Repo { return NewRepo(t, s.Root, name) }

// At is the URL of a repository.
func (s *HTTP) At(r *Repo) string { return s.Server.URL + "/" + r.Name }

// CA is the certificate of a server with TLS, in PEM form.
func (s *HTTP) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// Basic lets in only who has that password.
func (s *HTTP) Basic(user, password string) { s.set(func() { s.user, s.password = user, password }) }

// Bearer lets in only who has that token.
func (s *HTTP) Bearer(token string) { s.set(func() { s.token = token }) }

// Down makes the server hang up on everybody, or not any more.
func (s *HTTP) Down(down bool) { s.set(func() { s.down = down }) }

// Cut ends packs after that many bytes; 0: not any more.
func (s *HTTP) Cut(bytes int64) { s.set(func() { s.cut = bytes }) }

// Redirect sends requests for references to another URL with the same path; "": not any more.
func (s *HTTP) Redirect(base string) { s.set(func() { s.redirect = base }) }

func (s *HTTP) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *HTTP) serve(w http.ResponseWriter, r *http.Request, backend http.Handler) {
	s.mu.Lock()
	user, password, token, down, cut, redirect := s.user, s.password, s.token, s.down, s.cut, s.redirect
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	name, secret, _ := r.BasicAuth()
	if user != "" && (name != user || secret != password) || token != "" && r.Header.Get("Authorization") != "Bearer "+token {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/info/refs") {
		s.Refs.Add(1)
		if redirect != "" {
			http.Redirect(w, r, redirect+r.URL.RequestURI(), http.StatusFound)
			return
		}
	} else {
		s.Packs.Add(1)
		if cut > 0 {
			w = &cutWriter{ResponseWriter: w, left: cut}
		}
	}
	backend.ServeHTTP(w, r)
}

// cutWriter ends a response early, as a connection that breaks does.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) >= c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	return c.ResponseWriter.Write(p)
}
