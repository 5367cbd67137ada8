package mem

import (
	"errors"
	"net"
	"net/netip"
	"strings"
)

// Resolve finds the addresses of a name as the guest's libc would: literally, in
// /etc/hosts, then by the resolver of SetDNS with the guest's nameserver.
func (g *Guest) Resolve(name string) ([]string, error) {
	if _, err := netip.ParseAddr(name); err == nil {
		return []string{name}, nil
	}
	if hosts, err := g.fs.ReadFile("/etc/hosts"); err == nil {
		for line := range strings.Lines(string(hosts)) {
			fields := strings.Fields(strings.SplitN(line, "#", 2)[0])
			for i := 1; i < len(fields); i++ {
				if strings.EqualFold(fields[i], name) {
					return fields[:1], nil
				}
			}
		}
	}
	nameserver := g.nameserver()
	if ips := g.eng.ask(nameserver, name); len(ips) > 0 {
		return ips, nil
	}
	// The name server may be on another node of the guest's network.
	if s := g.eng.find(nameserver, g.reach(map[int]bool{})); s != nil && s.eng != g.eng {
		if ips := s.eng.ask(nameserver, name); len(ips) > 0 {
			return ips, nil
		}
	}
	return nil, &net.DNSError{Err: errNoSuchHost.Error(), Name: name, IsNotFound: true}
}

// ask asks the resolver of SetDNS, nil for NXDOMAIN.
func (e *Engine) ask(nameserver, name string) []string {
	e.mu.RLock()
	dns := e.dns
	e.mu.RUnlock()
	if dns == nil {
		return nil
	}
	ips, ok := dns(nameserver, name)
	if !ok {
		return nil
	}
	return ips
}

var errNoSuchHost = errors.New("no such host")

// nameserver is the first of the configuration, or the gateway, which is what a DHCP
// server hands out as resolver.
func (g *Guest) nameserver() string {
	if list := strings.Fields(g.Spec().Nameserver); len(list) > 0 {
		return list[0]
	}
	return g.Gateway()
}
