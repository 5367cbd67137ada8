// Package sdn keeps the software-defined network of the simulated cluster: zones, virtual
// networks, subnets and addresses, each as it is declared and as it was last applied, with
// the checks and texts of PVE::Network::SDN. What is applied becomes bridges of the nodes,
// joined by tunnels in a vxlan zone; VLANs and routing protocols are declared only.
package sdn

import (
	"crypto/sha1" //nolint:gosec // the digest of the real API
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
)

// Object is a zone, a virtual network or a subnet by the names of the API, "type" among
// them.
type Object map[string]string

// Kind is a list of objects.
type Kind string

// The kinds of objects.
const (
	Zones   Kind = "zones"
	VNets   Kind = "vnets"
	Subnets Kind = "subnets"
)

// Config is all objects by kind and id.
type Config map[Kind]map[string]Object

// of returns the objects of a kind, never nil.
func (c Config) of(k Kind) map[string]Object {
	if c[k] == nil {
		c[k] = map[string]Object{}
	}
	return c[k]
}

// Of returns the objects of a kind.
func (c Config) Of(k Kind) map[string]Object { return c[k] }

func (c Config) clone() Config {
	out := Config{}
	for kind, objects := range c {
		for id, o := range objects {
			out.of(kind)[id] = maps.Clone(o)
		}
	}
	return out
}

// State is what the store keeps.
type State struct {
	Declared Config `json:"declared"`
	Running  Config `json:"running"`           // nil before the first apply
	Version  int    `json:"version,omitempty"` // of what runs, counted up by each apply
	Lock     string `json:"lock,omitempty"`
	IPs      []IP   `json:"ips,omitempty"`
}

// IP is an address that the address management knows.
type IP struct {
	Zone    string `json:"zone"`
	Subnet  string `json:"subnet"` // CIDR
	VNet    string `json:"vnet"`
	IP      string `json:"ip"`
	MAC     string `json:"mac,omitempty"`
	VMID    int    `json:"vmid,omitempty"`
	Gateway bool   `json:"gateway,omitempty"`
}

// Refusal is a refused parameter.
type Refusal struct{ Param, Text string }

func (r *Refusal) Error() string { return r.Text }

func refuse(param, format string, args ...any) error {
	return &Refusal{Param: param, Text: fmt.Sprintf(format, args...)}
}

// Store is safe for concurrent use.
type Store struct {
	save func([]byte) error

	mu    sync.Mutex
	state State
}

// Open reads the store from a file; save must write it atomically. A file that does not
// exist is an empty store.
func Open(file string, save func([]byte) error) (*Store, error) {
	s := &Store{save: save}
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("sdn: %w", err)
	default:
		if err := json.Unmarshal(raw, &s.state); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if s.state.Declared == nil {
		s.state.Declared = Config{}
	}
	return s, nil
}

// View returns a copy of what is declared and of what runs.
func (s *Store) View() (declared, running Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Declared.clone(), s.state.Running.clone()
}

// IPs returns the registered addresses.
func (s *Store) IPs() []IP {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]IP(nil), s.state.IPs...)
}

// Change runs fn on a copy of the state and keeps it if fn returns no error. While
// somebody holds the global lock, only who names its token may change anything.
func (s *Store) Change(token string, fn func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Lock != "" && s.state.Lock != token {
		//lint:ignore ST1005 the real text
		return errors.New("invalid lock token provided!")
	}
	next := State{Declared: s.state.Declared.clone(), Running: s.state.Running, Version: s.state.Version, Lock: s.state.Lock, IPs: append([]IP(nil), s.state.IPs...)}
	if err := fn(&next); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := s.save(raw); err != nil {
		return err
	}
	s.state = next
	return nil
}

// Apply makes what is declared what runs.
func (st *State) Apply() {
	st.Running = st.Declared.clone()
	st.Version++
}

// Rollback makes what runs what is declared.
func (st *State) Rollback() { st.Declared = st.Running.clone() }

// Pending reports whether something is declared that does not run, or the reverse.
func (st *State) Pending() bool {
	for _, kind := range []Kind{Zones, VNets, Subnets} {
		if len(Compare(st.Running[kind], st.Declared[kind], true)) > 0 {
			return true
		}
	}
	return false
}

// Digest is the digest of a kind's objects.
func Digest(objects map[string]Object) string {
	raw, _ := json.Marshal(objects) // maps of strings, sorted
	sum := sha1.Sum(raw)            //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}

// Version is that of what runs, 0 before the first apply.
func (s *Store) Version() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Version
}

// Token is the token of the global lock, "" if nobody holds it.
func (s *Store) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Lock
}
