// Command nameserver is the name server of the test of certificates by ACME: one zone, in which every
// name has the address 127.0.0.1, and TXT records that come by signed updates (RFC 2136).
//
//	nameserver -listen 127.0.0.1:5353 -zone example.test -key-name acme.example.test -key BASE64
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

type zone struct {
	name string
	mu   sync.Mutex
	txt  map[string][]string
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	name := flag.String("zone", "example.test", "zone")
	keyName := flag.String("key-name", "", "name of the TSIG key")
	key := flag.String("key", "", "the TSIG key in base64")
	flag.Parse()
	z := &zone{name: dns.Fqdn(*name), txt: map[string][]string{}}
	secrets := map[string]string{dns.Fqdn(*keyName): *key}
	packets, err := net.ListenPacket("udp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	accept := func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
	go func() {
		log.Fatal((&dns.Server{PacketConn: packets, Handler: z, TsigSecret: secrets, MsgAcceptFunc: accept}).ActivateAndServe())
	}()
	fmt.Println(packets.LocalAddr())
	log.Fatal((&dns.Server{Listener: streams, Handler: z, TsigSecret: secrets, MsgAcceptFunc: accept}).ActivateAndServe())
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	switch {
	case r.Opcode == dns.OpcodeUpdate:
		z.update(w, r, m)
	case len(r.Question) != 1 || !dns.IsSubDomain(z.name, strings.ToLower(r.Question[0].Name)):
		m.Rcode = dns.RcodeRefused
	default:
		z.answer(r.Question[0], m)
	}
	if err := w.WriteMsg(m); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (z *zone) update(w dns.ResponseWriter, r, m *dns.Msg) {
	sig := r.IsTsig()
	if sig == nil || w.TsigStatus() != nil {
		m.Rcode = dns.RcodeNotAuth
		return
	}
	for _, rr := range r.Ns {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			m.Rcode = dns.RcodeRefused
			return
		}
		name, text := strings.ToLower(txt.Hdr.Name), strings.Join(txt.Txt, "")
		z.txt[name] = slices.DeleteFunc(z.txt[name], func(s string) bool { return s == text })
		if txt.Hdr.Class != dns.ClassNONE {
			z.txt[name] = append(z.txt[name], text)
		}
		fmt.Fprintln(os.Stderr, "update", txt)
	}
	m.SetTsig(sig.Hdr.Name, sig.Algorithm, sig.Fudge, time.Now().Unix())
}

func (z *zone) answer(q dns.Question, m *dns.Msg) {
	name := strings.ToLower(q.Name)
	head := func(kind uint16, of string) dns.RR_Header {
		return dns.RR_Header{Name: of, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
	}
	soa := &dns.SOA{Hdr: head(dns.TypeSOA, z.name), Ns: "ns." + z.name, Mbox: "root." + z.name, Serial: 1, Refresh: 60, Retry: 60, Expire: 600, Minttl: 1}
	switch {
	case q.Qtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: head(dns.TypeA, q.Name), A: net.IPv4(127, 0, 0, 1)})
	case q.Qtype == dns.TypeSOA && name == z.name:
		m.Answer = append(m.Answer, soa)
	case q.Qtype == dns.TypeNS && name == z.name:
		m.Answer = append(m.Answer, &dns.NS{Hdr: head(dns.TypeNS, z.name), Ns: "ns." + z.name})
	case q.Qtype == dns.TypeTXT && len(z.txt[name]) > 0:
		for _, text := range z.txt[name] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head(dns.TypeTXT, q.Name), Txt: []string{text}})
		}
	default:
		m.Ns = append(m.Ns, soa)
	}
}
