package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// onUplink calls a function that opens a socket, with the node's network around it. The socket
// stays there; the thread is given up, for nothing else of the test may run on it.
func (d *daemon) onUplink(open func() error) {
	d.t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.Node.PID))
		if err != nil {
			result <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter the node's network: %w", err)
			return
		}
		result <- open()
	}()
	if err := <-result; err != nil {
		d.t.Fatal(err)
	}
}

// question is what is asked of a name server, from an address of the node.
type question struct {
	from, network, name string
	kind                dnsmessage.Type
}

// ask returns the answer of a name server. A server that does not answer is an error.
func (d *daemon) ask(server string, q question) (*dnsmessage.Message, error) {
	d.t.Helper()
	var conn net.Conn
	var failed error
	d.onUplink(func() error {
		dialer := net.Dialer{Timeout: time.Second}
		if q.network == "tcp" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(q.from)}
		} else {
			dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(q.from)}
		}
		conn, failed = dialer.Dial(q.network, net.JoinHostPort(server, "53"))
		return nil
	})
	if failed != nil {
		return nil, failed
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	wire, err := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(q.name + "."), Type: q.kind, Class: dnsmessage.ClassINET}},
	}).Pack()
	if err != nil {
		return nil, err
	}
	if q.network == "tcp" {
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return nil, err
	}
	answer = answer[:n]
	if q.network == "tcp" {
		if n < 2 {
			return nil, io.ErrUnexpectedEOF
		}
		rest := make([]byte, int(binary.BigEndian.Uint16(answer))-(n-2))
		if _, err := io.ReadFull(conn, rest); err != nil {
			return nil, err
		}
		answer = append(answer[2:], rest...)
	}
	var m dnsmessage.Message
	return &m, m.Unpack(answer)
}

// said is an answer in one word, or a few.
func said(m *dnsmessage.Message) string {
	if m.RCode != dnsmessage.RCodeSuccess {
		return strings.TrimPrefix(m.RCode.String(), "RCode")
	}
	var all []string
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, net.IP(body.A[:]).String())
		case *dnsmessage.PTRResource:
			all = append(all, strings.TrimSuffix(body.PTR.String(), "."))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// namesOnTheUplink asks the appliance for names from where its uplink is: it answers for its zone
