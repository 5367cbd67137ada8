package appliance

import (
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
	got.egress, err = acceptEgress(h.Egress)
	return got, err
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
	address, err := checkProbeAddress(p.Address)
	if err != nil {
		return err
	}
	p.Address = address
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

// checkProbeAddress accepts "ip:port" and "name:port" and returns the normal form.
func checkProbeAddress(s string) (string, error) {
	if address, err := netip.ParseAddrPort(s); err == nil {
		if !address.Addr().Is4() || address.Port() == 0 {
			return "", fmt.Errorf("address %s is not IPv4:port", quoted(s))
		}
		return address.String(), nil
	}
	host, port, err := splitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("address %s is not IPv4:port or name:port", quoted(s))
	}
	return checkNamedBackend(strings.ToLower(host), port)
}
