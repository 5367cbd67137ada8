package appliance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// claims remembers who has what first came.
type claims map[string]string // what -> key of the owner

// take claims everything or nothing; it returns the first thing that has another owner.
func (c claims) take(key string, things ...string) (taken, owner string, ok bool) {
	for _, t := range things {
		if owner, used := c[t]; used {
			return t, owner, false
		}
	}
	for _, t := range things {
		c[t] = key
	}
	return "", "", true
}

func (a *accepted) acceptHosts(hosts []Host) {
	taken := claims{}
	for i, h := range hosts {
		if i >= MaxHosts {
			a.reject("host", h.Key, "", fmt.Sprintf("more than %d hosts", MaxHosts))
			continue
		}
		got, err := a.acceptHost(h)
		if err != nil {
			a.reject("host", h.Key, "", err.Error())
			continue
		}
		things := []string{"key " + h.Key, "MAC " + got.mac, "address " + got.address.String(), "hostname " + got.hostname}
		if thing, owner, ok := taken.take(h.Key, things...); !ok {
			a.reject("host", h.Key, owner, fmt.Sprintf("%s belongs to %s", thing, owner))
			continue
		}
		a.hosts = append(a.hosts, got)
	}
	slices.SortFunc(a.hosts, func(x, y acceptedHost) int { return strings.Compare(x.fileName, y.fileName) })
}

func (a *accepted) acceptHost(h Host) (acceptedHost, error) {
	fileName, err := splitKey(h.Key)
	if err != nil {
		return acceptedHost{}, err
	}
	got := acceptedHost{fileName: fileName, hostname: strings.ToLower(h.Hostname), mac: normalMAC(h.MAC), address: h.Address.Unmap()}
	if err := checkLabel(got.hostname); err != nil {
		return acceptedHost{}, fmt.Errorf("hostname: %w", err)
	}
	if got.hostname == a.label {
		return acceptedHost{}, fmt.Errorf("hostname %s is the appliance's own", got.hostname)
	}
	if !macRE.MatchString(got.mac) || got.mac == "00:00:00:00:00:00" || strings.ContainsRune("13579bdf", rune(got.mac[1])) {
		return acceptedHost{}, fmt.Errorf("MAC %s is not a unicast hardware address", quoted(h.MAC))
	}
	if !usable(a.lan, got.address) || got.address == a.lan.Addr() {
		return acceptedHost{}, fmt.Errorf("address %s is not a guest's address in %s", h.Address, a.lan.Masked())
	}
	return got, nil
}

func (a *accepted) acceptVhosts(vhosts []Vhost) {
	keys, names := claims{}, claims{}
	for i, v := range vhosts {
		if i >= MaxVhosts {
			a.reject("vhost", v.Key, "", fmt.Sprintf("more than %d vhosts", MaxVhosts))
			continue
		}
		got, err := a.acceptVhost(v)
		if err != nil {
			a.reject("vhost", v.Key, "", err.Error())
			continue
		}
		if _, owner, ok := keys.take(v.Key, v.Key); !ok {
			a.reject("vhost", v.Key, owner, "the same key came twice")
			continue
		}
		if name, owner, ok := names.take(v.Key, got.hosts...); !ok {
			delete(keys, v.Key)
			a.reject("vhost", v.Key, owner, fmt.Sprintf("host %s belongs to %s", name, owner))
			continue
		}
		a.vhosts = append(a.vhosts, got)
	}
	slices.SortFunc(a.vhosts, func(x, y acceptedVhost) int { return strings.Compare(x.fileName, y.fileName) })
}

func (a *accepted) acceptVhost(v Vhost) (acceptedVhost, error) {
	fileName, err := splitKey(v.Key)
	if err != nil {
		return acceptedVhost{}, err
	}
	if err := checkIdent(v.UID); err != nil {
		return acceptedVhost{}, fmt.Errorf("uid: %w", err)
	}
	got := acceptedVhost{key: v.Key, fileName: fileName, uid: v.UID, tls: v.TLS}
	if got.hosts, err = a.acceptNames(v.Hosts); err != nil {
		return acceptedVhost{}, err
	}
	if got.rules, err = a.acceptRules(v.Rules); err != nil {
		return acceptedVhost{}, err
	}
	got.tls.Mode = orDefault(v.TLS.Mode, TLSInternal)
	switch got.tls.Mode {
	case TLSInternal:
		got.tls.ACMEDirectory, got.tls.ACMEEmail = "", ""
	case TLSACME:
		err = checkACME(got.tls)
	case TLSOff:
		if got.tls.Redirect {
			err = errors.New("redirect to HTTPS needs TLS")
		}
	default:
		err = fmt.Errorf("TLS mode %s is not %s, %s or %s", quoted(v.TLS.Mode), TLSInternal, TLSACME, TLSOff)
	}
	return got, err
}

