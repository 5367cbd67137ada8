package rfc2136

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

const key = "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="

// server is a name server with one zone that takes signed changes.
type server struct {
	mu      sync.Mutex
	records []string // name and text
	rcode   int
	bare    bool // answers without a signature
}

func (s *server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	switch sig := r.IsTsig(); {
	case sig == nil || w.TsigStatus() != nil:
		m.Rcode = dns.RcodeNotAuth
	case s.rcode != 0:
		m.Rcode = s.rcode
	default:
		for _, rr := range r.Ns {
			txt := rr.(*dns.TXT)
			item := txt.Hdr.Name + " " + strings.Join(txt.Txt, "")
			if txt.Hdr.Class == dns.ClassNONE {
				s.records = slices.DeleteFunc(s.records, func(x string) bool { return x == item })
			} else {
				s.records = append(s.records, item)
			}
		}
	}
	if sig := r.IsTsig(); sig != nil && !s.bare && w.TsigStatus() == nil {
		m.SetTsig(sig.Hdr.Name, sig.Algorithm, fudge, time.Now().Unix())
	}
	_ = w.WriteMsg(m) // the client may be gone
}

func (s *server) start(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dns.Server{Listener: l, Handler: s, TsigSecret: map[string]string{"acme.example.": key}, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	go func() { _ = d.ActivateAndServe() }() // ends with the listener
	t.Cleanup(func() { _ = d.Shutdown() })
	return l.Addr().String()
}

func provider(t *testing.T, address, secret string) *Provider {
	t.Helper()
	p := &Provider{Server: address, KeyName: "ACME.example", Algorithm: "hmac-sha256", Key: secret}
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func challenge(name, value string) []libdns.Record {
	return []libdns.Record{libdns.TXT{Name: name, Text: value, TTL: time.Minute}}
}

func TestRecordsComeAndGo(t *testing.T) {
	s := &server{}
	p := provider(t, s.start(t), key)
	ctx := context.Background()
	for _, value := range []string{"one", "two", strings.Repeat("x", 300)} {
		if _, err := p.AppendRecords(ctx, "example.org.", challenge("_acme-challenge.www", value)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.DeleteRecords(ctx, "example.org", challenge("_acme-challenge.www", "one")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DeleteRecords(ctx, "example.org", challenge("_acme-challenge.www", "never there")); err != nil {
		t.Fatal(err)
	}
	want := []string{"_acme-challenge.www.example.org. two", "_acme-challenge.www.example.org. " + strings.Repeat("x", 300)}
	if !slices.Equal(s.records, want) {
		t.Errorf("got %q", s.records)
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	add := func(p *Provider, r ...libdns.Record) error {
		_, err := p.AppendRecords(ctx, "example.org.", r)
		return err
	}
	s := &server{}
	address := s.start(t)
	if err := add(provider(t, address, "b3RoZXIga2V5"), challenge("a", "b")...); err == nil {
		t.Error("a wrong key is taken")
	}
	p := provider(t, address, key)
	if err := add(p, libdns.RR{Name: "a", Type: "A", Data: "192.0.2.1"}); !errors.Is(err, errNotText) {
		t.Errorf("an address: %v", err)
	}
	s.rcode = dns.RcodeRefused
	if err := add(p, challenge("a", "b")...); err == nil || !strings.Contains(err.Error(), "REFUSED") {
		t.Errorf("refused: %v", err)
	}
	s.rcode, s.bare = 0, true
	if err := add(p, challenge("a", "b")...); err == nil {
		t.Error("an answer without a signature counts")
	}
	if err := add(provider(t, "127.0.0.1:1", key), challenge("a", "b")...); err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestProvision(t *testing.T) {
	good := Provider{Server: "192.0.2.1:53", KeyName: "acme", Algorithm: "hmac-sha512", Key: key}
	for name, spoil := range map[string]func(*Provider){
		"server": func(p *Provider) { p.Server = "192.0.2.1" }, "key_name": func(p *Provider) { p.KeyName = "" },
		"algorithm": func(p *Provider) { p.Algorithm = "md5" }, "key:": func(p *Provider) { p.Key = "!" },
	} {
		p := good
		spoil(&p)
		if err := p.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.Provision(caddy.Context{}); err != nil {
		t.Error(err)
	}
}
