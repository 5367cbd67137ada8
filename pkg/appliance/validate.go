package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/proximity-pve/proximity/pkg/internal/pattern"
)

// The alphabets below are the whole defence against injection: a value that passes
// holds no white space, quote, bracket, comment sign or control character of any of
// the languages that the files are written in. Everything is matched as a whole.
var (
	labelRE     = regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z`)
	interfaceRE = regexp.MustCompile(`\A[a-z][a-z0-9]{0,14}\z`) // IFNAMSIZ-1
	identRE     = pattern.New(`\A[A-Za-z0-9][A-Za-z0-9._-]*\z`, 1, 128)
	macRE       = regexp.MustCompile(`\A[0-9a-f]{2}(:[0-9a-f]{2}){5}\z`)
	pathRE      = pattern.New(`\A/[A-Za-z0-9/._~+,:;=@&-]*\z`, 1, 1000)
	probePathRE = pattern.New(`\A/[A-Za-z0-9/._~+,:;=@&?-]*\z`, 1, 1000)
	probeKeyRE  = pattern.New(`\A[A-Za-z0-9][A-Za-z0-9./_:-]*\z`, 1, 255)
	emailRE     = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\z`) // local part
	urlRE       = pattern.New(`\A[A-Za-z0-9/._~:-]+\z`, 1, 512)
)

const (
	maxNameBytes = 253 // RFC 1035 2.3.4, without the trailing dot
	maxZoneBytes = 180 // leaves room for <63 bytes>.lan. in front of it
	maxKeyBytes  = 200 // "app." + key is a file name of at most 255 bytes
)

func checkLabel(s string) error {
	if !labelRE.MatchString(s) {
		return fmt.Errorf("%s is not a DNS label (a-z, 0-9 and inner hyphens, at most 63)", quoted(s))
	}
	return nil
}

// checkName accepts one or more DNS labels joined by dots, in lower case.
func checkName(s string) error {
	if len(s) > maxNameBytes {
		return fmt.Errorf("%s is longer than %d bytes", quoted(s), maxNameBytes)
	}
	for label := range strings.SplitSeq(s, ".") {
		if !labelRE.MatchString(label) {
			return fmt.Errorf("%s is not a DNS name", quoted(s))
		}
	}
	return nil
}

// checkHostName is checkName for names that browsers ask for: the last label is not a
// number, or the name would be read as an address.
func checkHostName(s string) error {
	if err := checkName(s); err != nil {
		return err
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	if _, err := strconv.Atoi(last); err == nil {
		return fmt.Errorf("%s ends in a number", quoted(s))
	}
	return nil
}

// splitKey checks "namespace/name" and returns it as the file name "namespace.name",
// which is unambiguous because a namespace has no dot.
func splitKey(key string) (fileName string, err error) {
	namespace, name, ok := strings.Cut(key, "/")
	if !ok || len(key) > maxKeyBytes || !labelRE.MatchString(namespace) || checkName(name) != nil {
		return "", fmt.Errorf("%s is not namespace/name of at most %d bytes", quoted(key), maxKeyBytes)
	}
	return namespace + "." + name, nil
}

func checkIdent(s string) error {
	if !identRE.MatchString(s) {
		return fmt.Errorf("%s is not an identifier (letters, digits and ._-, at most 128)", quoted(s))
	}
	return nil
}

// checkPath accepts a path prefix of a Rule and returns it without a trailing slash
// ("" for the root).
func checkPath(s string) (string, error) {
	if s == "" || s == "/" {
		return "", nil
	}
	if !pathRE.MatchString(s) {
		return "", fmt.Errorf("path %s must start with / and hold only letters, digits and /._~+,:;=@&-", quoted(s))
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(s[1:], "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("path %s has an empty or dot segment", quoted(s))
		}
	}
	return strings.TrimSuffix(s, "/"), nil
}

// checkBackend accepts "ip:port" and "name:port" and returns the normal form.
// Addresses that only mean something on the appliance itself are refused: they would
// open its inner doors to whoever may write a Vhost.
func checkBackend(s string, lan netip.Prefix, forbidden []netip.Prefix) (string, error) {
	host, port, err := splitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("backend %w", err)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return checkNamedBackend(strings.ToLower(host), port)
	}
	ip = ip.Unmap()
	switch {
	case ip.Zone() != "", ip.IsLoopback(), ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip == lan.Addr():
		return "", fmt.Errorf("backend %s is an address of the appliance itself or of no single host", quoted(s))
	}
	for _, p := range forbidden {
		if p.Contains(ip) {
			return "", fmt.Errorf("backend %s is in the forbidden range %s", quoted(s), p)
		}
	}
	return net.JoinHostPort(ip.String(), port), nil
}

// splitHostPort splits "host:port" and checks the port.
func splitHostPort(s string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err != nil || len(s) > maxNameBytes+6 {
		return "", "", fmt.Errorf("%s is not address:port", quoted(s))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' || port[0] == '0' {
		return "", "", fmt.Errorf("%s has no port from 1 to 65535", quoted(s))
	}
	return host, port, nil
}

func checkNamedBackend(name, port string) (string, error) {
	if err := checkHostName(name); err != nil {
		return "", fmt.Errorf("backend: %w", err)
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return "", fmt.Errorf("backend %s is the appliance itself", quoted(name))
	}
	return net.JoinHostPort(name, port), nil
}

func checkACME(t TLS) error {
	if t.ACMEDirectory != "" {
		u, err := url.Parse(t.ACMEDirectory)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || !urlRE.MatchString(t.ACMEDirectory) {
			return fmt.Errorf("ACME directory %s is not a plain https URL", quoted(t.ACMEDirectory))
		}
	}
	if t.ACMEEmail != "" {
		local, domain, ok := strings.Cut(t.ACMEEmail, "@")
		if !ok || !emailRE.MatchString(local) || checkHostName(strings.ToLower(domain)) != nil {
			return fmt.Errorf("ACME contact %s is not a mail address", quoted(t.ACMEEmail))
		}
	}
	return nil
}

// quoted makes a value fit for an error message of one line, however wild it is.
func quoted(s string) string {
	const limit = 80
	if len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return strconv.QuoteToASCII(s)
}
