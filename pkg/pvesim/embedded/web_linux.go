package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/vishvananda/netns"
)

// web is what the modelled internet serves.
type web struct{ servers []*http.Server }

// webPorts: 80 for names, 8080 for a test target beside it.
var webPorts = []string{"80", "8080"}

// startWeb listens inside the internet's namespace. Sockets stay in the namespace that
// they were made in; the goroutines that serve them need not be there.
func startWeb(internet netns.NsHandle, repo string, log *slog.Logger) (*web, error) {
	w := &web{}
	for _, port := range webPorts {
		var l net.Listener
		err := inNetNS(internet, func() (err error) {
			l, err = net.Listen("tcp4", net.JoinHostPort(internetIP, port))
			return err
		})
		if err != nil {
			w.close()
			return nil, fmt.Errorf("listen in the modelled internet: %w", err)
		}
		s := &http.Server{Handler: internetHandler(repo), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		w.servers = append(w.servers, s)
		go func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				log.Error("the modelled internet stopped serving", "error", err)
			}
		}()
	}
	return w, nil
}

func (w *web) close() {
	for _, s := range w.servers {
		_ = s.Close()
	}
}
