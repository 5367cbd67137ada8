package daemon

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/proximity-pve/proximity/controllers/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// maxConfig bounds the configuration file, in bytes.
const maxConfig = 1 << 20

// Config is everything that the daemon is told at start. The zero value of a field means
// its default, filled in by withDefaults.
type Config struct {
	// DataDir holds database, certificates, token and, with Embedded, the node.
	DataDir string `yaml:"dataDir"`
	// Listen and GRPCListen are host:port of REST and gRPC.
	Listen     string `yaml:"listen"`
	GRPCListen string `yaml:"grpcListen"`
	// Hosts are further names and addresses that the server's certificate is for.
	Hosts []string `yaml:"hosts"`
	// TLS has a certificate of the owner's, which is served to who asks for one of its names;
	// everybody else gets the one of the local CA.
	TLS TLSConfig `yaml:"tls"`
	// Registration lets anybody who reaches the API make a user, without any right. Off.
	Registration bool `yaml:"registration"`
	// Secrets is about the key of sealed values.
	Secrets SecretsConfig `yaml:"secrets"`
	// Audit is about the audit trail.
	Audit AuditConfig `yaml:"audit"`
	// Repair is how soon the guest of an appliance that does not serve is booted, or made anew.
	Repair appliance.Patience `yaml:"repair"`
	// LogLevel is debug, info, warn or error.
	LogLevel string        `yaml:"logLevel"`
	Proxmox  ProxmoxConfig `yaml:"proxmox"`

	// Embedded runs the whole product on this machine, with a simulated node.
	Embedded bool `yaml:"-"`
	// Engine of the embedded node: auto, lxc or mem.
	Engine string `yaml:"-"`
	// KeepNode leaves the embedded node running when the daemon stops.
	KeepNode bool `yaml:"-"`
	// Forward and ForwardTLS are loopback addresses from which HTTP and HTTPS reach the
	// embedded node's appliance.
	Forward    string `yaml:"-"`
	ForwardTLS string `yaml:"-"`

	// anyPort: nobody asked for the addresses, so with an embedded node another port does
	// when one is in use.
	anyPort bool

	Stdout io.Writer `yaml:"-"`
	Stderr io.Writer `yaml:"-"`
}

// TLSConfig names a certificate, in PEM form with its chain, and its key, which only its owner
// can read. They are read at the start.
type TLSConfig struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// SecretsConfig is about the key of sealed values. Without any of it the key is in the data
// directory, or in a systemd credential secrets.key; a credential secrets.passphrase is used
// like PassphraseFile.
type SecretsConfig struct {
	// KeyFile is where the key is.
	KeyFile string `yaml:"keyFile"`
	// PassphraseFile has a passphrase that the key file is encrypted with.
	PassphraseFile string `yaml:"passphraseFile"`
}

// AuditConfig is about the audit trail, in the data directory's audit/.
type AuditConfig struct {
	// MaxAgeDays and MaxMiB are what is kept: 400 days, 256 MiB.
	MaxAgeDays int `yaml:"maxAgeDays"`
	MaxMiB     int `yaml:"maxMiB"`
	// Forward are targets that get a copy: file:/path, syslog://host:port, syslog+udp://host:port,
	// syslog+unix:///dev/log.
	Forward []string `yaml:"forward"`
}

// ProxmoxConfig is the connection named default.
type ProxmoxConfig struct {
	// Endpoints are URLs such as https://192.168.1.10:8006, nodes of one cluster.
	Endpoints []string `yaml:"endpoints"`
	// Fingerprint is the SHA-256 fingerprint of the certificate; or CAFile, a PEM file.
	Fingerprint string `yaml:"fingerprint"`
	CAFile      string `yaml:"caFile"`
	// TokenID is user@realm!name; the secret is in a file of its own.
	TokenID         string `yaml:"tokenID"`
	TokenSecretFile string `yaml:"tokenSecretFile"`

	// VMIDStart and VMIDEnd are the range that Apps are allocated from.
	VMIDStart int `yaml:"vmidStart"`
	VMIDEnd   int `yaml:"vmidEnd"`
	// Storage, Node, AppTemplate, ApplianceTemplate and WANBridge are defaults of guests.
	Storage           string `yaml:"storage"`
	Node              string `yaml:"node"`
	AppTemplate       string `yaml:"appTemplate"`
	ApplianceTemplate string `yaml:"applianceTemplate"`
	WANBridge         string `yaml:"wanBridge"`

	GuestAccess GuestAccess `yaml:"guestAccess"`
	// Limits is how much is done at the same time.
	Limits cluster.Limits `yaml:"limits"`

	tokenSecret string
}

// GuestAccess is the way into guests and onto the nodes.
type GuestAccess struct {
	// Mode is ssh, or local when the daemon runs on the only node, or console for the API
	// alone.
	Mode string `yaml:"mode"`
	// Command is attach (lxc-attach, fast) or pct (pct exec).
	Command string `yaml:"command"`
	// User and PrivateKeyFile log in over ssh. With consoles User (user@realm) and
	// PasswordFile log in to the API where the node lets no API token open consoles.
	User           string `yaml:"user"`
	PrivateKeyFile string `yaml:"privateKeyFile"`
	PasswordFile   string `yaml:"passwordFile"`
	// KnownHostsFile and HostKeys say which host keys to expect; one of them is needed.
	KnownHostsFile string   `yaml:"knownHostsFile"`
	HostKeys       []string `yaml:"hostKeys"`
	// Addresses maps node names to host:port; without an entry the name itself is used.
	Addresses map[string]string `yaml:"addresses"`
}

