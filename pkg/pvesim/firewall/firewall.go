// Package firewall keeps the firewall configuration of the simulated cluster: options,
// rules, aliases, IP sets and security groups of the datacenter, its nodes, guests and
// virtual networks, with the checks and texts of PVE::Firewall. It filters no packets: a
// rule that is accepted here changes nothing in a guest's network.
package firewall

import (
	"crypto/sha1" //nolint:gosec // the digest of the real API
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
)

// Refusal is a refused parameter; Param is "" for an error that names none.
type Refusal struct{ Param, Text string }

func (r *Refusal) Error() string { return r.Text }

func refuse(param, format string, args ...any) error {
	return &Refusal{Param: param, Text: fmt.Sprintf(format, args...)}
}

// Rule is one rule by the names of the API (type, action, macro, source, dport...).
type Rule map[string]string

// Alias is a named address or network.
type Alias struct {
	Name    string `json:"name"`
	CIDR    string `json:"cidr"`
	Comment string `json:"comment,omitempty"`
}

// Entry is one address of a set.
type Entry struct {
	CIDR    string `json:"cidr"`
	NoMatch bool   `json:"nomatch,omitempty"`
	Comment string `json:"comment,omitempty"`
}

// IPSet is a named set of addresses, the newest first.
type IPSet struct {
	Comment string  `json:"comment,omitempty"`
	Entries []Entry `json:"entries,omitempty"`
}

// Group is a named list of rules, which other rules use.
type Group struct {
	Comment string `json:"comment,omitempty"`
	Rules   []Rule `json:"rules,omitempty"`
}

// Scope is one firewall file: of the datacenter, of a node, a guest or a virtual network.
type Scope struct {
	Options map[string]string `json:"options,omitempty"`
	Rules   []Rule            `json:"rules,omitempty"`
	Aliases map[string]Alias  `json:"aliases,omitempty"` // by name in lower case
	IPSets  map[string]*IPSet `json:"ipsets,omitempty"`
	Groups  map[string]*Group `json:"groups,omitempty"` // of the datacenter only
}

// Datacenter is the name of the scope that all others see.
const Datacenter = "cluster"

// Guest, Node and VNet name the other scopes.
func Guest(vmid string) string { return "guest/" + vmid }
func Node(name string) string  { return "node/" + name }
func VNet(id string) string    { return "vnet/" + id }

// Store is safe for concurrent use.
type Store struct {
	save func([]byte) error

	mu     sync.Mutex
	scopes map[string]*Scope
}

// Open reads the store from a file; save must write it atomically. A file that does not
// exist is an empty store.
func Open(file string, save func([]byte) error) (*Store, error) {
	s := &Store{save: save, scopes: map[string]*Scope{}}
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("firewall: %w", err)
	}
	if err := json.Unmarshal(raw, &s.scopes); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// View runs fn on a scope and on the datacenter's, which are not to be changed.
func (s *Store) View(name string, fn func(scope, datacenter *Scope)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s.scope(name), s.scope(Datacenter))
}

// Change runs fn and writes the file if it returns no error. fn must not change anything
// when it does.
func (s *Store) Change(name string, fn func(scope, datacenter *Scope) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := fn(s.scope(name), s.scope(Datacenter)); err != nil {
		return err
	}
	return s.write()
}

// Drop forgets a scope, of a destroyed guest.
func (s *Store) Drop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.scopes[name]; !ok {
		return nil
	}
	delete(s.scopes, name)
	return s.write()
}

// Copy makes one scope like another, as a clone of a guest does.
func (s *Store) Copy(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.scopes[from]
	if !ok {
		return nil
	}
	raw, err := json.Marshal(old)
	if err != nil {
		return err
	}
	next := &Scope{}
	if err := json.Unmarshal(raw, next); err != nil {
		return err
	}
	s.scopes[to] = next
	return s.write()
}

func (s *Store) write() error {
	raw, err := json.MarshalIndent(s.scopes, "", "  ")
	if err != nil {
		return err
	}
	return s.save(raw)
}

func (s *Store) scope(name string) *Scope {
	sc := s.scopes[name]
	if sc == nil {
		sc = &Scope{}
		s.scopes[name] = sc
	}
	for _, m := range []*map[string]string{&sc.Options} {
		if *m == nil {
			*m = map[string]string{}
		}
	}
	if sc.Aliases == nil {
		sc.Aliases = map[string]Alias{}
	}
	if sc.IPSets == nil {
		sc.IPSets = map[string]*IPSet{}
	}
	if sc.Groups == nil {
		sc.Groups = map[string]*Group{}
	}
	return sc
}

// RenameGroup changes the name of a group in every rule that uses it.
func (s *Store) RenameGroup(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sc := range s.scopes {
		for _, r := range sc.Rules {
			if r["type"] == "group" && r["action"] == from {
				r["action"] = to
			}
		}
	}
	return s.write()
}

// Digest is what the API calls the digest of objects: the SHA-1 of key:value lines
// (PVE::Firewall, copy_list_with_digest).
func Digest(list ...map[string]string) string {
	h := sha1.New() //nolint:gosec // see above
	for _, o := range list {
		for _, key := range slices.Sorted(maps.Keys(o)) {
			fmt.Fprintf(h, "%s:%s\n", key, o[key])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
