package proxmox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func itoa(n int) string { return strconv.Itoa(n) }

// faults are answers to a write after which nobody knows whether it took effect, or it is
// known that it did not. In no case may the client send it again.
var faults = []struct {
	name    string
	respond func(w http.ResponseWriter, r *http.Request)
	unknown bool
	status  int
}{
	{"reset before headers", func(w http.ResponseWriter, _ *http.Request) { reset(w) }, true, 0},
	{"closed before headers", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_ = conn.Close()
	}, true, 0},
	{"garbage instead of HTTP", func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, _ := w.(http.Hijacker).Hijack()
		_, _ = buf.WriteString("SSH-2.0-OpenSSH_10.0\r\n")
		_ = buf.Flush()
		_ = conn.Close()
	}, true, 0},
	{"body cut short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"data":"UPID:pve`)
		panic(http.ErrAbortHandler)
	}, true, 0},
	{"truncated JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":"UPID:pve`) }, true, 0},
	{"empty body", func(http.ResponseWriter, *http.Request) {}, true, 0},
	{"html", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>busy</html>") }, true, 0},
	{"no task in the answer", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) }, true, 0},
	{"not a task", func(w http.ResponseWriter, _ *http.Request) { answer(w, "OK") }, true, 0},
	{"data of another type", func(w http.ResponseWriter, _ *http.Request) { answer(w, []int{1}) }, true, 0},
	{"596", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 596, "Connection timed out", nil) }, true, 596},
	{"597", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 597, "broken pipe", nil) }, true, 597},
	{"599", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 599, "other", nil) }, true, 599},
	{"595", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 595, "No route to host", nil) }, false, 595},
	{"502", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, true, 502},
	{"503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, false, 503},
	{"active lock", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 500, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout", nil)
	}, true, 500},
	{"config lock", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 500, "can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout", nil)
	}, false, 500},
	{"401", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 401, "invalid token value!", nil) }, false, 401},
	{"redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
	}, false, 308},
}

func TestWriteIsNeverSentTwice(t *testing.T) {
	for _, f := range faults {
		for _, warm := range []bool{false, true} {
			name := f.name
			if warm {
				name += " on a kept connection"
			}
			t.Run(name, func(t *testing.T) {
				s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						answer(w, Version{Version: "9.1.4"})
						return
					}
					f.respond(w, r)
				})
				c := newClient(t, s.config())
				if warm {
					if _, err := c.Version(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				_, err := c.StartLXC(t.Context(), "pve", 200)
				if err == nil {
					t.Fatal("no error")
				}
				if got := IsUnknownOutcome(err); got != f.unknown {
					t.Errorf("IsUnknownOutcome = %v, want %v: %v", got, f.unknown, err)
				}
				if got := IsUnavailable(err); got != (f.status == 595 || f.status == 503) {
					t.Errorf("IsUnavailable = %v: %v", got, err)
				}
				status := 0
				if e, ok := asAPI(err); ok {
					status = e.HTTP
				}
				if status != f.status {
					t.Errorf("status %d, want %d: %v", status, f.status, err)
				}
				writes := 0
				for _, r := range s.requests() {
					if r.method == http.MethodPost {
						writes++
					}
				}
				if writes != 1 || c.Stats().Writes != 1 {
					t.Errorf("the server got the write %d times (client counted %d), want 1", writes, c.Stats().Writes)
				}
			})
		}
	}
}

// A write with a body must not be replayed by net/http either: it would be when GetBody
// is set and the kept connection turns out to be closed.
func TestWriteWithBodyOnClosingConnection(t *testing.T) {
	s := newServer(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			answer(w, nil)
			return
		}
		reset(w)
	})
	c := newClient(t, s.config())
	if err := c.UpdateLXC(t.Context(), "pve", 200, LXCUpdate{Set: map[string]string{"cores": "2"}}); err != nil {
		t.Fatal(err)
	}
	err := c.UpdateLXC(t.Context(), "pve", 200, LXCUpdate{Set: map[string]string{"cores": "3"}})
	if !IsUnknownOutcome(err) {
		t.Errorf("want an unknown outcome, got %v", err)
	}
	if n := len(s.requests()); n != 2 {
		t.Errorf("the server got %d requests, want 2", n)
	}
}

func TestReadIsRepeatedOnClosedKeptConnection(t *testing.T) {
	s := newServer(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			reset(w)
			return
		}
		answer(w, Version{Version: "9.1.4"})
	})
	c := newClient(t, s.config())
	for range 2 {
		if _, err := c.Version(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.requests()); n != 3 {
		t.Errorf("the server got %d requests, want 3: one answered, one cut, one repeated", n)
	}
}

