package server

import (
	"net/http"

	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// secureHeaders sets what every answer has. Pages for browsers replace the content security
// policy by one that lets their own scripts run; there is no answer for other origins (CORS
// is off: no Access-Control header is ever set).
func secureHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Strict-Transport-Security", "max-age=31536000")
}

// crossOrigin refuses requests that change something when a browser sent them for another
// site, by Sec-Fetch-Site or Origin; programs, which send neither, pass.
var crossOrigin = http.NewCrossOriginProtection()

// sameSite is the protection against forged requests, for all routes: the cookie of the
// refresh token is the only credential that a browser sends by itself, and it is SameSite
// too.
func sameSite(r *http.Request) error {
	if crossOrigin.Check(r) != nil {
		return apistatus.New(apistatus.Forbidden, "a page of another site sent this request")
	}
	return nil
}
