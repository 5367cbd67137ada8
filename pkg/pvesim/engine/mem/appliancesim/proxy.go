package appliancesim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

var errSyntax = errors.New("syntax error")

// proxy is a running Caddy. Its configuration is replaced as a whole by load, its table of
// Vhosts by follow.
type proxy struct {
	guest     *mem.Guest
	ca        *authority
	config    atomic.Pointer[caddyConfig]
	table     atomic.Pointer[table]
	transport *http.Transport
	turn      atomic.Uint64 // of the round robin
}

// caddyConfig is the part of Caddy's JSON that package appliance renders. Unknown fields
// are an error inside routes, as they are for Caddy.
type caddyConfig struct {
	Apps struct {
		HTTP struct {
			Servers map[string]struct {
				Routes []route `json:"routes"`
			} `json:"servers"`
		} `json:"http"`
		TLS struct {
			Certificates struct {
				Automate []string `json:"automate"`
			} `json:"certificates"`
		} `json:"tls"`
	} `json:"apps"`
}

type route struct {
	ID       string    `json:"@id"`
	Match    []matcher `json:"match"`
	Handle   []handler `json:"handle"`
	Terminal bool      `json:"terminal"`
}

type matcher struct {
	Host     []string `json:"host"`
	Path     []string `json:"path"`
	RemoteIP *struct {
		Ranges []netip.Prefix `json:"ranges"`
	} `json:"remote_ip"`
	Not  []matcher           `json:"not"`
	Vars map[string][]string `json:"vars"`
}

// handler has the fields of all handlers that the renderers use. What is kept as text is known
// and of no effect here: the simulated proxy changes no headers and forwards to any backend.
type handler struct {
	Handler   string          `json:"handler"`
	Status    int             `json:"status_code"`
	Headers   json.RawMessage `json:"headers"` // of static_response; another thing for reverse_proxy
	Body      string          `json:"body"`
	Routes    []route         `json:"routes"`
	Upstreams []struct {
		Dial string `json:"dial"`
	} `json:"upstreams"`
	LoadBalancing json.RawMessage `json:"load_balancing"`
	HealthChecks  json.RawMessage `json:"health_checks"`
	Transport     json.RawMessage `json:"transport"`

	Prefix         string          `json:"strip_path_prefix"` // of rewrite
	MaxSize        int64           `json:"max_size"`          // of request_body
	Providers      json.RawMessage `json:"providers"`         // of authentication
	HandleResponse json.RawMessage `json:"handle_response"`   // of forward authentication
	Rewrite        json.RawMessage `json:"rewrite"`
	Request        json.RawMessage `json:"request"`
	Response       json.RawMessage `json:"response"`
	LogSkip        bool            `json:"log_skip"`
	SkipLog        bool            `json:"skip_log"`
}

