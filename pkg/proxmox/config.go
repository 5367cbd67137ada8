package proxmox

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Defaults and bounds. The figures follow from pveproxy and pvedaemon, which have
// three workers each by default and handle an API call synchronously.
const (
	// DefaultConcurrency is how many requests a client has under way: enough to keep
	// three workers of two nodes busy.
	DefaultConcurrency = 8
	// MaxConcurrency is what Config.Concurrency may be at most.
	MaxConcurrency = 64
	// MaxStorageTasks is what Config.StorageTasks may be at most.
	MaxStorageTasks = 1024
	// DefaultRequestTimeout bounds one request with all its attempts. The proxy itself
	// gives up after 30 s; calls that it handles alone have no limit.
	DefaultRequestTimeout = 60 * time.Second

	// perNode is how many requests for one node may be under way; perNodeWrites how many
	// of them may be writes. Writes can sit in a 10 s lock: reads must get past them.
	perNode       = 6
	perNodeWrites = 4

	// idleConnTimeout is below the five seconds after which pveproxy closes an idle
	// connection, so that a request does not meet a connection that is just closing.
	idleConnTimeout = 3 * time.Second
	dialTimeout     = 10 * time.Second
	tlsTimeout      = 10 * time.Second

	// maxBody bounds an answer: /cluster/resources of 10,000 guests is about 5 MiB.
	maxBody = 32 << 20
	// maxErrorBody bounds what is kept of an answer that is not a success.
	maxErrorBody = 64 << 10
	// maxRequestBody is the server's own bound (512 KiB).
	maxRequestBody = 512 << 10
	// maxEndpoints bounds failover.
	maxEndpoints = 32
)

// Config says where a Proxmox VE is and how to prove who is who.
type Config struct {
	// Endpoints are base URLs, https://host:8006, of nodes of one cluster. The first is
	// preferred; the others are tried when it cannot be reached.
	Endpoints []string

	// TokenID (user@realm!name) and TokenSecret, or else Username (user@realm) and
	// Password. Prefer a token; a few calls need a root@pam login (see [NeedsRoot]).
	TokenID, TokenSecret string
	Username, Password   string

	// Fingerprints are SHA-256 fingerprints of acceptable server certificates, as the
	// Proxmox tools print them (hexadecimal, colons optional). CAFile is a PEM file of
	// acceptable authorities, e.g. the cluster's /etc/pve/pve-root-ca.pem. With neither,
	// the system's authorities decide. Both at once are refused.
	Fingerprints []string
	CAFile       string
	// CAPEM is such authorities in PEM form, instead of a file.
	CAPEM []byte

	// Concurrency bounds requests under way; 0 means DefaultConcurrency. NodeConcurrency bounds
	// those for one node (0: perNode), of which two thirds may be writes.
	Concurrency, NodeConcurrency int
	// StorageTasks bounds the tasks under way that allocate on one storage; 0 means perStorage.
	StorageTasks int
	// RequestTimeout bounds a request; 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	UserAgent      string
	Log            *slog.Logger
	// Observe is called after each exchange with the server, also a login, from the
	// goroutine that made it. path is a template such as /nodes/{node}/lxc/{vmid}, so it
	// is fit for a metric's label. status is 0 when no answer came.
	Observe func(method, path string, status int, took time.Duration)
	// Transport replaces the network in tests. TLS settings are then not used.
	Transport http.RoundTripper
}

func (c Config) endpoints() ([]*url.URL, error) {
	if len(c.Endpoints) == 0 || len(c.Endpoints) > maxEndpoints {
		return nil, fmt.Errorf("proxmox: %d endpoints given, need 1 to %d", len(c.Endpoints), maxEndpoints)
	}
	var out []*url.URL
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil {
			return nil, fmt.Errorf("proxmox: endpoint: %w", err)
		}
		// Credentials travel in every request: there is no plain-text mode.
		if u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("proxmox: endpoint %q: want https://host:8006", u.Redacted())
		}
		u.Path = strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/api2/json")
		out = append(out, u)
	}
	return out, nil
}

func (c Config) authenticator() (authenticator, error) {
	switch {
	case c.TokenID != "" && c.Username != "":
		return nil, errors.New("proxmox: both a token and a user are given")
	case c.TokenID != "":
		user, token, ok := strings.Cut(c.TokenID, "!")
		if !ok || token == "" || !strings.Contains(user, "@") || c.TokenSecret == "" ||
			strings.ContainsAny(c.TokenID+c.TokenSecret, " \t\r\n") {
			return nil, errors.New("proxmox: a token needs an id user@realm!name and a secret")
		}
		return tokenAuth("PVEAPIToken=" + c.TokenID + "=" + c.TokenSecret), nil
	case c.Username != "":
		if !strings.Contains(c.Username, "@") || c.Password == "" {
			return nil, errors.New("proxmox: a login needs a username user@realm and a password")
		}
		return newTicketAuth(c.Username, c.Password), nil
	}
	return nil, errors.New("proxmox: neither a token nor a user is given")
}

// bounds are what is done at the same time at most.
type bounds struct{ calls, nodeCalls, nodeWrites, storageTasks int }

func (c Config) bounds() (bounds, error) {
	b := bounds{calls: cmp.Or(c.Concurrency, DefaultConcurrency), nodeCalls: cmp.Or(c.NodeConcurrency, perNode), storageTasks: cmp.Or(c.StorageTasks, perStorage)}
	b.nodeWrites = max(1, b.nodeCalls*perNodeWrites/perNode)
	for _, n := range []struct {
		what      string
		n, atMost int
	}{
		{"concurrency", b.calls, MaxConcurrency}, {"node concurrency", b.nodeCalls, MaxConcurrency}, {"storage tasks", b.storageTasks, MaxStorageTasks},
	} {
		if n.n < 1 || n.n > n.atMost {
			return b, fmt.Errorf("proxmox: %s %d is not within 1 to %d", n.what, n.n, n.atMost)
		}
	}
	return b, nil
}
