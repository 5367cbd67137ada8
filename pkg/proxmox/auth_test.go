package proxmox

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// ticketServer is the part of the API that deals with tickets.
type ticketServer struct {
	mu       sync.Mutex
	password string
	issued   int
	// valid is the ticket in force.
	valid  string
	logins int
	writes int
}

func (s *ticketServer) ServeHTTP(w http.ResponseWriter, r *http.Request, params url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, ticketPath) {
		s.logins++
		if p := params.Get("password"); p != s.password && (s.valid == "" || p != s.valid) {
			refuse(w, 401, "authentication failure", nil)
			return
		}
		s.issued++
		s.valid = "PVE:root@pam:6B040000::aGVs+bG8/d29ybGQ=" + itoa(s.issued)
		answer(w, map[string]any{"ticket": s.valid, "CSRFPreventionToken": "6B040000:csrf" + itoa(s.issued), "username": "root@pam"})
		return
	}
	cookie := strings.TrimPrefix(r.Header.Get("Cookie"), "PVEAuthCookie=")
	if ticket, _ := url.PathUnescape(cookie); ticket != s.valid || ticket == "" {
		refuse(w, 401, "permission denied - invalid PVE ticket", nil)
		return
	}
	if r.Method != http.MethodGet && r.Header.Get("CSRFPreventionToken") != "6B040000:csrf"+itoa(s.issued) {
		refuse(w, 401, "Permission denied - invalid csrf token", nil)
		return
	}
	if r.Method != http.MethodGet {
		s.writes++
	}
	answer(w, someUPID)
}

func ticketClient(t *testing.T, password string) (*ticketServer, *server, *Client) {
	ts := &ticketServer{password: "right"}
	var s *server
	s = newServer(t, func(n int, w http.ResponseWriter, r *http.Request) { ts.ServeHTTP(w, r, s.requests()[n].params) })
	cfg := s.config()
	cfg.TokenID, cfg.TokenSecret, cfg.Username, cfg.Password = "", "", "root@pam", password
	return ts, s, newClient(t, cfg)
}

func TestTicketLogin(t *testing.T) {
	ts, _, c := ticketClient(t, "right")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.StartLXC(t.Context(), "pve", 200); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ts.logins != 1 || ts.writes != 8 || c.Stats().Logins != 1 || c.Stats().Writes != 8 {
		t.Errorf("%d logins and %d writes (counted %+v), want 1 and 8", ts.logins, ts.writes, c.Stats())
	}
}

func TestTicketIsReplacedOnceAfter401(t *testing.T) {
	ts, s, c := ticketClient(t, "right")
	if _, err := c.StartLXC(t.Context(), "pve", 200); err != nil {
		t.Fatal(err)
	}
	ts.mu.Lock()
	ts.valid = "PVE:revoked"
	ts.mu.Unlock()
	if _, err := c.StartLXC(t.Context(), "pve", 201); err != nil {
		t.Fatal(err)
	}
	if ts.writes != 2 || ts.logins != 2 {
		t.Errorf("%d writes took effect and %d logins, want 2 and 2", ts.writes, ts.logins)
	}
	for _, r := range s.requests() {
		if strings.Contains(r.header.Get("Authorization"), "PVEAPIToken") {
			t.Error("a token was sent by a client that has none")
		}
	}
}

func TestRefusedLoginIsNotRepeated(t *testing.T) {
	ts, _, c := ticketClient(t, "wrong")
	for range 5 {
		_, err := c.StartLXC(t.Context(), "pve", 200)
		if !IsUnauthorized(err) || IsUnknownOutcome(err) {
			t.Fatalf("want unauthorized, got %v", err)
		}
		if strings.Contains(err.Error(), "wrong") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if ts.logins != 1 {
		t.Errorf("%d logins with a wrong password, want 1", ts.logins)
	}
}

func TestUnauthorizedForGoodEndsAfterOneMoreTry(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ticketPath) {
			answer(w, map[string]any{"ticket": "PVE:x", "CSRFPreventionToken": "y"})
			return
		}
		refuse(w, 401, "permission denied - invalid PVE ticket", nil)
	})
	cfg := s.config()
	cfg.TokenID, cfg.TokenSecret, cfg.Username, cfg.Password = "", "", "root@pam", "p"
	_, err := newClient(t, cfg).StartLXC(t.Context(), "pve", 200)
	if !IsUnauthorized(err) {
		t.Errorf("got %v", err)
	}
	if n := len(s.requests()); n != 4 {
		t.Errorf("%d requests, want 4: login, try, login, try", n)
	}
}

func TestSecondFactor(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"ticket": "PVE:!tfa!%7B%7D:x", "CSRFPreventionToken": "y", "NeedTFA": 1})
	})
	cfg := s.config()
	cfg.TokenID, cfg.TokenSecret, cfg.Username, cfg.Password = "", "", "root@pam", "p"
	if _, err := newClient(t, cfg).Version(t.Context()); !errors.Is(err, ErrSecondFactor) {
		t.Errorf("got %v", err)
	}
}

func TestTokenIsSentAndNothingElse(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) { answer(w, someUPID) })
	if _, err := newClient(t, s.config()).StartLXC(t.Context(), "pve", 200); err != nil {
		t.Fatal(err)
	}
	h := s.requests()[0].header
	if got := h.Get("Authorization"); got != "PVEAPIToken=proximity@pve!svc=not-a-real-secret" {
		t.Errorf("Authorization %q", got)
	}
	if h.Get("Cookie") != "" || h.Get("CSRFPreventionToken") != "" {
		t.Error("a token needs neither cookie nor CSRF header")
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no endpoint":         func(c *Config) { c.Endpoints = nil },
		"plain HTTP":          func(c *Config) { c.Endpoints = []string{"http://pve:8006"} },
		"password in the URL": func(c *Config) { c.Endpoints = []string{"https://root:pw@pve:8006"} },
		"no credentials":      func(c *Config) { c.TokenID = "" },
		"token without name":  func(c *Config) { c.TokenID = "a@pve" },
		"token and user":      func(c *Config) { c.Username = "root@pam" },
		"header injection":    func(c *Config) { c.TokenSecret = "a\r\nX: y" },
		"short fingerprint":   func(c *Config) { c.Fingerprints = []string{"AB:CD"} },
		"pin and authority":   func(c *Config) { c.Fingerprints, c.CAFile = []string{strings.Repeat("AB", 32)}, "x" },
		"no such CA file":     func(c *Config) { c.CAFile = "/does/not/exist" },
		"too concurrent":      func(c *Config) { c.Concurrency = 1000 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), ":pw@") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}