func (a *accepted) acceptNames(hosts []string) ([]string, error) {
	if len(hosts) == 0 || len(hosts) > MaxHostsPerVhost {
		return nil, fmt.Errorf("%d hosts, 1 to %d are possible", len(hosts), MaxHostsPerVhost)
	}
	var out []string
	for _, h := range hosts {
		h = strings.ToLower(h)
		if err := checkHostName(h); err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		if h == a.lanZone() || strings.HasSuffix(h, "."+a.lanZone()) {
			return nil, fmt.Errorf("host %s: names below %s always mean the guest itself", h, a.lanZone())
		}
		out = append(out, h)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (a *accepted) acceptRules(rules []Rule) ([]Rule, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%d rules, at most %d", len(rules), MaxRules)
	}
	paths := claims{}
	var out []Rule
	for _, r := range rules {
		path, err := checkPath(r.Path)
		if err != nil {
			return nil, err
		}
		// Caddy matches paths without regard to case.
		if _, _, ok := paths.take("", strings.ToLower(path)); !ok {
			return nil, fmt.Errorf("path %s comes twice", orDefault(path, "/"))
		}
		if len(r.Backends) > MaxBackends {
			return nil, fmt.Errorf("path %s: %d backends, at most %d", orDefault(path, "/"), len(r.Backends), MaxBackends)
		}
		rule := Rule{Path: path}
		for _, b := range r.Backends {
			address, err := checkBackend(b.Address, a.lan, a.forbidden)
			if err != nil {
				return nil, err
			}
			if b.Weight < 0 || b.Weight > MaxWeight {
				return nil, fmt.Errorf("backend %s: weight %d is not from 1 to %d", address, b.Weight, MaxWeight)
			}
			rule.Backends = append(rule.Backends, Backend{Address: address, Weight: max(b.Weight, 1)})
		}
		out = append(out, rule)
	}
	slices.SortFunc(out, func(x, y Rule) int {
		if len(x.Path) != len(y.Path) {
			return len(y.Path) - len(x.Path)
		}
		return strings.Compare(x.Path, y.Path)
	})
	return out, nil
}

func (a *accepted) acceptProbes(probes []Probe) {
	taken := claims{}
	for i, p := range probes {
		err := checkProbe(&p)
		switch {
		case i >= MaxProbes:
			a.reject("probe", p.Key, "", fmt.Sprintf("more than %d probes", MaxProbes))
			continue
		case err != nil:
			a.reject("probe", p.Key, "", err.Error())
			continue
		}
		if _, owner, ok := taken.take(p.Key, p.Key); !ok {
			a.reject("probe", p.Key, owner, "the same key came twice")
			continue
		}
		a.probes = append(a.probes, p)
	}
	slices.SortFunc(a.probes, func(x, y Probe) int { return strings.Compare(x.Key, y.Key) })
}

// checkProbe validates and fills in the defaults.
func checkProbe(p *Probe) error {
	if !probeKeyRE.MatchString(p.Key) {
		return fmt.Errorf("key %s is not one word of letters, digits and ./_:-", quoted(p.Key))
	}
	address, err := netip.ParseAddrPort(p.Address)
	if err != nil || !address.Addr().Is4() || address.Port() == 0 {
		return fmt.Errorf("address %s is not IPv4:port", quoted(p.Address))
	}
	p.Address = address.String()
	p.Path, p.Host = orDefault(p.Path, "/"), orDefault(strings.ToLower(p.Host), p.Address)
	switch {
	case p.Kind != ProbeHTTP && p.Kind != ProbeTCP:
		return fmt.Errorf("kind %s is not %s or %s", quoted(p.Kind), ProbeHTTP, ProbeTCP)
	case !probePathRE.MatchString(p.Path):
		return fmt.Errorf("path %s is not a plain URL path", quoted(p.Path))
	case p.Host != p.Address && checkHostName(p.Host) != nil:
		return fmt.Errorf("host %s is not a DNS name", quoted(p.Host))
	}
	return nil
}