// Defaults.
const (
	DefaultListen     = "127.0.0.1:8765"
	DefaultGRPCListen = "127.0.0.1:8766"
	DefaultForward    = "127.0.0.1:8080"
	DefaultForwardTLS = "127.0.0.1:8443"

	defaultVMIDStart = 20000
	defaultVMIDEnd   = 29999
)

// LoadConfig reads a configuration file over the values that cfg has. Unknown keys and
// wrong types are errors that name the line.
func LoadConfig(path string, cfg *Config) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	if len(data) > maxConfig {
		return fmt.Errorf("configuration %s is larger than %d bytes", path, maxConfig)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration %s: %s", path, strings.ReplaceAll(err.Error(), "\n", ";"))
	}
	return nil
}

// withDefaults fills in what is not set and checks the rest.
func (c Config) withDefaults() (Config, error) {
	c.anyPort = c.Embedded && c.Listen == "" && c.GRPCListen == ""
	anyPort := strings.HasSuffix(c.Listen, ":0")
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	if anyPort {
		// Somebody who asks for any port runs several daemons.
		c.GRPCListen = cmp.Or(c.GRPCListen, "127.0.0.1:0")
		c.Forward, c.ForwardTLS = cmp.Or(c.Forward, "127.0.0.1:0"), cmp.Or(c.ForwardTLS, "127.0.0.1:0")
	}
	c.GRPCListen = cmp.Or(c.GRPCListen, DefaultGRPCListen)
	c.Forward, c.ForwardTLS = cmp.Or(c.Forward, DefaultForward), cmp.Or(c.ForwardTLS, DefaultForwardTLS)
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.DataDir == "" {
		c.DataDir = "/var/lib/proximity"
		if c.Embedded {
			c.DataDir = "./.proximity"
		}
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, fmt.Errorf("data directory: %w", err)
	}
	c.DataDir = dir
	if c.Audit.MaxAgeDays < 0 || c.Audit.MaxMiB < 0 || c.Audit.MaxAgeDays > 36500 || c.Audit.MaxMiB > 1<<20 {
		return c, fmt.Errorf("audit: maxAgeDays %d, maxMiB %d: allowed are 1 to 36500 and 1 to 1048576", c.Audit.MaxAgeDays, c.Audit.MaxMiB)
	}
	if err := c.Repair.Check(); err != nil {
		return c, fmt.Errorf("repair: %w", err)
	}
	if err := c.Proxmox.Limits.Check(); err != nil {
		return c, fmt.Errorf("proxmox.limits: %w", err)
	}
	c.Proxmox.setDefaults()
	if c.Embedded {
		if len(c.Proxmox.Endpoints) > 0 {
			return c, errors.New("--embedded brings its own node: take proxmox.endpoints out of the configuration, or leave --embedded away")
		}
		return c, nil
	}
	return c, c.Proxmox.check()
}

func (p *ProxmoxConfig) setDefaults() {
	if p.VMIDStart == 0 && p.VMIDEnd == 0 {
		p.VMIDStart, p.VMIDEnd = defaultVMIDStart, defaultVMIDEnd
	}
	p.Storage = cmp.Or(p.Storage, "local-lvm")
	p.AppTemplate = cmp.Or(p.AppTemplate, "debian-12-standard")
	p.ApplianceTemplate = cmp.Or(p.ApplianceTemplate, "debian-12-standard")
	p.WANBridge = cmp.Or(p.WANBridge, "vmbr0")
	p.GuestAccess.Mode = cmp.Or(p.GuestAccess.Mode, "ssh")
	p.GuestAccess.Command = cmp.Or(p.GuestAccess.Command, "attach")
	if p.GuestAccess.Mode == "ssh" {
		p.GuestAccess.User = cmp.Or(p.GuestAccess.User, "root")
	}
}

// check names every missing or wrong field of a real connection at once.
func (p *ProxmoxConfig) check() error {
	var errs []error
	need := func(ok bool, field, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("proxmox.%s: allowed is %s", field, allowed))
		}
	}
	need(len(p.Endpoints) > 0, "endpoints", "at least one URL such as https://192.168.1.10:8006 (to try the product without a Proxmox, start with --embedded)")
	need(strings.Contains(p.TokenID, "!"), "tokenID", "an API token's id such as proximity@pve!daemon")
	need(p.TokenSecretFile != "", "tokenSecretFile", "the path of a file that holds the token's secret alone")
	need(proxmox.ValidVMID(p.VMIDStart) && proxmox.ValidVMID(p.VMIDEnd) && p.VMIDStart <= p.VMIDEnd, "vmidStart and vmidEnd", "a range within 100 to 999999999")
	g := p.GuestAccess
	need(slices.Contains([]string{"ssh", "local", "console"}, g.Mode), "guestAccess.mode", "ssh, local or console")
	need(g.Command == "attach" || g.Command == "pct", "guestAccess.command", "attach or pct")
	if g.Mode == "ssh" {
		need(g.PrivateKeyFile != "", "guestAccess.privateKeyFile", "the path of the private key for ssh")
		need(g.PasswordFile == "", "guestAccess.passwordFile", "nothing with ssh: log in by a key")
		need(g.KnownHostsFile != "" || len(g.HostKeys) > 0, "guestAccess.knownHostsFile or hostKeys", "where the node's host key is; an unknown one is never accepted")
	}
	if g.Mode == "console" {
		need((g.User == "") == (g.PasswordFile == ""), "guestAccess.user and passwordFile", "both, or neither where API tokens may open consoles (pve-container 6.1.3)")
		need(g.User == "" || strings.Contains(g.User, "@"), "guestAccess.user", "a user with its realm such as proximity@pve")
	}
	return errors.Join(errs...)
}
