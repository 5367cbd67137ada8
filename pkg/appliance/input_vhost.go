package appliance

import (
	"log/slog"
	"net/netip"
	"time"
)

// Vhost is a set of host names on the reverse proxy.
type Vhost struct {
	Key   string // "namespace/name"
	UID   string
	Hosts []string // full names; *.NAME stands for any one label
	Rules []Rule   // the longest matching Path wins; none = 503
	TLS   TLS
	// Unready says why the Vhost cannot be served as it should be, for instance that a Secret is
	// missing; "" = it can. One that cannot is rejected: what guards a name is never left out.
	Unready string

	Request, Response Headers        // changes for all rules
	MaxBody           int64          // bytes of a request's body; 0 = no bound
	AllowFrom         []netip.Prefix // sources that may use it; none = all
	BasicAuth         *BasicAuth
	ForwardAuth       *ForwardAuth
	AccessLog         bool
	Maintenance       *Maintenance
}

// Headers are changes of headers: first Remove, then Set.
type Headers struct {
	Set    map[string]string
	Remove []string
}

// BasicAuth asks for one of the users' passwords.
type BasicAuth struct {
	Realm string
	Users []BasicUser
}

// BasicUser is a name with the bcrypt hash of the password.
type BasicUser struct {
	Name string
	Hash Hidden
}

// ForwardAuth asks a server about each request.
type ForwardAuth struct {
	Address     string // "ip:port" or "name:port"
	Path        string // "" = "/"
	CopyHeaders []string
}

// Maintenance answers 503 with a text to all but AllowFrom.
type Maintenance struct {
	Message   string // "" = a sentence; one that begins with < is HTML
	AllowFrom []netip.Prefix
}

// Rule sends the requests below a path to backends, or elsewhere.
type Rule struct {
	Path     string    // prefix on segment borders: "/api" matches /api and /api/x, not /apix; "" = "/"
	Backends []Backend // none = 503: a Vhost whose App is not up yet still answers
	Redirect *Redirect // in place of backends
	// ManagementUI leads to Cockpit, in place of backends; the only rule of its Vhost, for "/".
	ManagementUI bool

	StripPath         bool // backends see the path without the prefix
	Request, Response Headers
	ConnectTimeout    time.Duration // 0 = 3 s
	ResponseTimeout   time.Duration // for the beginning of an answer; 0 = no bound
	Balance           string        // BalanceRoundRobin (""), BalanceLeast or BalanceClient
	Health            *Health
	TLS               *BackendTLS // nil = plain HTTP
}

// Ways to choose a backend.
const (
	BalanceRoundRobin = "RoundRobin"       // by weight
	BalanceLeast      = "LeastConnections" // weights count for nothing
	BalanceClient     = "ClientAddress"    // likewise; the same backend for the same client
)

// Redirect sends the browser elsewhere.
type Redirect struct {
	To       string // http or https URL, or a path
	Code     int    // 301, 302, 307 or 308; 0 = 302
	KeepPath bool   // path and query of the request are appended
}

// Health finds out which backends work.
type Health struct {
	Path              string // asked all the time; "" = not asked
	Interval, Timeout time.Duration
	Status            int           // of a good answer; 0 = any 2xx
	MaxFails          int           // failing requests that put a backend aside; 0 = 1
	FailDuration      time.Duration // for how long; 0 = 10 s
}

// BackendTLS is how backends are talked to over TLS.
type BackendTLS struct {
	Insecure   bool   // any certificate is trusted
	ServerName string // that the certificate must have; "" = the backend's
}

// Backend is one server behind a Rule.
type Backend struct {
	Address string // "ip:port" or "name:port"
	Weight  int    // 1..MaxWeight; 0 = 1
}

// TLS modes of a Vhost.
const (
	TLSInternal = "internal" // a certificate of the appliance's own CA (see the agent's ca-root)
	TLSACME     = "acme"     // a certificate by ACME
	TLSProvided = "provided" // a certificate that the caller has
	TLSOff      = "off"      // plain HTTP only
)

// TLS says how a Vhost is served over HTTPS.
type TLS struct {
	Mode          string // "" = TLSInternal
	Redirect      bool   // HTTP answers 308 to HTTPS; otherwise both are served
	ACMEDirectory string // https URL; "" = Caddy's default
	ACMEEmail     string // contact, may be empty
	ACMEDNS       bool   // DNS-01 by Input.ACMEDNS, in place of HTTP-01
	Certificate   string // of TLSProvided: PEM, the leaf first
	PrivateKey    Hidden // likewise
}

// DNSUpdate is a name server that takes signed changes (RFC 2136).
type DNSUpdate struct {
	Server    string // "ip:port"
	KeyName   string // of the TSIG key
	Algorithm string // "hmac-sha256", ...
	Key       Hidden // in base64
}

// Hidden is text that is not shown: printed or logged it is a placeholder.
type Hidden string

const hidden = "(hidden)"

// String hides the text.
func (Hidden) String() string { return hidden }

// GoString hides the text.
func (Hidden) GoString() string { return hidden }

// LogValue hides the text.
func (Hidden) LogValue() slog.Value { return slog.StringValue(hidden) }
