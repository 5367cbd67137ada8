package cluster

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
)

// Settings is everything that a connection is made of. It holds secrets: it is not logged,
// stored or printed.
type Settings struct {
	// Endpoints are URLs https://host:8006 of nodes of one cluster.
	Endpoints []string
	// Fingerprints are SHA-256 fingerprints of certificates that may answer; CABundle is
	// authorities in PEM form. One of both, or the system's authorities decide.
	Fingerprints []string
	CABundle     []byte
	// TokenID and TokenSecret, or Username and Password.
	TokenID, TokenSecret, Username, Password string

	Access Access
	Limits Limits
}

// Ways into guests.
const (
	AccessSSH     = "ssh"     // through the node, over ssh
	AccessLocal   = "local"   // the daemon runs on the only node
	AccessConsole = "console" // through the API alone
)

// Access is the way into guests and onto nodes.
type Access struct {
	// Mode is AccessSSH, AccessLocal or AccessConsole.
	Mode string
	// Command is attach (lxc-attach, fast; the default) or pct (pct exec).
	Command string
	// User logs in over ssh with PrivateKey, in PEM form. With consoles User (user@realm) and
	// Password log in to the API, where API tokens may open none; "" is nobody.
	User       string
	PrivateKey []byte
	Password   string
	// HostKeys are lines "type key"; KnownHostsFile is a file in OpenSSH's form. One of both
	// is needed for ssh.
	HostKeys       []string
	KnownHostsFile string
	// Addresses maps node names to host:port; the entry of the empty name is for all others,
	// and without one it is the name itself, port 22.
	Addresses map[string]string
}

// Identity is who the daemon is to Proxmox: user@realm!token or user@realm.
func (s Settings) Identity() string {
	if s.TokenID != "" {
		return s.TokenID
	}
	return s.Username
}

// digest tells two settings apart without keeping either.
func (s Settings) digest() [sha256.Size]byte {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("cluster: settings are text: %v", err))
	}
	return sha256.Sum256(raw)
}

// address maps node names to ssh addresses.
func (a Access) address() func(node string) string {
	addresses := maps.Clone(a.Addresses)
	return func(node string) string {
		for _, known := range []string{node, ""} {
			if at := addresses[known]; at != "" {
				return at
			}
		}
		return node + ":22"
	}
}