func parseCaddy(text []byte) (*caddyConfig, error) {
	var loose struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes json.RawMessage `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	c := &caddyConfig{}
	if err := errors.Join(json.Unmarshal(text, &loose), json.Unmarshal(text, c)); err != nil {
		return nil, err
	}
	for name, server := range loose.Apps.HTTP.Servers {
		var strict []route
		d := json.NewDecoder(bytes.NewReader(server.Routes))
		d.DisallowUnknownFields()
		if err := d.Decode(&strict); err != nil {
			return nil, fmt.Errorf("server %s: %w", name, err)
		}
	}
	return c, nil
}

// runCaddy is "caddy run": serves until its context ends.
func (s *Sim) runCaddy(ctx context.Context, p *mem.Process) int {
	x := &proxy{guest: p.Guest}
	x.transport = &http.Transport{DialContext: p.Guest.Dial, DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second}
	if err := x.load(); err != nil {
		fmt.Fprintf(p.Stderr, "Error: loading initial config: %v\n", err)
		return 1
	}
	x.table.Store(&table{})
	x.follow()
	var err error
	if x.ca, err = openAuthority(p.Guest.FS()); err != nil {
		fmt.Fprintf(p.Stderr, "Error: certificate authority: %v\n", err)
		return 1
	}
	stop, err := p.Guest.ServeHTTP(80, x.handler("http"))
	if err != nil {
		fmt.Fprintf(p.Stderr, "Error: %v\n", err)
		return 1
	}
	defer stop()
	stopTLS, err := x.serveTLS()
	if err != nil {
		fmt.Fprintf(p.Stderr, "Error: %v\n", err)
		return 1
	}
	defer stopTLS()
	s.with(p.Guest, func(b *boot) { b.proxy = x; b.starts[appliance.UnitCaddy]++ })
	p.Ready()
	<-ctx.Done()
	s.with(p.Guest, func(b *boot) {
		if b.proxy == x {
			b.proxy = nil
		}
	})
	return 0
}

// load replaces the configuration by what proxy.json says now.
func (x *proxy) load() error {
	text, err := x.guest.FS().ReadFile(appliance.ProxyPath)
	if err != nil {
		return err
	}
	c, err := parseCaddy(text)
	if err != nil {
		return err
	}
	x.config.Store(c)
	return nil
}

func (x *proxy) handler(server string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Caddy")
		if !x.routes(w, r, x.config.Load().Apps.HTTP.Servers[server].Routes) {
			w.WriteHeader(http.StatusOK) // as Caddy answers when no route matches
		}
	})
}

// routes runs the first terminal route that matches.
func (x *proxy) routes(w http.ResponseWriter, r *http.Request, routes []route) bool {
	for _, route := range routes {
		if !route.matches(r) {
			continue
		}
		for _, h := range route.Handle {
			if x.handle(w, r, h) {
				return true
			}
		}
	}
	return false
}

func (rt *route) matches(r *http.Request) bool {
	for _, m := range rt.Match {
		if m.matches(r) {
			return true
		}
	}
	return len(rt.Match) == 0
}

func (m *matcher) matches(r *http.Request) bool {
	if len(m.Host) > 0 && !containsFold(m.Host, hostname(r)) {
		return false
	}
	if m.RemoteIP != nil {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !containsIP(m.RemoteIP.Ranges, from.Addr().Unmap()) {
			return false
		}
	}
	for _, not := range m.Not {
		if not.matches(r) {
			return false
		}
	}
	if len(m.Path) == 0 {
		return true
	}
	for _, p := range m.Path {
		prefix, wild := strings.CutSuffix(p, "*")
		if have := strings.ToLower(r.URL.Path); wild && strings.HasPrefix(have, strings.ToLower(prefix)) || have == strings.ToLower(p) {
			return true
		}
	}
	return false
}

func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

func containsFold(list []string, s string) bool {
	for _, e := range list {
		if strings.EqualFold(e, s) {
			return true
		}
	}
	return false
}

func containsIP(ranges []netip.Prefix, ip netip.Addr) bool {
	for _, p := range ranges {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (x *proxy) handle(w http.ResponseWriter, r *http.Request, h handler) bool {
	switch h.Handler {
	case "subroute":
		return x.routes(w, r, h.Routes)
	case "proximity_vhosts":
		return x.serveTable(w, r)
	case "static_response":
		fill := strings.NewReplacer("{http.request.host}", hostname(r), "{http.request.uri}", r.URL.RequestURI())
		var headers map[string][]string
		_ = json.Unmarshal(h.Headers, &headers) // none is no JSON
		for name, values := range headers {
			for _, v := range values {
				w.Header().Add(name, fill.Replace(v))
			}
		}
		w.WriteHeader(h.Status)
		_, _ = w.Write([]byte(h.Body)) // the client may be gone
		return true
	case "authentication": // nobody is known here
		w.WriteHeader(http.StatusUnauthorized)
		return true
	case "rewrite":
		r.URL.Path = "/" + strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, h.Prefix), "/")
	case "reverse_proxy":
		if h.HandleResponse != nil {
			return false // everybody is let in
		}
		x.forward(w, r, h)
		return true
	}
	return false
}

// forward sends the request to the next backend of the round robin; one that cannot be
// dialled is skipped.
func (x *proxy) forward(w http.ResponseWriter, r *http.Request, h handler) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	start := int(x.turn.Add(1) % (1 << 30))
	for i := range h.Upstreams {
		backend := h.Upstreams[(start+i)%len(h.Upstreams)].Dial
		probe, err := x.guest.Dial(ctx, "tcp", backend)
		if err != nil {
			continue
		}
		_ = probe.Close() // only asked whether it listens
		rp := &httputil.ReverseProxy{Transport: x.transport, Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(&url.URL{Scheme: "http", Host: backend})
			out.SetXForwarded()
			out.Out.Host = out.In.Host
		}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { badGateway(w) }}
		rp.ServeHTTP(w, r)
		return
	}
	badGateway(w)
}

func badGateway(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadGateway)
	_, _ = w.Write([]byte(strconv.Itoa(http.StatusBadGateway) + ": Bad Gateway\n"))
}

// ask sends one request from inside the guest.
func ask(ctx context.Context, g *mem.Guest, address, path, host string) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := http.Client{
		Transport:     &http.Transport{DialContext: g.Dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	const maxBody = 4096 // enough for the self-check
	_, err = b.ReadFrom(http.MaxBytesReader(nil, resp.Body, maxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		err = nil
	}
	return resp.StatusCode, b.String(), err
}

// queue turns the connections of Guest.Serve into a net.Listener for TLS.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

const queueLength = 128

func newQueue() *queue {
	return &queue{conns: make(chan net.Conn, queueLength), done: make(chan struct{})}
}

// offer blocks until the connection is closed, as Guest.Serve asks of a handler.
func (q *queue) offer(c net.Conn) {
	closed := make(chan struct{})
	select {
	case q.conns <- &watchedConn{Conn: c, closed: closed}:
	case <-q.done:
		_ = c.Close()
		return
	}
	select {
	case <-closed:
	case <-q.done:
		_ = c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *queue) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 443} }

type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
