package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/internal/pattern"
)

// MaxOutputBytes bounds what is read from the agent: 3 files for each of MaxHosts and
// one for each of MaxVhosts at 300 bytes a line is 20 MB.
const MaxOutputBytes = 24 << 20

// Errors of an output that must not be believed.
var (
	// ErrTruncated: the output has no end line.
	ErrTruncated = errors.New("agent output is truncated")
	// ErrProtocol: the agent in the guest is not ours or of another version; apply
	// replaces it.
	ErrProtocol = errors.New("agent speaks another protocol")
)

var (
	hashRE = regexp.MustCompile(`\A[0-9a-f]{64}\z`)
	wordRE = pattern.New(`\A[!-~]+\z`, 1, 255)
)

// ParseObservation reads the output of the agent's observe verb. Lines that it does not
// know are an error: the protocol number changes with the format. The caller bounds the
// output to MaxOutputBytes.
func ParseObservation(out []byte) (Observation, error) {
	o := Observation{Services: map[string]Service{}, Probes: map[string]ProbeResult{}}
	if len(out) > MaxOutputBytes {
		return o, fmt.Errorf("agent output of %d bytes, at most %d", len(out), MaxOutputBytes)
	}
	body, ok := bytes.CutSuffix(out, []byte("\nend\n"))
	if !ok {
		return o, ErrTruncated
	}
	first := true
	for line := range strings.SplitSeq(string(body), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		if first {
			if err := o.parseHello(word, rest); err != nil {
				return o, err
			}
			first = false
			continue
		}
		parse, known := lineParsers[word]
		if !known {
			return o, fmt.Errorf("agent line %s: unknown", quoted(line))
		}
		if err := parse(&o, rest); err != nil {
			return o, fmt.Errorf("agent line %s: %w", quoted(line), err)
		}
	}
	if o.SetHash == "" || o.BootID == "" || o.NAT == "" || o.DNS == (Check{}) || o.Proxy == (Check{}) {
		return o, errors.New("agent output lacks a line that is always there")
	}
	return o, nil
}

func (o *Observation) parseHello(word, rest string) error {
	if word != "proximity-agent" {
		return fmt.Errorf("%w: it begins with %s", ErrProtocol, quoted(word))
	}
	version, hash, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(version)
	if err != nil || n != Protocol || !hashRE.MatchString(hash) {
		return fmt.Errorf("%w: version %s, ours is %d", ErrProtocol, quoted(version), Protocol)
	}
	o.Protocol, o.AgentHash = n, hash
	return nil
}

// lineParsers has one entry per kind of line; each gets what stands after the first word.
var lineParsers = map[string]func(*Observation, string) error{
	"boot":     func(o *Observation, s string) error { return setWord(&o.BootID, s) },
	"set":      func(o *Observation, s string) error { return setHashField(&o.SetHash, s) },
	"manifest": parseManifestLine,
	"file":     parseFileLine,
	"service":  parseServiceLine,
	"addr":     parseAddrLine,
	"gateway":  parseGatewayLine,
	"forward":  func(o *Observation, s string) error { return setFlag(&o.Forward, s, "0", "1") },
	"nat":      parseNATLine,
	"lease":    parseLeaseLine,
	"dns":      func(o *Observation, s string) error { return parseCheck(&o.DNS, s) },
	"dns-wan":  func(o *Observation, s string) error { return parseCheck(&o.DNSWAN, s) },
	"upstream": func(o *Observation, s string) error { return parseCheck(&o.Upstream, s) },
	"proxy":    func(o *Observation, s string) error { return parseCheck(&o.Proxy, s) },
	"vhost":    parseVhostLine,
	"probe":    parseProbeLine,
	"disk":     parseDiskLine,
	"missing":  parseMissingLine,
}

var (
	errFields = errors.New("wrong number of fields")
	errValue  = errors.New("impossible value")
)

func setWord(to *string, s string) error {
	if !wordRE.MatchString(s) {
		return errValue
	}
	*to = s
	return nil
}

func setHashField(to *string, s string) error {
	if !hashRE.MatchString(s) {
		return errValue
	}
	*to = s
	return nil
}

func setFlag(to *bool, s, no, yes string) error {
	if s != no && s != yes {
		return errValue
	}
	*to = s == yes
	return nil
}

func parseManifestLine(o *Observation, s string) error {
	if s == "none" {
		return nil
	}
	return setHashField(&o.Manifest, s)
}

func parseFileLine(o *Observation, s string) error {
	hash, path, ok := strings.Cut(s, " ")
	if !ok || !hashRE.MatchString(hash) || !strings.HasPrefix(path, "/") {
		return errFields
	}
	if o.Files == nil {
		o.Files = map[string]string{}
	}
	o.Files[path] = hash
	return nil
}

