package appliance

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// acceptNet takes what is about packets, but for ports that lead to guests.
func (a *accepted) acceptNet(in Input) error {
	a.maxConnections = cmp.Or(in.MaxConnections, DefaultMaxConnections)
	if a.maxConnections < 16 || a.maxConnections > 1_000_000 {
		return fmt.Errorf("%d connections of a guest are not from 16 to 1000000", a.maxConnections)
	}
	if in.DNSWAN != nil {
		from, err := acceptPrefixes("sources of DNS on the WAN", in.DNSWAN.From)
		if err != nil {
			return err
		}
		a.dnsWAN = &DNSWAN{From: from}
	}
	return nil
}

func (a *accepted) acceptForwards(forwards []Forward) {
	keys, ports := claims{}, claims{}
	for i, f := range forwards {
		err := a.checkForward(&f)
		switch {
		case i >= MaxForwards:
			err = fmt.Errorf("more than %d ports", MaxForwards)
		case err == nil && !a.nat:
			err = errors.New("without NAT nothing is forwarded")
		}
		if err != nil {
			a.reject("forward", f.Key, "", err.Error())
			continue
		}
		if _, owner, ok := keys.take(f.Key, f.Key); !ok {
			a.reject("forward", f.Key, owner, "the same key came twice")
			continue
		}
		port := fmt.Sprintf("%s port %d", f.Protocol, f.Port)
		if _, owner, ok := ports.take(f.Key, port); !ok {
			delete(keys, f.Key)
			a.reject("forward", f.Key, owner, fmt.Sprintf("%s belongs to %s", port, owner))
			continue
		}
		a.forwards = append(a.forwards, f)
	}
	slices.SortFunc(a.forwards, func(x, y Forward) int { return strings.Compare(x.Key, y.Key) })
}

func (a *accepted) checkForward(f *Forward) (err error) {
	switch {
	case !probeKeyRE.MatchString(f.Key):
		return fmt.Errorf("key %s is not one word of letters, digits and ./_:-", quoted(f.Key))
	case f.Unready != "":
		return errors.New(plainText(f.Unready))
	case f.Protocol != "tcp" && f.Protocol != "udp":
		return fmt.Errorf("protocol %s is not tcp or udp", quoted(f.Protocol))
	case f.Port < 1 || f.Port > 65535 || f.To.Port() == 0:
		return fmt.Errorf("port %d to %d: ports are from 1 to 65535", f.Port, f.To.Port())
	case f.Protocol == "tcp" && (f.Port == 80 || f.Port == 443):
		return fmt.Errorf("TCP port %d is the proxy's", f.Port)
	case f.Protocol == "udp" && f.Port == 68, f.Port == 53 && a.dnsWAN != nil:
		return fmt.Errorf("port %d is the appliance's own", f.Port)
	case !usable(a.lan, f.To.Addr()) || f.To.Addr() == a.lan.Addr():
		return fmt.Errorf("%s is not a guest's address in %s", f.To.Addr(), a.lan.Masked())
	}
	f.From, err = acceptPrefixes("sources", f.From)
	return err
}

func acceptEgress(e *Egress) (*Egress, error) {
	if e == nil || !e.Deny && len(e.Rules) == 0 {
		return nil, nil
	}
	if len(e.Rules) > MaxEgressRules {
		return nil, fmt.Errorf("%d egress rules, at most %d", len(e.Rules), MaxEgressRules)
	}
	out := &Egress{Deny: e.Deny}
	for _, r := range e.Rules {
		switch {
		case r.To.IsValid() && !r.To.Addr().Is4():
			return nil, fmt.Errorf("egress rule: %s is not an IPv4 range", r.To)
		case r.Protocol != "" && r.Protocol != "tcp" && r.Protocol != "udp":
			return nil, fmt.Errorf("egress rule: protocol %s is not tcp or udp", quoted(r.Protocol))
		case len(r.Ports) > 0 && r.Protocol == "":
			return nil, errors.New("egress rule: ports are of tcp or udp")
		case len(r.Ports) > MaxPorts:
			return nil, fmt.Errorf("egress rule: %d ports, at most %d", len(r.Ports), MaxPorts)
		}
		ports := slices.Sorted(slices.Values(r.Ports))
		if len(ports) > 0 && (ports[0] < 1 || ports[len(ports)-1] > 65535) {
			return nil, errors.New("egress rule: ports are from 1 to 65535")
		}
		if r.To.IsValid() {
			r.To = r.To.Masked()
		} else {
			r.To = netip.Prefix{}
		}
		r.Ports = slices.Compact(ports)
		out.Rules = append(out.Rules, r)
	}
	return out, nil
}
