package vhosts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	disputed bool              // some host is claimed more than once
	problems []string
}

var errNotWhole = errors.New("the table is not whole")

// change is how a table differs from the one before.
type change struct {
	fresh, gone []*entry
}

// parse reads a table. Lines that old has too keep their entry. An error means that nothing of
// the table can be trusted.
//
// What it costs is a matter of what changed, as far as that can be: lines at the beginning and
// the end that are as before are compared, and neither hashed nor read.
func parse(data []byte, old *table) (*table, change, error) {
	t := &table{}
	lines, err := t.split(data)
	if err != nil {
		return nil, change{}, err
	}
	first, last := 0, 0 // entries before and behind what changed
	for first < len(lines) && first < len(old.entries) && old.entries[first].raw == string(lines[first]) {
		first++
	}
	for last < len(lines)-first && last < len(old.entries)-first &&
		old.entries[len(old.entries)-1-last].raw == string(lines[len(lines)-1-last]) {
		last++
	}
	was := old.entries[first : len(old.entries)-last]
	now, c := t.read(lines[first:len(lines)-last], was, first+2)
	t.entries = slices.Concat(old.entries[:first], now, old.entries[len(old.entries)-last:])
	t.assign(old, was, now)
	return t, c, nil
}

// split reads the first line and returns the others.
func (t *table) split(data []byte) ([][]byte, error) {
	if len(data) > maxTableBytes {
		return nil, fmt.Errorf("the table has more than %d bytes", maxTableBytes)
	}
	first, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("%w: it has no first line", errNotWhole)
	}
	if err := json.Unmarshal(first, &t.header); err != nil {
		return nil, fmt.Errorf("first line of the table: %w", err)
	}
	if t.Entries < 0 || t.Entries > maxEntries {
		return nil, fmt.Errorf("the table has %d entries, allowed are %d", t.Entries, maxEntries)
	}
	if n := bytes.Count(rest, []byte("\n")); n != t.Entries || len(rest) > 0 && rest[len(rest)-1] != '\n' {
		return nil, fmt.Errorf("%w: it has %d lines of %d", errNotWhole, n, t.Entries)
	}
	lines := make([][]byte, t.Entries)
	for i := range lines {
		lines[i], rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	return lines, nil
}

// read makes entries of lines, the first of which has a number in the file, out of those that
// were in their place.
func (t *table) read(lines [][]byte, was []*entry, number int) (now []*entry, c change) {
	known := make(map[string]*entry, len(was))
	for _, e := range was {
		known[e.raw] = e
	}
	stays := make(map[*entry]bool, len(lines))
	now = make([]*entry, 0, len(lines))
	for i, raw := range lines {
		e := known[string(raw)] // the compiler makes no copy for a look-up
		if e == nil {
			l, err := parseLine(raw)
			if err != nil {
				t.problem("line %d: %q", number+i, err.Error())
				continue
			}
			e = newEntry(string(raw), l)
			known[e.raw] = e // a line that comes twice is one entry
			c.fresh = append(c.fresh, e)
		}
		stays[e] = true
		now = append(now, e)
	}
	for _, e := range was {
		if !stays[e] {
			c.gone = append(c.gone, e)
		}
	}
	return now, c
}

// assign says which host is whose: from the table before, as long as no host is claimed twice,
// else from the first line to the last.
func (t *table) assign(old *table, was, now []*entry) {
	if !old.disputed && old.hosts != nil {
		t.hosts = maps.Clone(old.hosts)
		for _, e := range was {
			for _, host := range e.hosts {
				delete(t.hosts, host)
			}
		}
		if t.claim(now, nil) {
			return
		}
	}
	t.hosts = make(map[string]*entry, len(t.entries))
	t.disputed = !t.claim(t.entries, t.problem)
}

// claim gives entries their hosts. It stops at the first host that another has, or, when told
// where to tell, leaves it to that one and goes on.
func (t *table) claim(entries []*entry, tell func(string, ...any)) (ok bool) {
	ok = true
	for _, e := range entries {
		for _, host := range e.hosts {
			if other := t.hosts[host]; other != nil {
				if ok = false; tell == nil {
					return false
				}
				tell("%s: the host %s is %s's", e.id, host, other.id)
				continue
			}
			t.hosts[host] = e
		}
	}
	return ok
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