func parseServiceLine(o *Observation, s string) error {
	f := strings.Split(s, " ")
	if len(f) != 5 || !wordRE.MatchString(f[0]) || !wordRE.MatchString(f[1]) {
		return errFields
	}
	svc := Service{Active: f[1]}
	var err1, err2 error
	svc.MainPID, err1 = atoi(f[3])
	svc.Restarts, err2 = atoi(f[4])
	if err := errors.Join(setFlag(&svc.Enabled, f[2], "disabled", "enabled"), err1, err2); err != nil {
		return err
	}
	o.Services[f[0]] = svc
	return nil
}

func parseAddrLine(o *Observation, s string) error {
	iface, text, _ := strings.Cut(s, " ")
	p, err := netip.ParsePrefix(text)
	if err != nil || !wordRE.MatchString(iface) {
		// A point-to-point address has no length.
		ip, err := netip.ParseAddr(text)
		if err != nil || !ip.Is4() || !wordRE.MatchString(iface) {
			return errValue
		}
		p = netip.PrefixFrom(ip, 32)
	}
	o.Addresses = append(o.Addresses, Address{Interface: iface, Prefix: p})
	return nil
}

func parseGatewayLine(o *Observation, s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return errValue
	}
	o.Gateway = ip
	return nil
}

func parseNATLine(o *Observation, s string) error {
	switch state := NATState(s); state {
	case NATOK, NATMissing, NATDiffers:
		o.NAT = state
		return nil
	}
	return errValue
}

func parseLeaseLine(o *Observation, s string) error {
	f := strings.Split(s, " ")
	if len(f) != 4 {
		return errFields
	}
	seconds, err := strconv.ParseInt(f[0], 10, 64)
	ip, err2 := netip.ParseAddr(f[2])
	// Leases of networks other than Ethernet are written with a hardware type: "06-...".
	if err != nil || err2 != nil || seconds < 0 || seconds > 1<<40 || !wordRE.MatchString(f[1]) || !wordRE.MatchString(f[3]) {
		return errValue
	}
	l := Lease{MAC: normalMAC(f[1]), Address: ip, Hostname: f[3]}
	if l.Hostname == "-" {
		l.Hostname = ""
	}
	if seconds > 0 {
		l.Expiry = time.Unix(seconds, 0).UTC()
	}
	o.Leases = append(o.Leases, l)
	return nil
}

// ParseLeases reads dnsmasq's lease file (LeasesPath): expiry, MAC address, address, host name
// and client id. Lines of another form, such as those of DHCPv6, are left out.
func ParseLeases(text string) []Lease {
	var o Observation
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		if _, err := net.ParseMAC(f[1]); err != nil {
			continue
		}
		if f[3] == "*" {
			f[3] = "-"
		}
		_ = parseLeaseLine(&o, strings.Join(f[:4], " ")) // it adds nothing then
	}
	return o.Leases
}

func parseCheck(to *Check, s string) error {
	state, reason, _ := strings.Cut(s, " ")
	if err := setFlag(&to.OK, state, "fail", "ok"); err != nil {
		return err
	}
	if !to.OK {
		to.Reason = orDefault(reason, "no reason given")
	}
	return nil
}

func parseVhostLine(o *Observation, s string) error {
	key, reason, _ := strings.Cut(s, " ")
	if _, err := splitKey(key); err != nil {
		return err
	}
	if strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errValue
	}
	if o.Vhosts == nil {
		o.Vhosts = map[string]string{}
	}
	o.Vhosts[key] = orDefault(reason, "no reason given")
	return nil
}

func parseProbeLine(o *Observation, s string) error {
	f := strings.Split(s, " ")
	if len(f) != 4 || !wordRE.MatchString(f[0]) {
		return errFields
	}
	code, err1 := atoi(f[2])
	ms, err2 := atoi(f[3])
	state := ProbeState(f[1])
	if err1 != nil || err2 != nil || code > 999 || (state != ProbeOK && state != ProbeFail) {
		return errValue
	}
	o.Probes[f[0]] = ProbeResult{State: state, Code: code, Duration: time.Duration(ms) * time.Millisecond}
	return nil
}

func parseDiskLine(o *Observation, s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return errValue
	}
	o.DiskFree = n
	return nil
}

func parseMissingLine(o *Observation, s string) error {
	command, _, ok := strings.Cut(s, " ")
	if !ok || !wordRE.MatchString(command) {
		return errFields
	}
	o.Missing = append(o.Missing, command)
	return nil
}

// atoi reads a count that fits every int.
func atoi(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, errValue
	}
	return int(n), nil
}
