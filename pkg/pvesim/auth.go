package pvesim

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// identity is who sent a request.
type identity struct {
	id string // user@realm or user@realm!token, "" before a login
}

// isRoot is the one check that a token of root@pam fails.
func (i identity) isRoot() bool { return i.id == access.Root }

func unauthorized(text string) error { return transportError(http.StatusUnauthorized, text) }

// authenticate finds out who asks: by cookie first, then by API token. Only the login
// itself needs nobody.
func (n *Node) authenticate(r *http.Request, path string) (identity, error) {
	if path == "/access/ticket" {
		return identity{}, nil
	}
	if ticket := ticketOf(r); ticket != "" {
		return n.checkTicket(r, ticket)
	}
	header := r.Header.Get("Authorization")
	credential, ok := strings.CutPrefix(header, "PVEAPIToken")
	if !ok || credential == "" {
		return identity{}, unauthorized("No ticket")
	}
	id, err := n.access.CheckToken(credential[1:]) // = or a blank
	if err != nil {
		return identity{}, unauthorized(err.Error())
	}
	return identity{id: id}, nil
}

func ticketOf(r *http.Request) string {
	const name = "PVEAuthCookie"
	for _, line := range r.Header.Values("Cookie") {
		for _, part := range strings.Split(line, ";") {
			if value, ok := strings.CutPrefix(strings.TrimSpace(part), name+"="); ok {
				// + is not a blank here, so PathUnescape and not QueryUnescape.
				if u, err := url.PathUnescape(strings.Trim(value, `"`)); err == nil {
					return u
				}
			}
		}
	}
	if value, ok := strings.CutPrefix(r.Header.Get("Authorization"), name+"="); ok {
		if u, err := url.PathUnescape(value); err == nil {
			return u
		}
	}
	return ""
}

func (n *Node) checkTicket(r *http.Request, ticket string) (identity, error) {
	now := time.Now()
	user, err := n.signer.CheckTicket(ticket, now)
	if err != nil {
		return identity{}, unauthorized(err.Error())
	}
	if err := n.access.CheckUser(user); err != nil {
		return identity{}, unauthorized(err.Error())
	}
	if r.Method != http.MethodGet {
		if err := n.signer.CheckCSRF(user, r.Header.Get("CSRFPreventionToken"), now); err != nil {
			return identity{}, unauthorized(err.Error())
		}
	}
	return identity{id: user}, nil
}
