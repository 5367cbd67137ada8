package embedded

import (
	"fmt"
	"net"
	"net/http"
)

// Names that the modelled internet has. The test top-level domain is reserved (RFC 6761).
const (
	debianHost = "deb.internet.test"
	wwwHost    = "www.internet.test"
)

// internetHandler serves the package repository under its name and, under any other
// name, a line that tells a client from which address it came: what NAT made of it.
func internetHandler(repo string) http.Handler {
	debian := http.NewServeMux()
	debian.Handle("/debian/", http.StripPrefix("/debian/", http.FileServer(http.Dir(repo))))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if host == debianHost {
			debian.ServeHTTP(w, r)
			return
		}
		from, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			from = r.RemoteAddr
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "internet reached from %s\n", from)
	})
}
