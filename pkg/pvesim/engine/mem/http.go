package mem

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ServeHTTP serves HTTP on a port of the guest until stop is called or the guest
// stops. stop closes the port and the open connections.
func (g *Guest) ServeHTTP(port int, h http.Handler) (stop func(), err error) {
	l := newListener(port)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	if err := g.Serve(port, l.offer); err != nil {
		return nil, err
	}
	go func() { _ = srv.Serve(l) }() // ends when stop closes the server
	var once sync.Once
	return func() {
		once.Do(func() {
			g.Unserve(port)
			_ = srv.Close()
		})
	}, nil
}

// listener turns the connections of Serve into a net.Listener.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

// listenBacklog is how many connections may wait to be accepted.
const listenBacklog = 128

func newListener(port int) *listener {
	return &listener{
		conns: make(chan net.Conn, listenBacklog), done: make(chan struct{}),
		addr: &net.TCPAddr{IP: net.IPv4zero, Port: port},
	}
}

// offer hands the connection over and returns when it is closed or refused.
func (l *listener) offer(c net.Conn) {
	closed := make(chan struct{})
	tracked := &trackedConn{Conn: c, closed: closed}
	select {
	case l.conns <- tracked:
	case <-l.done:
		_ = c.Close()
		return
	}
	select {
	case <-closed:
	case <-l.done:
		_ = c.Close()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

type trackedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *trackedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Bounds of a simulated HTTP request.
const (
	curlTimeout   = 30 * time.Second
	maxCurlOutput = 16 << 20
)

type curlOptions struct {
	url, method, output, writeOut string
	data                          string
	headers                       []string
	fail, head, insecure          bool
	timeout                       time.Duration
}

// curl fetches one URL from other guests.
func curl(ctx context.Context, p *Process) int {
	o, err := parseCurl(p.Argv[1:])
	if err != nil {
		fmt.Fprintf(p.Stderr, "curl: %v\n", err)
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if address, ok := strings.CutPrefix(o.url, "telnet://"); ok {
		return curlConnect(ctx, p, strings.TrimSuffix(address, "/"))
	}
	req, err := http.NewRequestWithContext(ctx, o.method, o.url, strings.NewReader(o.data))
	if err != nil {
		fmt.Fprintf(p.Stderr, "curl: (3) %v\n", err)
		return 3
	}
	for _, h := range o.headers {
		k, v, _ := strings.Cut(h, ":")
		if strings.EqualFold(k, "host") {
			req.Host = strings.TrimSpace(v)
		} else {
			req.Header.Add(k, strings.TrimSpace(v))
		}
	}
	tr := &http.Transport{
		DialContext:       p.Guest.Dial,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: o.insecure}, //nolint:gosec // it is curl -k
	}
	resp, err := (&http.Client{Transport: tr, CheckRedirect: noRedirect}).Do(req)
	if err != nil {
		return curlError(p, err)
	}
	defer resp.Body.Close()
	return curlOutput(p, o, resp)
}

// curlConnect only tries whether a port accepts connections; the real curl would then
// wait for what the peer says.
func curlConnect(ctx context.Context, p *Process, address string) int {
	conn, err := p.Guest.Dial(ctx, "tcp", address)
	if err != nil {
		return curlError(p, err)
	}
	_ = conn.Close()
	return 0
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func curlError(p *Process, err error) int {
	var dns *net.DNSError
	code := 7
	switch {
	case errors.As(err, &dns):
		code = 6
	case errors.Is(err, context.DeadlineExceeded):
		code = 28
	case errors.Is(err, context.Canceled):
		return exitKilled
	}
	fmt.Fprintf(p.Stderr, "curl: (%d) %v\n", code, err)
	return code
}

func curlOutput(p *Process, o curlOptions, resp *http.Response) int {
	if o.fail && resp.StatusCode >= 400 {
		fmt.Fprintf(p.Stderr, "curl: (22) The requested URL returned error: %d\n", resp.StatusCode)
		return 22
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCurlOutput))
	if err != nil {
		fmt.Fprintf(p.Stderr, "curl: (18) %v\n", err)
		return 18
	}
	if o.head {
		fmt.Fprintf(p.Stdout, "HTTP/1.1 %s\r\n", resp.Status)
		_ = resp.Header.Write(p.Stdout)
	}
	switch o.output {
	case "":
		_, _ = p.Stdout.Write(body)
	case "/dev/null":
	default:
		if err := p.Guest.fs.WriteFile(o.output, body, 0o644); err != nil {
			fmt.Fprintf(p.Stderr, "curl: (23) %v\n", err)
			return 23
		}
	}
	out := strings.NewReplacer("%{http_code}", fmt.Sprint(resp.StatusCode), "%{response_code}", fmt.Sprint(resp.StatusCode), `\n`, "\n").Replace(o.writeOut)
	_, _ = io.WriteString(p.Stdout, out)
	return 0
}

func parseCurl(args []string) (curlOptions, error) {
	o := curlOptions{method: http.MethodGet, timeout: curlTimeout}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "-") {
			o.url = a
			continue
		}
		var value string
		if strings.HasPrefix(a, "--") || len(a) == 2 {
			if curlTakesValue[a] {
				if i++; i >= len(args) {
					return o, fmt.Errorf("option %s: requires parameter", a)
				}
				value = args[i]
			}
			if err := o.set(a, value); err != nil {
				return o, err
			}
			continue
		}
		for _, c := range a[1:] { // -fsS
			if curlTakesValue["-"+string(c)] {
				return o, fmt.Errorf("option -%c: write it apart", c)
			}
			if err := o.set("-"+string(c), ""); err != nil {
				return o, err
			}
		}
	}
	if o.url == "" {
		return o, errors.New("no URL specified")
	}
	if !strings.Contains(o.url, "://") {
		o.url = "http://" + o.url
	}
	return o, nil
}

var curlTakesValue = map[string]bool{
	"-o": true, "--output": true, "-w": true, "--write-out": true, "-H": true, "--header": true, "-X": true,
	"--request": true, "-d": true, "--data": true, "-m": true, "--max-time": true, "--connect-timeout": true,
	"--noproxy": true,
}

func (o *curlOptions) set(option, value string) error {
	switch option {
	case "-o", "--output":
		o.output = value
	case "-w", "--write-out":
		o.writeOut = value
	case "-H", "--header":
		o.headers = append(o.headers, value)
	case "-X", "--request":
		o.method = value
	case "-d", "--data":
		o.data = value
		if o.method == http.MethodGet {
			o.method = http.MethodPost
		}
	case "-m", "--max-time", "--connect-timeout":
		d, err := time.ParseDuration(value + "s")
		if err != nil {
			return err
		}
		o.timeout = d
	case "-f", "--fail":
		o.fail = true
	case "-I", "--head":
		o.head, o.method = true, http.MethodHead
	case "-k", "--insecure":
		o.insecure = true
	case "-q", "-s", "-S", "-L", "-4", "--silent", "--show-error", "--location", "--noproxy":
	default:
		return fmt.Errorf("option %s: is unknown", option)
	}
	return nil
}
