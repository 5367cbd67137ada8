package vhosts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a table.
const (
	maxTableBytes = 64 << 20
	maxLineBytes  = 8 << 20
	maxIDBytes    = 256
	maxEntries    = 50_000
	maxHosts      = 256 // of one entry
	maxHostBytes  = 253
	maxProblems   = maxTold
)

// header is the first line of a table.
type header struct {
	Entries int    `json:"entries"`
	Version string `json:"version"`
	Check   string `json:"check"`
}

// line is one virtual host.
type line struct {
	ID    string          `json:"id"`
	Hosts []string        `json:"hosts"`
	HTTP  json.RawMessage `json:"http"`
	HTTPS json.RawMessage `json:"https"`
	TLS   bool            `json:"tls"`
}

// table is one reading of the file. It does not change.
type table struct {
	header
	entries  []*entry
	hosts    map[string]*entry // whole names, and *.NAME
	problems []string
}

var errNotWhole = errors.New("the table is not whole")

// parse reads a table. Lines that old has too keep their entry; fresh makes one of the others.
// An error means that nothing of the table can be trusted.
func parse(data []byte, old *table, fresh func(raw string, l line) *entry) (*table, error) {
	if len(data) > maxTableBytes {
		return nil, fmt.Errorf("the table has more than %d bytes", maxTableBytes)
	}
	first, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("%w: it has no first line", errNotWhole)
	}
	t := &table{}
	if err := json.Unmarshal(first, &t.header); err != nil {
		return nil, fmt.Errorf("first line of the table: %w", err)
	}
	if t.Entries < 0 || t.Entries > maxEntries {
		return nil, fmt.Errorf("the table has %d entries, allowed are %d", t.Entries, maxEntries)
	}
	if n := bytes.Count(rest, []byte("\n")); n != t.Entries || len(rest) > 0 && rest[len(rest)-1] != '\n' {
		return nil, fmt.Errorf("%w: it has %d lines of %d", errNotWhole, n, t.Entries)
	}
	known := map[string]*entry{}
	if old != nil {
		known = make(map[string]*entry, len(old.entries))
		for _, e := range old.entries {
			known[e.raw] = e
		}
	}
	t.hosts = make(map[string]*entry, t.Entries)
	t.entries = make([]*entry, 0, t.Entries)
	for number := 2; len(rest) > 0; number++ {
		var raw []byte
		raw, rest, _ = bytes.Cut(rest, []byte("\n"))
		e := known[string(raw)] // the compiler makes no copy for a look-up
		if e == nil {
			l, err := parseLine(raw)
			if err != nil {
				t.problem("line %d: %q", number, err.Error())
				continue
			}
			e = fresh(string(raw), l)
		}
		t.add(e)
	}
	return t, nil
}

// add takes an entry's hosts; one that an earlier entry has stays there.
func (t *table) add(e *entry) {
	t.entries = append(t.entries, e)
	for _, host := range e.hosts {
		if other := t.hosts[host]; other != nil {
			t.problem("%s: the host %s is %s's", e.id, host, other.id)
			continue
		}
		t.hosts[host] = e
	}
}

func (t *table) problem(format string, args ...any) {
	if len(t.problems) < maxProblems {
		t.problems = append(t.problems, fmt.Sprintf(format, args...))
	}
}

func parseLine(raw []byte) (line, error) {
	var l line
	if len(raw) > maxLineBytes {
		return l, fmt.Errorf("%d bytes, allowed are %d", len(raw), maxLineBytes)
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return l, err
	}
	if l.ID == "" || len(l.ID) > maxIDBytes || !graphic(l.ID) || len(l.Hosts) == 0 || len(l.Hosts) > maxHosts {
		return l, fmt.Errorf("an entry has an id of up to %d characters and 1 to %d hosts; found the id %.80q and %d hosts", maxIDBytes, maxHosts, l.ID, len(l.Hosts))
	}
	for i, host := range l.Hosts {
		if host == "" || len(host) > maxHostBytes || !graphic(host) || strings.ContainsAny(host, "/:") {
			return l, fmt.Errorf("%s: %.80q is no host name", l.ID, host)
		}
		l.Hosts[i] = strings.ToLower(host)
	}
	return l, nil
}

// graphic tells whether a text is ASCII without spaces and control characters, so that it can
// stand in a line of a report.
func graphic(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// lookup finds the entry of a host name in lower case: its own, or that of its wildcard.
func (t *table) lookup(host string) *entry {
	if e := t.hosts[host]; e != nil {
		return e
	}
	if _, parent, ok := strings.Cut(host, "."); ok {
		return t.hosts["*."+parent]
	}
	return nil
}