func TestSlowDripEndsWithContext(t *testing.T) {
	started := make(chan struct{})
	s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"data":"`)
		w.(http.Flusher).Flush()
		close(started)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	c := newClient(t, s.config())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	_, err := c.StartLXC(ctx, "pve", 200)
	if !errors.Is(err, context.Canceled) || !IsUnknownOutcome(err) {
		t.Errorf("want cancelled with unknown outcome, got %v", err)
	}
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRequestTimeoutIsUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s",
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})})
		begin := time.Now()
		_, err := c.StartLXC(t.Context(), "pve", 200)
		if !errors.Is(err, context.DeadlineExceeded) || !IsUnknownOutcome(err) || time.Since(begin) != DefaultRequestTimeout {
			t.Errorf("want a deadline with unknown outcome, got %v after %v", err, time.Since(begin))
		}
	})
}

func TestAnswerIsBounded(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range maxBody>>20 + 1 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	if _, err := newClient(t, s.config()).Version(t.Context()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("want ErrTooLarge, got %v", err)
	}
}

func TestServerIdentity(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) { answer(w, Version{Version: "9.1.4"}) })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("AB:", 31) + "AB"
	for _, tc := range []struct {
		name         string
		fingerprints []string
		ca           string
		good, pin    bool
	}{
		{name: "pinned", fingerprints: []string{s.fingerprint()}, good: true},
		{name: "one of two pins", fingerprints: []string{other, strings.ToLower(strings.ReplaceAll(s.fingerprint(), ":", ""))}, good: true},
		{name: "wrong pin", fingerprints: []string{other}, pin: true},
		{name: "authority", ca: ca, good: true},
		{name: "system's authorities"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := s.config()
			cfg.Fingerprints, cfg.CAFile = tc.fingerprints, tc.ca
			before := len(s.requests())
			_, err := newClient(t, cfg).StartLXC(t.Context(), "pve", 200)
			reached := len(s.requests()) > before
			if reached != tc.good {
				t.Errorf("request reached the server: %v, want %v (%v)", reached, tc.good, err)
			}
			if errors.Is(err, ErrFingerprint) != tc.pin {
				t.Errorf("ErrFingerprint: %v", err)
			}
			if !tc.good && IsUnknownOutcome(err) {
				t.Errorf("nothing was sent, yet the outcome is unknown: %v", err)
			}
			if tc.pin && (IsUnavailable(err) || !strings.Contains(err.Error(), s.fingerprint())) {
				t.Errorf("a wrong certificate must be told apart and name the one seen: %v", err)
			}
		})
	}
}

func TestFailover(t *testing.T) {
	good := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) { answer(w, someUPID) })
	gone := httptest.NewTLSServer(nil)
	gone.Close()
	for _, tc := range []struct {
		name   string
		first  func(t *testing.T) string
		passes bool
	}{
		{"nobody listens", func(*testing.T) string { return gone.URL }, true},
		{"cannot reach the node", func(t *testing.T) string { return refusing(t, good, 595).URL }, true},
		{"may have reached the node", func(t *testing.T) string { return refusing(t, good, 596).URL }, false},
		{"refused", func(t *testing.T) string { return refusing(t, good, 403).URL }, false},
		{"wrong certificate", func(t *testing.T) string { return impostor(t).URL }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := good.config()
			cfg.Endpoints = []string{tc.first(t), good.URL}
			c := newClient(t, cfg)
			before := len(good.requests())
			for range 2 {
				if _, err := c.StartLXC(t.Context(), "pve", 200); (err == nil) != tc.passes {
					t.Fatalf("error %v, want success %v", err, tc.passes)
				}
			}
			if !tc.passes && len(good.requests()) != before {
				t.Error("the second endpoint got a request whose effect was not known")
			}
			if failovers := c.Stats().Failovers; tc.passes && failovers != 1 {
				t.Errorf("%d failovers, want 1: the endpoint that answered is kept", failovers)
			}
		})
	}
}

// refusing has the certificate of like (httptest's servers share one) and always answers
// with the status.
func refusing(t *testing.T, _ *server, status int) *server {
	return newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) { refuse(w, status, "no", nil) })
}

// impostor is a server with a certificate of its own.
func impostor(t *testing.T) *httptest.Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = discardLog()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestNobodyListens(t *testing.T) {
	gone := newServer(t, nil)
	cfg := gone.config()
	gone.Close()
	_, err := newClient(t, cfg).StartLXC(t.Context(), "pve", 200)
	if !IsUnavailable(err) || IsUnknownOutcome(err) {
		t.Errorf("want unavailable with nothing sent, got %v", err)
	}
}

func TestObserveSeesTemplates(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) { answer(w, someUPID) })
	cfg := s.config()
	var method, path string
	var status int
	cfg.Observe = func(m, p string, st int, took time.Duration) { method, path, status = m, p, st }
	if _, err := newClient(t, cfg).StartLXC(t.Context(), "pve", 200); err != nil {
		t.Fatal(err)
	}
	if method != "POST" || path != "/nodes/{node}/lxc/{vmid}/status/start" || status != 200 {
		t.Errorf("observed %s %s %d", method, path, status)
	}
}
