package appliancesim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/proximity-pve/proximity/pkg/appliance"
)

// table is what the proxy knows of Vhosts, as the module of cmd/proximity-caddy reads it.
type table struct {
	version, check string
	hosts          map[string]*tableEntry
}

type tableEntry struct {
	ID    string   `json:"id"`
	Hosts []string `json:"hosts"`
	HTTP  []route  `json:"http"`
	HTTPS []route  `json:"https"`
	TLS   bool     `json:"tls"`
}

func parseTable(text []byte) (*table, error) {
	var header struct {
		Entries int    `json:"entries"`
		Version string `json:"version"`
		Check   string `json:"check"`
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if err := json.Unmarshal(first, &header); err != nil {
		return nil, fmt.Errorf("first line of the table: %w", err)
	}
	if n := bytes.Count(rest, []byte("\n")); n != header.Entries {
		return nil, fmt.Errorf("the table is not whole: it has %d lines of %d", n, header.Entries)
	}
	t := &table{version: header.Version, check: header.Check, hosts: make(map[string]*tableEntry, header.Entries)}
	for line := range bytes.Lines(rest) {
		e := &tableEntry{}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(e); err != nil {
			return nil, fmt.Errorf("table: %w", err)
		}
		for _, host := range e.Hosts {
			if t.hosts[host] == nil {
				t.hosts[host] = e
			}
		}
	}
	return t, nil
}

// lookup finds the entry of a host name: its own, or that of its wildcard.
func (t *table) lookup(host string) *tableEntry {
	if e := t.hosts[host]; e != nil {
		return e
	}
	_, parent, _ := strings.Cut(host, ".")
	return t.hosts["*."+parent]
}

// follow is what the watch of the file comes to: a table that cannot be read changes nothing.
func (x *proxy) follow() {
	text, err := x.guest.FS().ReadFile(appliance.TablePath)
	if err != nil {
		return
	}
	if t, err := parseTable(text); err == nil {
		x.table.Store(t)
	}
}

// serveTable is false when the host is not in the table.
func (x *proxy) serveTable(w http.ResponseWriter, r *http.Request) bool {
	t, host := x.table.Load(), strings.ToLower(hostname(r))
	if e := t.lookup(host); e != nil {
		routes := e.HTTP
		if r.TLS != nil {
			routes = e.HTTPS
		}
		return x.routes(w, r, routes)
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if t.check == "" || host != t.check || err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	_, _ = fmt.Fprintln(w, t.version) // the client may be gone
	return true
}

// certified tells whether a name gets a certificate.
func (x *proxy) certified(name string) bool {
	if e := x.table.Load().lookup(name); e != nil && e.TLS {
		return true
	}
	return containsFold(x.config.Load().Apps.TLS.Certificates.Automate, name)
}
