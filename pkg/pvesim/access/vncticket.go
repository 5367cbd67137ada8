package access

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds of a console ticket's age (verify_vnc_ticket of PVE::AccessControl).
const (
	vncMinAge = -20 * time.Second
	vncMaxAge = 40 * time.Second
)

// ErrVNCTicket is why a console ticket was refused.
var ErrVNCTicket = errors.New("permission denied - invalid PVEVNC ticket")

// VNCTicket makes a ticket for a console: PVEVNC:time::signature. It holds for the user
// and the path, and for the port if that is not "".
func (s Signer) VNCTicket(user, path, port string, now time.Time) string {
	stamp := fmt.Sprintf("%08X", now.Unix())
	return "PVEVNC:" + stamp + "::" + s.mac("vnc", strings.Join([]string{stamp, user, path, port}, ":"))
}

// CheckVNCTicket checks a ticket of VNCTicket.
func (s Signer) CheckVNCTicket(ticket, user, path, port string, now time.Time) error {
	text, sig, ok := strings.Cut(ticket, "::")
	stamp, isVNC := strings.CutPrefix(text, "PVEVNC:")
	sec, err := strconv.ParseInt(stamp, 16, 64)
	if !ok || !isVNC || err != nil {
		return ErrVNCTicket
	}
	want := s.mac("vnc", strings.Join([]string{stamp, user, path, port}, ":"))
	if age := now.Sub(time.Unix(sec, 0)); age < vncMinAge || age > vncMaxAge || !hmac.Equal([]byte(sig), []byte(want)) {
		return ErrVNCTicket
	}
	return nil
}
