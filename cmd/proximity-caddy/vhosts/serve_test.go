package vhosts

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestServes(t *testing.T) {
	p := startProxy(t)
	p.serves("a.example", 404, "unknown") // there is no table yet
	p.put(says("a", "a.example", "one"))
	p.serves("a.example", 200, "one")
	p.serves("b.example", 404, "unknown")
	p.put(says("a", "a.example", "two"), says("b", "*.example", "any"))
	p.serves("a.example", 200, "two")
	p.serves("x.example", 200, "any")
	p.put(says("b", "*.example", "any"))
	p.serves("a.example", 200, "any")
}

// TestBadTable: what is wrong with a line is its own hosts' matter, and a file that is not
// whole is nobody's.
func TestBadTable(t *testing.T) {
	p := startProxy(t)
	p.put(says("a", "a.example", "one"), `{"id":"b","hosts":["b.example"],"http":[{"handle":[{"handler":"no_such_handler"}]}]}`)
	p.serves("a.example", 200, "one")
	if status, _ := p.get("b.example", "/"); status != 503 {
		t.Errorf("a host that cannot be served answers %d", status)
	}
	if got := p.report(); !strings.Contains(got, `b: "`) || !strings.Contains(got, "no_such_handler") {
		t.Errorf("report: %q", got)
	}
	p.write([]byte("{\"entries\":7,\"version\":\"x\"}\n"))
	p.until("told", func() bool { return strings.Contains(p.report(), `file: "the table is not whole`) })
	p.serves("a.example", 200, "one")
	if err := os.Remove(p.file); err != nil {
		t.Fatal(err)
	}
	p.until("told", func() bool { return strings.Contains(p.report(), "no such file") })
	p.serves("a.example", 200, "one")
}

// TestChangesUnderLoad: 200 changes, some of the very host that is asked, cost no request and
// no connection.
func TestChangesUnderLoad(t *testing.T) {
	p := startProxy(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "backend") }))
	defer backend.Close()
	address := backend.Listener.Addr().String()
	lines := func(i int) []string {
		// The third line changes every time, the first every tenth.
		return []string{leads(fmt.Sprint("a", i/10), "a.example", address), leads("b", "b.example", address), says("c", "c.example", fmt.Sprint(i))}
	}
	p.put(lines(0)...)
	ctx, stop := context.WithCancel(t.Context())
	var requests atomic.Int64
	var load sync.WaitGroup
	for _, host := range []string{"a.example", "b.example"} {
		load.Go(func() {
			if err := p.askOnOneConnection(ctx, host, "backend", &requests); err != nil {
				t.Errorf("%s, after %d requests: %v", host, requests.Load(), err)
			}
		})
	}
	for i := 1; i <= 200; i++ {
		p.put(lines(i)...)
	}
	stop()
	load.Wait()
	if n := requests.Load(); n < 100 {
		t.Errorf("only %d requests: this shows nothing", n)
	}
}

// askOnOneConnection asks until the context ends. It is no http.Client, which would hide a
// closed connection by asking again on another.
func (p *proxy) askOnOneConnection(ctx context.Context, host, want string, requests *atomic.Int64) error {
	conn, err := net.Dial("tcp", p.http)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for ctx.Err() == nil {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || string(body) != want || resp.Close {
			return fmt.Errorf("%d %q, to be closed: %t, %v", resp.StatusCode, body, resp.Close, err)
		}
		requests.Add(1)
	}
	return nil
}

// TestLongRequest: a request that is under way when its host goes ends well, and its handlers
// go with it.
func TestLongRequest(t *testing.T) {
	p := startProxy(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		close(began)
		<-goOn
		fmt.Fprint(w, "end")
	}))
	defer backend.Close()
	p.put(leads("a", "a.example", backend.Listener.Addr().String()))
	answer := make(chan string, 1)
	go func() { _, body := p.get("a.example", "/"); answer <- body }()
	<-began
	p.put(says("b", "b.example", "b"))
	p.serves("a.example", 404, "unknown")
	close(goOn)
	if got := <-answer; got != "end" {
		t.Errorf("the request ended with %q", got)
	}
}

