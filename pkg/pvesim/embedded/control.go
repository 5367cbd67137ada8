package embedded

import (
	"encoding/json"
	"net"
	"net/http"
	"time"
)

// forwardTargets is the body of PUT /forward: host:port, or "" for none.
type forwardTargets struct {
	HTTP  string `json:"http"`
	HTTPS string `json:"https"`
}

// valid refuses what could not be dialled anyway, so that the caller learns of it.
func (t forwardTargets) valid() bool {
	for _, target := range []string{t.HTTP, t.HTTPS} {
		if target == "" {
			continue
		}
		if host, port, err := net.SplitHostPort(target); err != nil || net.ParseIP(host) == nil || port == "" {
			return false
		}
	}
	return true
}

// controlServer answers on the control socket:
//
//	GET  /info      Info
//	PUT  /forward   forwardTargets
//	POST /shutdown  202 at once; the node then stops its guests and exits
//
// Who may open the socket (mode 0600 in a directory 0700) may do all of it.
func controlServer(info func() Info, setForward func(forwardTargets), shutdown func()) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(info())
	})
	mux.HandleFunc("PUT /forward", func(w http.ResponseWriter, r *http.Request) {
		var t forwardTargets
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody)).Decode(&t); err != nil {
			http.Error(w, "body is not {http, https}", http.StatusBadRequest)
			return
		}
		if !t.valid() {
			http.Error(w, "targets must be ADDRESS:PORT", http.StatusBadRequest)
			return
		}
		setForward(t)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /shutdown", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		shutdown()
	})
	return &http.Server{Handler: mux, ReadTimeout: callTimeout, WriteTimeout: callTimeout, IdleTimeout: time.Minute}
}
