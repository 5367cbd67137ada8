// Package trail is the audit trail: a journal of files with everything that happened, each
// entry chained to the one before by its hash, so that nothing can be changed, left out or
// put in between without its being seen.
//
// # What is in it
//
// Changes of objects come from the store, which makes a record of each in the change's own
// transaction (package audit): Follow copies them, in the order of their revisions, each
// once, also across crashes. What changes no object (logins, refusals, secrets that were
// read, consoles) is noted directly. Nobody who writes an object waits for the trail.
//
// # Form
//
// A file is lines of JSON, trail-<first sequence number>.jsonl:
//
//	{"hash":"<h>","seq":7,"prev":"<hash of entry 6>","time":...,"type":"change",...}
//
// hash is the SHA-256, in hex, of the line without its first field. The first entry of all
// has an empty prev. Old files are removed as a whole; the oldest that is left tells by its prev
// what was before it. Whoever can write the files could make the whole chain anew: keep a
// head elsewhere (forwarding does), and give it to Verify.
//
// # Crashes
//
// Entries are synced before Record returns, and before their revision counts as copied. A
// line that a crash cut off is removed at the next start: it was not acknowledged.
package trail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
)

// Types of entries besides those of audit events.
const (
	TypeChange = "change"
	// TypeStart is the first entry of a daemon's run, TypeDropped tells how many events were
	// not kept one by one.
	TypeStart   = "start"
	TypeDropped = "dropped"
)

// Entry is a line of the trail.
type Entry struct {
	Seq  uint64 `json:"seq"`
	Prev string `json:"prev"`
	Time string `json:"time"` // RFC 3339 with fractions, UTC
	Type string `json:"type"`

	IdentityType string `json:"identityType,omitempty"`
	Identity     string `json:"identity,omitempty"`
	Surface      string `json:"surface,omitempty"`
	Peer         string `json:"peer,omitempty"`
	Request      string `json:"requestID,omitempty"`
	Route        string `json:"route,omitempty"`
	Verb         string `json:"verb,omitempty"`
	Kind         string `json:"kind,omitempty"`
	Namespace    string `json:"namespace,omitempty"`
	Name         string `json:"name,omitempty"`
	UID          string `json:"uid,omitempty"`
	Result       string `json:"result,omitempty"`
	Reason       string `json:"reason,omitempty"`

	Revision uint64   `json:"revision,omitempty"`
	Effect   string   `json:"effect,omitempty"`
	Manager  string   `json:"fieldManager,omitempty"`
	Fields   []string `json:"fields,omitempty"`
	// Before and After are values by the paths of fields; one that was not set is missing.
	Before      map[string]string `json:"before,omitempty"`
	After       map[string]string `json:"after,omitempty"`
	GitRevision string            `json:"gitRevision,omitempty"`
	Count       uint64            `json:"count,omitempty"`
}

// maxText bounds a text of an entry, in bytes.
const maxText = 1024

func bounded(s string) string {
	if len(s) > maxText {
		return s[:maxText-3] + "..."
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func ofEvent(e audit.Event) Entry {
	return Entry{Time: stamp(e.Time), Type: e.Type, IdentityType: e.Origin.Type, Identity: bounded(e.Origin.Identity), Surface: e.Origin.Surface,
		Peer: e.Origin.Peer, Request: e.Origin.Request, Route: bounded(e.Route), Verb: e.Verb, Kind: bounded(e.Kind), Namespace: bounded(e.Namespace),
		Name: bounded(e.Name), Result: e.Result, Reason: bounded(e.Reason)}
}

func ofRecord(r *audit.Record) Entry {
	e := Entry{Time: stamp(r.Time), Type: TypeChange, IdentityType: r.Type, Identity: r.Identity, Surface: r.Surface, Peer: r.Peer, Request: r.Request,
		Verb: r.Verb, Kind: r.Key.Kind, Namespace: r.Key.Namespace, Name: r.Key.Name, UID: r.UID, Result: audit.ResultOK,
		Revision: r.Revision, Effect: r.Effect.String(), Manager: r.Manager, Fields: r.Fields,
		GitRevision: r.GitRevision}
	for _, v := range r.Values {
		put := func(m *map[string]string, text *string) {
			if text == nil {
				return
			}
			if *m == nil {
				*m = map[string]string{}
			}
			(*m)[v.Path] = *text
		}
		put(&e.Before, v.Before)
		put(&e.After, v.After)
	}
	return e
}

const hashPrefix = `{"hash":"`

// encode appends the line of an entry and returns its hash.
func encode(b []byte, e *Entry) (line []byte, hash string, err error) {
	body, err := json.Marshal(e)
	if err != nil {
		return b, "", fmt.Errorf("encode an audit entry: %w", err)
	}
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	b = append(b, hashPrefix...)
	b = append(b, hash...)
	b = append(b, '"', ',')
	b = append(b, body[1:]...)
	return append(b, '\n'), hash, nil
}

var errDamaged = errors.New("not an entry of an audit trail")

// Decode reads a line and checks its own hash.
func Decode(line []byte) (e *Entry, hash string, err error) {
	const hexBytes = 2 * sha256.Size
	line = bytes.TrimRight(line, "\n")
	if len(line) < len(hashPrefix)+hexBytes+2 || string(line[:len(hashPrefix)]) != hashPrefix {
		return nil, "", errDamaged
	}
	hash = string(line[len(hashPrefix) : len(hashPrefix)+hexBytes])
	rest := line[len(hashPrefix)+hexBytes:]
	if !bytes.HasPrefix(rest, []byte(`",`)) {
		return nil, "", errDamaged
	}
	body := append([]byte{'{'}, rest[2:]...)
	sum := sha256.Sum256(body)
	if hex.EncodeToString(sum[:]) != hash {
		return nil, "", fmt.Errorf("%w: its hash is another one", errDamaged)
	}
	e = &Entry{}
	if err := json.Unmarshal(body, e); err != nil {
		return nil, "", errDamaged
	}
	return e, hash, nil
}
