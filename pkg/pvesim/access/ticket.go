package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TicketLifetime is how long a login lasts; a ticket may be renewed with itself as
// password until then.
const TicketLifetime = 2 * time.Hour

// clockGrace is how far in the future a ticket may have been made.
const clockGrace = 5 * time.Minute

// Signer makes and checks tickets. The real server signs with RSA; here it is an HMAC,
// which no client can tell from the outside.
type Signer struct{ Key []byte }

// ErrTicket is why a ticket was refused.
var ErrTicket = errors.New("permission denied - invalid PVE ticket")

// ErrCSRF is why a write with a ticket was refused.
//
//lint:ignore ST1005 the real text
var ErrCSRF = errors.New("Permission denied - invalid csrf token")

func (s Signer) mac(purpose, text string) string {
	m := hmac.New(sha256.New, s.Key)
	m.Write([]byte(purpose + "\x00" + text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// Ticket makes a ticket for a user: PVE:user:time::signature.
func (s Signer) Ticket(user string, now time.Time) string {
	text := fmt.Sprintf("PVE:%s:%08X", user, now.Unix())
	return text + "::" + s.mac("ticket", text)
}

// CheckTicket returns the user of a valid ticket.
func (s Signer) CheckTicket(ticket string, now time.Time) (string, error) {
	text, sig, ok := strings.Cut(ticket, "::")
	parts := strings.SplitN(text, ":", 3)
	if !ok || len(parts) != 3 || parts[0] != "PVE" || !hmac.Equal([]byte(sig), []byte(s.mac("ticket", text))) {
		return "", ErrTicket
	}
	if !fresh(parts[2], now) {
		return "", ErrTicket
	}
	return parts[1], nil
}

// CSRF makes the token that writes with a ticket must carry: time:signature.
func (s Signer) CSRF(user string, now time.Time) string {
	stamp := fmt.Sprintf("%08X", now.Unix())
	return stamp + ":" + strings.TrimRight(s.mac("csrf", stamp+":"+user), "=")
}

// CheckCSRF checks the token for that user.
func (s Signer) CheckCSRF(user, token string, now time.Time) error {
	stamp, sig, ok := strings.Cut(token, ":")
	want := strings.TrimRight(s.mac("csrf", stamp+":"+user), "=")
	if !ok || !hmac.Equal([]byte(sig), []byte(want)) || !fresh(stamp, now) {
		return ErrCSRF
	}
	return nil
}

func fresh(stamp string, now time.Time) bool {
	sec, err := strconv.ParseInt(stamp, 16, 64)
	if err != nil {
		return false
	}
	age := now.Sub(time.Unix(sec, 0))
	return age > -clockGrace && age < TicketLifetime
}
