// Package rfc2136 is a Caddy module that puts the records of ACME's DNS challenge into a zone
// by dynamic update (RFC 2136), signed with a TSIG key (RFC 8945): the one way that every
// name server of one's own has, and the only one for names that the internet cannot reach.
//
//	{"name": "proximity_rfc2136", "server": "192.0.2.53:53", "key_name": "acme.example.org",
//	 "algorithm": "hmac-sha256", "key": "BASE64"}
//
// # Contract
//
//   - Only TXT records are changed, and only the one that was asked for: others of the same
//     name stay.
//   - An answer that is not signed with the key counts for nothing.
//   - Each change is one message over TCP, bounded by the context and by changeTime.
package rfc2136

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

const (
	// changeTime bounds one change.
	changeTime = 15 * time.Second
	// fudge is how far the clocks of both sides may be apart, in seconds (RFC 8945 10).
	fudge = 300
	// defaultTTL is that of a record for which none is said: a challenge lives for a minute.
	defaultTTL = 60
)

func init() { caddy.RegisterModule(new(Provider)) }

// Provider changes records of a name server.
type Provider struct {
	// Server is host:port.
	Server string `json:"server"`
	// KeyName is the name of the TSIG key.
	KeyName string `json:"key_name"`
	// Algorithm is hmac-sha256, hmac-sha384, hmac-sha512 or hmac-sha1.
	Algorithm string `json:"algorithm"`
	// Key is the key in base64.
	Key string `json:"key"`
}

// CaddyModule implements caddy.Module.
func (*Provider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "dns.providers.proximity_rfc2136", New: func() caddy.Module { return new(Provider) }}
}

// algorithms are those of a TSIG record, by their names in a configuration.
var algorithms = map[string]string{
	"hmac-sha1": dns.HmacSHA1, "hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512,
}

// Provision checks the configuration. Nothing of the key gets into an error.
func (p *Provider) Provision(caddy.Context) error {
	if _, _, err := net.SplitHostPort(p.Server); err != nil {
		return fmt.Errorf("%s: server: host:port is needed, found %q", moduleName, p.Server)
	}
	if _, ok := dns.IsDomainName(p.KeyName); !ok || p.KeyName == "" {
		return fmt.Errorf("%s: key_name: a DNS name is needed, found %q", moduleName, p.KeyName)
	}
	if algorithms[p.Algorithm] == "" {
		return fmt.Errorf("%s: algorithm: %q is not hmac-sha1, hmac-sha256, hmac-sha384 or hmac-sha512", moduleName, p.Algorithm)
	}
	if _, err := base64.StdEncoding.DecodeString(p.Key); err != nil || p.Key == "" {
		return fmt.Errorf("%s: key: base64 is needed", moduleName)
	}
	return nil
}

const moduleName = "proximity_rfc2136"

// AppendRecords implements libdns.RecordAppender.
func (p *Provider) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, p.change(ctx, zone, records, (*dns.Msg).Insert)
}

// DeleteRecords implements libdns.RecordDeleter. What is not there is no error (RFC 2136 3.4.2.4).
func (p *Provider) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, p.change(ctx, zone, records, (*dns.Msg).Remove)
}

func (p *Provider) change(ctx context.Context, zone string, records []libdns.Record, add func(*dns.Msg, []dns.RR)) error {
	zone = dns.Fqdn(zone)
	m := new(dns.Msg).SetUpdate(zone)
	for _, r := range records {
		rr, err := text(zone, r.RR())
		if err != nil {
			return err
		}
		add(m, []dns.RR{rr})
	}
	key := dns.CanonicalName(p.KeyName)
	m.SetTsig(key, algorithms[p.Algorithm], fudge, time.Now().Unix())
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	client := &dns.Client{Net: "tcp", Timeout: changeTime, TsigSecret: map[string]string{key: p.Key}}
	answer, _, err := client.ExchangeContext(ctx, m, p.Server)
	if err != nil {
		return fmt.Errorf("change of zone %s at %s: %w", zone, p.Server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("change of zone %s at %s: the server answers %s", zone, p.Server, dns.RcodeToString[answer.Rcode])
	}
	if answer.IsTsig() == nil {
		return fmt.Errorf("change of zone %s at %s: the answer is not signed", zone, p.Server)
	}
	return nil
}

var errNotText = errors.New("only TXT records can be changed")

// text makes the record of a challenge.
func text(zone string, r libdns.RR) (dns.RR, error) {
	if r.Type != "TXT" {
		return nil, fmt.Errorf("%w: found %q", errNotText, r.Type)
	}
	ttl := uint32(defaultTTL)
	if s := int64(r.TTL / time.Second); s > 0 && s < 1<<31 {
		ttl = uint32(s)
	}
	name := libdns.AbsoluteName(r.Name, zone)
	if _, ok := dns.IsDomainName(name); !ok || !dns.IsSubDomain(zone, name) {
		return nil, fmt.Errorf("%q is no name of zone %s", name, zone)
	}
	const longest = 255 // of one string of a TXT record
	var strs []string
	for data := r.Data; data != "" || strs == nil; {
		n := min(longest, len(data))
		strs = append(strs, strings.ReplaceAll(strings.ReplaceAll(data[:n], `\`, `\\`), `"`, `\"`))
		data = data[n:]
	}
	return &dns.TXT{Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl}, Txt: strs}, nil
}

var (
	_ caddy.Provisioner     = (*Provider)(nil)
	_ libdns.RecordAppender = (*Provider)(nil)
	_ libdns.RecordDeleter  = (*Provider)(nil)
)
