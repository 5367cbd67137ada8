package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// ticketRenewAfter: a ticket lives two hours and can be exchanged for a new one until
	// then. Half of it leaves an hour for a server that is away.
	ticketRenewAfter = time.Hour
	ticketLifetime   = 2 * time.Hour
	// loginPause is how long a refused login is remembered: a wrong password is not tried
	// again for each request, which would lock the daemon out where fail2ban watches.
	loginPause = 30 * time.Second
)

// authenticator puts proof of identity on requests.
type authenticator interface {
	// authorize prepares req. The returned retry is nil when a 401 is final; otherwise it
	// makes the next authorize log in anew.
	authorize(ctx context.Context, c *Client, req *http.Request) (retry func(), err error)
}

// tokenAuth is the value of the Authorization header of an API token. Tokens need no
// login and no CSRF header.
type tokenAuth string

func (t tokenAuth) authorize(_ context.Context, _ *Client, req *http.Request) (func(), error) {
	req.Header.Set("Authorization", string(t))
	return nil, nil
}

// session is one ticket.
type session struct {
	ticket, csrf string
	at           time.Time
}

// ticketAuth logs in with a password and keeps the ticket fresh.
type ticketAuth struct {
	username, password string
	current            atomic.Pointer[session]
	// login is held while a login is under way; it is a channel so that waiting for it
	// ends with the waiter's context.
	login semaphore
	// refused and refusedAt remember the last refused login. Guarded by login.
	refused   error
	refusedAt time.Time
}

func newTicketAuth(username, password string) *ticketAuth {
	return &ticketAuth{username: username, password: password, login: make(semaphore, 1)}
}

func (a *ticketAuth) authorize(ctx context.Context, c *Client, req *http.Request) (func(), error) {
	s, err := a.session(ctx, c)
	if err != nil {
		return nil, err
	}
	// The server unescapes the cookie; a ticket's base64 has only +, / and = besides
	// letters and digits, and those mean themselves.
	req.Header.Set("Cookie", "PVEAuthCookie="+url.PathEscape(s.ticket))
	if req.Method != http.MethodGet {
		req.Header.Set("CSRFPreventionToken", s.csrf)
	}
	return func() { a.current.CompareAndSwap(s, nil) }, nil
}

// session returns a usable ticket, getting or renewing it when needed.
func (a *ticketAuth) session(ctx context.Context, c *Client) (*session, error) {
	if s := a.current.Load(); s != nil && time.Since(s.at) < ticketRenewAfter {
		return s, nil
	}
	if err := a.login.acquire(ctx); err != nil {
		return nil, &TransportError{Method: http.MethodPost, Path: ticketPath, Err: err}
	}
	defer a.login.release()
	old := a.current.Load()
	if old != nil && time.Since(old.at) < ticketRenewAfter {
		return old, nil
	}
	if old != nil && time.Since(old.at) < ticketLifetime {
		// A ticket is as good as the password to get the next one.
		s, err := a.request(ctx, c, old.ticket)
		if err == nil {
			return s, nil
		}
		if !IsUnauthorized(err) {
			c.log.Warn("renewing the Proxmox ticket failed; the old one is used on", "err", err)
			return old, nil
		}
	}
	if a.refused != nil && time.Since(a.refusedAt) < loginPause {
		return nil, a.refused
	}
	s, err := a.request(ctx, c, a.password)
	if IsUnauthorized(err) || errors.Is(err, ErrSecondFactor) {
		a.refused, a.refusedAt = err, time.Now()
	} else if err == nil {
		a.refused = nil
	}
	return s, err
}

const ticketPath = "/access/ticket"

func (a *ticketAuth) request(ctx context.Context, c *Client, password string) (*session, error) {
	var out struct {
		Ticket   string `json:"ticket"`
		CSRF     string `json:"CSRFPreventionToken"`
		NeedsTFA Bool   `json:"NeedTFA"`
	}
	r := route(http.MethodPost, ticketPath).with("username", a.username).with("password", password)
	r.anonymous = true
	at := time.Now()
	if _, err := c.attempts(ctx, r, &out); err != nil {
		return nil, fmt.Errorf("log in as %s: %w", a.username, err)
	}
	if bool(out.NeedsTFA) || strings.HasPrefix(out.Ticket, "PVE:!tfa!") {
		return nil, fmt.Errorf("log in as %s: %w", a.username, ErrSecondFactor)
	}
	if out.Ticket == "" || out.CSRF == "" || strings.ContainsAny(out.Ticket+out.CSRF, "\r\n") {
		return nil, fmt.Errorf("log in as %s: the server gave no ticket", a.username)
	}
	s := &session{ticket: out.Ticket, csrf: out.CSRF, at: at}
	a.current.Store(s)
	return s, nil
}
