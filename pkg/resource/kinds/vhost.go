package kinds

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/internal/pattern"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	hostRule = "a host name in lower case, e.g. www.prox.local, or a wildcard for one label, *.prox.local"
	portRule = "the name of a port, or a number from 1 to 65535"
)

// pathPrefix is what every part of the proxy's configuration takes as it stands.
var pathPrefix = pattern.New(`^/[A-Za-z0-9/._~+,:;=@&-]*$`, 1, 1000)

func defaultVhost(v *v1alpha1.Vhost) {
	spec := sub(&v.Spec)
	for _, rule := range spec.Rules {
		orText(&rule.Path, "/")
		for _, backend := range rule.Backends {
			orNumber(&backend.Weight, 1)
		}
	}
	orText(&sub(&spec.Tls).Mode, "internal")
}

func validateVhost(v *v1alpha1.Vhost, p *problems) {
	spec := orEmpty(v.Spec)
	validateHosts(spec.GetHosts(), p)
	paths := map[string]int{}
	for i, rule := range spec.GetRules() {
		at := resource.IndexPath("spec.rules", i)
		validateRule(at, rule, p)
		// The proxy compares prefixes without case and without the slash at the end; equal
		// ones were said by the list's keys.
		same := strings.ToLower(strings.TrimSuffix(rule.GetPath(), "/"))
		if j, dup := paths[same]; dup && spec.GetRules()[j].GetPath() != rule.GetPath() {
			p.add(resource.Duplicate(at+".path", rule.GetPath(), resource.IndexPath("spec.rules", j)))
		} else {
			paths[same] = i
		}
	}
	validateVhostFields(spec, p)
	validateManagement(spec, p)
	p.reference("spec.applianceRef", spec.GetApplianceRef())
}

func validateHosts(hosts []string, p *problems) {
	for i, h := range hosts {
		at := resource.IndexPath("spec.hosts", i)
		if !hostName(strings.TrimPrefix(h, "*.")) || strings.HasPrefix(h, "*.") && strings.Count(h, ".") < 2 {
			p.invalid(at, h, hostRule)
		} else if j := slices.Index(hosts, h); j < i {
			p.add(resource.Duplicate(at, h, resource.IndexPath("spec.hosts", j)))
		}
	}
}

func validateRule(at string, rule *v1alpha1.VhostRule, p *problems) {
	if !isPathPrefix(rule.GetPath()) {
		p.invalid(at+".path", rule.GetPath(), "a path that begins with /, of letters, digits and /._~+,:;=@&-, without . or .. or doubled slashes in it")
	}
	validateRuleFields(at, rule, p)
	for i, b := range rule.GetBackends() {
		validateBackend(resource.IndexPath(at+".backends", i), b, p)
	}
}

func isPathPrefix(s string) bool {
	if !pathPrefix.MatchString(s) {
		return false
	}
	for segment := range strings.SplitSeq(strings.Trim(s, "/"), "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.Contains(s, "//")
}

func validateBackend(at string, b *v1alpha1.VhostBackend, p *problems) {
	switch {
	case b.GetManagementUi():
		if b.AppRef != nil || b.Address != nil {
			p.unsupported(at+".managementUI", "true", "a backend has an appRef, an address or managementUI; leave the others out")
		}
	case b.AppRef == nil && b.Address == nil:
		p.required(at, "an appRef, an address or managementUI")
	case b.AppRef != nil && b.Address != nil:
		p.unsupported(at+".address", b.GetAddress(), "a backend has either an appRef or an address; leave one out")
	case b.AppRef != nil:
		if b.AppRef.Name != nil {
			p.name(at+".appRef.name", b.AppRef.GetName())
		}
		if b.AppRef.Port != nil && !resource.IsDNSLabel(b.AppRef.GetPort()) || isBadPortNumber(b.AppRef.GetPort()) {
			p.invalid(at+".appRef.port", b.AppRef.GetPort(), portRule)
		}
	default:
		validateBackendAddress(at+".address", b.GetAddress(), p)
	}
}

// validateManagement holds a Vhost that leads to the management UI to what keeps it safe: passwords
// never go in the clear, and nothing else answers under the same name, for a page from there could
// act as whoever is logged in.
func validateManagement(spec *v1alpha1.VhostSpec, p *problems) {
	const why = "a Vhost of the management UI "
	for i, rule := range spec.GetRules() {
		at := resource.IndexPath("spec.rules", i)
		for j, b := range rule.GetBackends() {
			if !b.GetManagementUi() {
				continue
			}
			switch {
			case len(spec.GetRules()) > 1 || rule.GetPath() != "/":
				p.unsupported(at+".path", rule.GetPath(), why+"has one rule, for /; leave the others out")
			case len(rule.GetBackends()) > 1:
				p.unsupported(resource.IndexPath(at+".backends", j)+".managementUI", "true", why+"has no other backend; leave the others out")
			case rule.BackendTls != nil:
				p.unsupported(at+".backendTLS", "backendTLS", "the way to the management UI is known; leave it out")
			case rule.HealthCheck != nil:
				p.unsupported(at+".healthCheck", "healthCheck", "the appliance looks after its management UI; leave it out")
			case spec.GetTls().GetMode() == "off":
				p.unsupported("spec.tls.mode", "off", why+"answers over HTTPS only")
			case spec.GetTls().Redirect != nil && !spec.GetTls().GetRedirect():
				p.unsupported("spec.tls.redirect", "false", why+"answers over HTTPS only; leave redirect out")
			}
			for k, h := range spec.GetHosts() {
				if strings.HasPrefix(h, "*.") {
					p.unsupported(resource.IndexPath("spec.hosts", k), h, why+"has whole names only")
				}
			}
			return
		}
	}
}

// isBadPortNumber tells whether s is a number that is no port; names are none.
func isBadPortNumber(s string) bool {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return false
	}
	n, err := strconv.Atoi(s)
	return err != nil || n < 1 || n > 65535 || s[0] == '0'
}

// validateBackendAddress takes host:port. Addresses that mean the proxy itself are refused:
// they would open its inner doors to whoever may write a Vhost.
func validateBackendAddress(at, s string, p *problems) {
	const rule = "host:port, e.g. 192.168.1.20:8080 or nas.example.org:443"
	host, port, err := net.SplitHostPort(s)
	if err != nil || port == "" || strings.Trim(port, "0123456789") != "" || isBadPortNumber(port) {
		p.invalid(at, s, rule)
		return
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if !isHostAddress(ip.Unmap()) {
			p.invalid(at, s, rule+", not an address of the proxy itself or of many hosts")
		}
		return
	}
	if !hostName(host) || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		p.invalid(at, s, rule)
	}
}

func claimsOfVhost(v *v1alpha1.Vhost) []resource.Claim {
	space := "host name"
	if name := v.GetSpec().GetApplianceRef().GetName(); name != "" {
		space += " on appliance " + name
	}
	claims := make([]resource.Claim, len(v.GetSpec().GetHosts()))
	for i, h := range v.GetSpec().GetHosts() {
		claims[i] = resource.Claim{Path: resource.IndexPath("spec.hosts", i), Space: space, Value: h}
	}
	return claims
}
