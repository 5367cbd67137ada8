package pvesim

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"

	"golang.org/x/crypto/ssh"
)

// Credentials is what a client needs to use the node.
type Credentials struct {
	Fingerprint       string `json:"fingerprint"` // SHA-256 of the certificate, colon separated
	TokenID           string `json:"tokenId"`     // proximity@pve!daemon
	TokenSecret       string `json:"tokenSecret"`
	RootPassword      string `json:"rootPassword"` // of root@pam, for tickets
	SSHUser           string `json:"sshUser"`
	SSHPrivateKeyPath string `json:"sshPrivateKeyPath"`
	SSHHostKey        string `json:"sshHostKey"` // authorized_keys format
}

// credentialsFile is credentials.json: the credentials and the key of tickets.
type credentialsFile struct {
	Credentials
	TicketKey []byte `json:"ticketKey"`
}

// The account that the node is seeded with, as the documentation of a real node's
// set-up makes it.
const (
	seedUser  = "proximity@pve"
	seedToken = "daemon"
)

// seedRoles are the privileges of the daemon, by path. Sys.Modify on /nodes is what
// bridges need, SDN.Allocate on /sdn those of the software-defined network; Sys.Audit on / is for the cluster's status and does not propagate.
var seedRoles = []struct {
	path, role, privileges string
	propagate              bool
}{
	{"/", "ProximityCluster", "Sys.Audit", false},
	{"/nodes", "ProximityNode", "Sys.Audit Sys.Modify", true},
	{"/vms", "ProximityGuests", "VM.Allocate VM.Audit VM.Clone VM.Backup VM.Snapshot VM.Snapshot.Rollback VM.PowerMgmt VM.Console " +
		"VM.Config.Disk VM.Config.CPU VM.Config.Memory VM.Config.Network VM.Config.Options", true},
	{"/storage", "ProximityStorage", "Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit", true},
	{"/sdn", "ProximityNetworks", "SDN.Allocate SDN.Use SDN.Audit", true},
}

// openCredentials reads or makes what clients need, for all nodes. The file tells how
// to use the first one.
func (c *cluster) openCredentials() error {
	var f credentialsFile
	found, err := readJSON(c.path("credentials.json"), &f)
	if err != nil {
		return err
	}
	if !found {
		if err := c.seedAccess(&f); err != nil {
			return err
		}
	}
	user, err := loadKey(c.path("ssh", "id_ed25519"))
	if err != nil {
		return fmt.Errorf("ssh key: %w", err)
	}
	c.sshUser, c.signer = user.PublicKey(), access.Signer{Key: f.TicketKey}
	f.SSHPrivateKeyPath = c.path("ssh", "id_ed25519")
	for _, n := range c.nodes {
		if err := n.openIdentity(f.Credentials); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	f.Credentials = c.nodes[0].creds
	return writeJSON(c.path("credentials.json"), f)
}

// openIdentity loads or makes the node's certificate and host key.
func (n *Node) openIdentity(shared Credentials) error {
	if err := n.openTLS(); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	host, err := loadKey(n.path("ssh", "ssh_host_ed25519_key"))
	if err != nil {
		return fmt.Errorf("ssh host key: %w", err)
	}
	n.sshHost, n.creds = host, shared
	n.creds.Fingerprint = fingerprint(n.cert.Certificate[0])
	n.creds.SSHHostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host.PublicKey())))
	return nil
}

// seedAccess makes the secrets and the accounts of a new node. Every step may be
// repeated: a kill in between leaves no credentials.json, and the next start does all
// of it again.
func (c *cluster) seedAccess(f *credentialsFile) error {
	f.TokenID = seedUser + "!" + seedToken
	f.TokenSecret = newUUID()
	f.RootPassword = newUUID()
	f.SSHUser = "root"
	f.TicketKey = []byte(newUUID() + newUUID())
	return c.access.Together(func() error { return c.seedAccounts(f) })
}

func (c *cluster) seedAccounts(f *credentialsFile) error {
	err := errors.Join(
		c.access.SetUser(access.Root, f.RootPassword, "", true),
		c.access.SetUser(seedUser, "", "the platform's daemon", true),
		c.access.SetToken(seedUser, seedToken, f.TokenSecret, access.Token{PrivSep: true}),
	)
	for _, r := range seedRoles {
		err = errors.Join(err, c.access.SetRole(r.role, strings.Fields(r.privileges)))
		for _, subject := range []string{seedUser, f.TokenID} {
			err = errors.Join(err, c.access.SetACL(access.ACL{Path: r.path, Subject: subject, Role: r.role, Propagate: r.propagate}, false))
		}
	}
	return err
}

// NewToken makes a token of an existing user and returns its secret.
func (c *cluster) NewToken(user, id string, privsep bool) (secret string, err error) {
	secret = newUUID()
	return secret, c.access.SetToken(user, id, secret, access.Token{PrivSep: privsep})
}

// newUUID is what the real server makes token secrets of.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// certLifetime is that of a fresh installation's certificate.
const certLifetime = 10 * 365 * 24 * time.Hour

// openTLS loads the certificate and its key, or makes them.
func (n *Node) openTLS() error {
	file := n.path("tls", "pve-ssl.pem") // certificate and key in one file: never one without the other
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if raw, err = n.newCertificate(); err == nil {
			err = writeFile(file, raw, 0o600)
		}
	}
	if err != nil {
		return err
	}
	n.cert, err = tls.X509KeyPair(raw, raw)
	return err
}

func (n *Node) newCertificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: n.name, Organization: []string{"PVE Cluster Node"}},
		DNSNames:              []string{n.name, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(certLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), nil
}

// loadKey reads a key, or makes it.
func loadKey(file string) (ssh.Signer, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		var key ed25519.PrivateKey
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			return nil, err
		}
		raw = pem.EncodeToMemory(block)
		if err := writeFile(file, raw, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(raw)
}