// TestUpgraded connections outlive a change of another host, and one of their own.
func TestUpgraded(t *testing.T) {
	p := startProxy(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(rw, "echo "+line)
			rw.Flush()
		}
	}))
	defer backend.Close()
	address := backend.Listener.Addr().String()
	p.put(leads("a", "a.example", address))
	conn, err := net.Dial("tcp", p.http)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%+v %v", resp, err)
	}
	for i, lines := range [][]string{
		{leads("a", "a.example", address), says("b", "b.example", "b")},
		{leads("a2", "a.example", address)},
		{},
	} {
		p.put(lines...)
		fmt.Fprintf(conn, "%d\n", i)
		if got, err := r.ReadString('\n'); err != nil || got != fmt.Sprintf("echo %d\n", i) {
			t.Errorf("after change %d: %q %v", i, got, err)
		}
	}
}

func TestCertificatesForTheTableOnly(t *testing.T) {
	p := startProxy(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "backend") }))
	defer backend.Close()
	p.put(leads("a", "a.example", backend.Listener.Addr().String()), says("b", "b.example", "no TLS"))
	root, err := os.ReadFile(filepath.Join(filepath.Dir(p.file), "../storage/pki/authorities/local/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	shake := func(name string) error {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", p.https, &tls.Config{ServerName: name, RootCAs: pool})
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := shake("a.example"); err != nil {
		t.Errorf("a host of the table: %v", err)
	}
	for _, name := range []string{"b.example", "other.example"} {
		if err := shake(name); err == nil {
			t.Errorf("%s got a certificate", name)
		}
	}
}

// TestHandlersRest: handlers that nobody uses go, and come back.
func TestHandlersRest(t *testing.T) {
	p := startProxy(t)
	p.put(says("a", "a.example", "one"))
	p.serves("a.example", 200, "one")
	e := theApp(t).table.Load().lookup("a.example")
	e.rest(time.Now().Add(idleTime / 2))
	if e.chain[plain] == nil {
		t.Error("gone too early")
	}
	e.rest(time.Now().Add(2 * idleTime))
	if e.chain[plain] != nil {
		t.Error("still there")
	}
	p.serves("a.example", 200, "one")
}

// TestManyNewLines: they are not all tried out at once, but what is wrong with one is told
// without anybody asking for it, and what was tried does not stay in memory.
func TestManyNewLines(t *testing.T) {
	p := startProxy(t)
	lines := make([]string, 2*tryAtOnce)
	for i := range lines {
		lines[i] = says(fmt.Sprint("v", i), fmt.Sprintf("v%d.example", i), "one")
	}
	lines[len(lines)-2] = `{"id":"bad","hosts":["bad.example"],"http":[{"handle":[{"handler":"no_such_handler"}]}]}`
	p.put(lines...)
	p.serves("v7.example", 200, "one")
	p.until("told", func() bool { return strings.Contains(p.report(), `bad: "`) })
	e := theApp(t).table.Load().lookup("v9.example")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.chain[plain] != nil {
		t.Error("the handlers of a host that nobody asked for stayed")
	}
}

// TestDirectoryMadeAnew: the table is followed into another directory of the same name, even
// when the new file has the size and the time of the old one.
func TestDirectoryMadeAnew(t *testing.T) {
	p := startProxy(t)
	write := func(body string) {
		t.Helper()
		p.write(text("1", says("a", "a.example", body)))
		if err := os.Chtimes(p.file, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	answers := func(want string) func() bool {
		return func() bool { _, body := p.get("a.example", "/"); return body == want }
	}
	write("one")
	p.until("the first", answers("one"))
	dir := filepath.Dir(p.file)
	for _, body := range []string{"two", "six"} {
		if err := os.Rename(dir, dir+"."+body); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(body)
		p.until(body, answers(body))
	}
}