// alone, and only those who were declared.
func (d *daemon) namesOnTheUplink(t *testing.T, wan string) {
	const stranger = "192.168.50.77" // on the same network as the node, and so an answer would arrive
	if r := d.inNode("ip", "address", "add", stranger+"/24", "dev", "vmbr0"); r.code != 0 {
		t.Fatalf("another address of the node: %s", r.err)
	}
	defer d.inNode("ip", "address", "del", stranger+"/24", "dev", "vmbr0")
	allow := func(ranges ...any) {
		d.patch(apl, map[string]any{"dns": map[string]any{"wan": map[string]any{"allowFrom": ranges}}})
	}
	answered := func(from string) bool {
		m, err := d.ask(wan, question{from, "udp", host, dnsmessage.TypeA})
		return err == nil && said(m) == wan
	}
	eventually(t, "a neighbour is answered", func() bool { return answered(stranger) })
	allow(nodeIP + "/32")
	eventually(t, "a neighbour is not answered any more", func() bool { return !answered(stranger) })

	address, _ := field(d.object(app), "status", "address").(string)
	reverse := strings.Split(address, ".")
	slices.Reverse(reverse)
	const a = dnsmessage.TypeA
	for what, tc := range map[string]struct {
		q    question
		want string
	}{
		"a Vhost's name leads to the proxy": {question{nodeIP, "udp", host, a}, wan},
		"over TCP too":                      {question{nodeIP, "tcp", host, a}, wan},
		"a guest's own name":                {question{nodeIP, "udp", "nginx-01.lan.prox.local", a}, address},
		"its address":                       {question{nodeIP, "udp", strings.Join(reverse, ".") + ".in-addr.arpa", dnsmessage.TypePTR}, "nginx-01.lan.prox.local"},
		"a name that nobody has":            {question{nodeIP, "udp", "nobody.prox.local", a}, "NameError"},
		"no recursion":                      {question{nodeIP, "udp", "www.internet.test", a}, "Refused"},
		"no recursion over TCP":             {question{nodeIP, "tcp", "www.internet.test", a}, "Refused"},
	} {
		m, err := d.ask(wan, tc.q)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if got := said(m); got != tc.want {
			t.Errorf("%s: %s, want %s", what, got, tc.want)
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{host, "www.internet.test"} {
			if m, err := d.ask(wan, question{stranger, network, name, a}); err == nil {
				t.Errorf("%s for %s, from an address that was not declared: %s", network, name, said(m))
			}
		}
	}
	if got := d.inGuest(d.vmid(app), "getent", "ahostsv4", "www.internet.test").out; got == "" {
		t.Error("guests do not get names of the internet")
	}
	allow(nodeIP+"/32", stranger+"/32")
	eventually(t, "who is declared too is answered", func() bool { return answered(stranger) })
}

// parrot is a server beside the node that speaks first and then says whatever it is told; it
// counts those who are there.
type parrot struct{ listening atomic.Int32 }

func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.URL.Path != "/talk" {
		http.NotFound(w, r)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	p.listening.Add(1)
	defer p.listening.Add(-1)
	conn.SetReadLimit(1 << 20)
	err = conn.Write(r.Context(), websocket.MessageText, []byte("hello "+r.Host+" by "+r.Header.Get("X-Forwarded-Proto")))
	for err == nil {
		var kind websocket.MessageType
		var data []byte
		if kind, data, err = conn.Read(r.Context()); err == nil {
			err = conn.Write(r.Context(), kind, data)
		}
	}
}

// websocket has a name lead to a server beside the node, and talks to it through the proxy, in
// both directions, while the proxy gets another configuration.
func (d *daemon) websocket(t *testing.T) {
	const name, backend = "talk.prox.local", nodeIP + ":8090"
	var listener net.Listener
	d.onUplink(func() (err error) {
		listener, err = net.Listen("tcp", backend)
		return err
	})
	server := &parrot{}
	web := &http.Server{Handler: server, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(listener) }() // until it is closed
	defer web.Close()
	vhost := strings.Replace(vhostYAML("talk", name), "10.30.0.9:80", backend, 1)
	if r := d.proxctlIn(vhost, "apply", "-f", "-"); r.code != 0 {
		t.Fatalf("apply: %s", r.err)
	}
	defer d.must("delete", "vhost/talk")
	d.must("wait", "--for=condition=Programmed", "vhost/talk", "--timeout=60s")

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(d.must("ca")))
	through := map[string]string{"ws": d.Forward, "wss": d.ForwardTLS}
	client := func(address string) *http.Client {
		return &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := map[string]*websocket.Conn{}
	say := func(scheme string, kind websocket.MessageType, text string) {
		t.Helper()
		if err := open[scheme].Write(ctx, kind, []byte(text)); err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		if got, data, err := open[scheme].Read(ctx); err != nil || got != kind || string(data) != text {
			t.Fatalf("%s: %d bytes went, %s with %d bytes came: %v", scheme, len(text), got, len(data), err)
		}
	}
	long := strings.Repeat("\x00\xff0123456789abcdef", 8<<10)
	for scheme, proto := range map[string]string{"ws": "http", "wss": "https"} {
		conn, _, err := websocket.Dial(ctx, scheme+"://"+name+"/talk", &websocket.DialOptions{HTTPClient: client(through[scheme])})
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		defer conn.CloseNow()
		conn.SetReadLimit(1 << 20)
		open[scheme] = conn
		if _, data, err := conn.Read(ctx); err != nil || string(data) != "hello "+name+" by "+proto {
			t.Fatalf("%s: the server speaks first: %q, %v", scheme, data, err)
		}
		say(scheme, websocket.MessageText, "how are you")
		say(scheme, websocket.MessageBinary, long)
	}
	d.patch("vhost/"+host, map[string]any{"responseHeaders": map[string]any{"set": map[string]any{"X-Changed": "yes"}}})
	eventually(t, "another name is served in another way", func() bool {
		r := d.inNode("curl", "-sS", "-I", "--max-time", "3", "--resolve", host+":80:"+d.wan(), "http://"+host+"/")
		return strings.Contains(strings.ToLower(r.out), "x-changed: yes")
	})
	for scheme, conn := range open {
		say(scheme, websocket.MessageText, "still there")
		if err := conn.Close(websocket.StatusNormalClosure, "that is all"); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
	eventually(t, "the server is told that they went", func() bool { return server.listening.Load() == 0 })
}
