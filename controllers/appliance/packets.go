package appliance

import (
	"net/netip"
	"net/url"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// addNetwork takes what a spec says about packets and names. All texts have passed validation;
// one that is none stays one that is none, and makes Render refuse.
func (w world) addNetwork(in *appliance.Input, a *v1alpha1.Appliance, cl *v1alpha1.Cluster) {
	spec := a.GetSpec()
	in.Cockpit = spec.GetManagementUi() == "Cockpit"
	in.MaxConnections = int(spec.GetNat().GetMaxConnections())
	in.LogMiB = int(resource.QuantityMiB(spec.GetLogSize()))
	if wan := spec.GetDns().GetWan(); wan.GetEnabled() {
		in.DNSWAN = &appliance.DNSWAN{From: prefixes(wan.GetAllowFrom())}
	}
	in.Forbidden = append(in.Forbidden, endpointsOf(cl, in.Allowed)...)
	for _, f := range spec.GetNat().GetPortForwards() {
		in.Forwards = append(in.Forwards, w.forward(a, f))
	}
}

func (w world) forward(a *v1alpha1.Appliance, f *v1alpha1.PortForward) appliance.Forward {
	out := appliance.Forward{
		Key: f.GetName(), Protocol: strings.ToLower(or(f.GetProtocol(), "TCP")), Port: int(f.GetPort()), From: prefixes(f.GetAllowFrom()),
	}
	port := f.GetTargetPort()
	if port == 0 {
		port = f.GetPort()
	}
	address := f.GetAddress()
	if ref := f.GetAppRef(); ref != nil {
		key := or(ref.GetNamespace(), "default") + "/" + ref.GetName()
		app := w.appIndex[key]
		switch {
		case app == nil:
			out.Unready = "App " + key + " does not exist"
		case w.applianceOf(app) != a.GetMetadata().GetName():
			out.Unready = "App " + key + " is on the network of another appliance"
		case app.GetStatus().GetAddress() == "":
			out.Unready = "App " + key + " has no address yet"
		default:
			address = app.GetStatus().GetAddress()
		}
	}
	ip, _ := netip.ParseAddr(address)
	out.To = netip.AddrPortFrom(ip, uint16(port))
	return out
}

// egressOf is where an App may go.
func egressOf(app *v1alpha1.App) *appliance.Egress {
	policy := app.GetSpec().GetNetwork().GetEgress()
	if policy == nil {
		return nil
	}
	out := &appliance.Egress{Deny: policy.GetDefault() == "Deny"}
	for _, r := range policy.GetRules() {
		rule := appliance.EgressRule{Deny: r.GetAction() == "Deny"}
		if r.GetTo() != "" {
			rule.To = prefixes([]string{r.GetTo()})[0]
		}
		if p := r.GetProtocol(); p == "TCP" || p == "UDP" {
			rule.Protocol = strings.ToLower(p)
		} else if len(r.GetPorts()) > 0 {
			rule.Protocol = "tcp"
		}
		for _, p := range r.GetPorts() {
			rule.Ports = append(rule.Ports, int(p))
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// endpointsOf are the addresses of the Proxmox API that are not private: those are closed to
// guests anyway, and others would be open as a part of the internet. What the spec opens stays
// open.
func endpointsOf(cl *v1alpha1.Cluster, allowed []netip.Prefix) (out []netip.Prefix) {
	for _, e := range cl.GetSpec().GetEndpoints() {
		u, err := url.Parse(e)
		if err != nil {
			continue
		}
		ip, err := netip.ParseAddr(u.Hostname())
		if err != nil || !ip.Is4() || ip.IsPrivate() || ip.IsLoopback() {
			continue
		}
		open := false
		for _, p := range allowed {
			open = open || p.Contains(ip)
		}
		if !open {
			out = append(out, netip.PrefixFrom(ip, 32))
		}
	}
	return out
}

func prefixes(texts []string) (out []netip.Prefix) {
	for _, s := range texts {
		p, _ := netip.ParsePrefix(s)
		out = append(out, p)
	}
	return out
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// refused names the ports of a spec that lead nowhere, each with its reason.
func refused(b appliance.Bundle) string {
	var all []string
	for _, r := range b.Rejected {
		if r.Kind == "forward" {
			all = append(all, "port "+r.Key+": "+r.Reason)
		}
	}
	return strings.Join(all, "; ")
}
