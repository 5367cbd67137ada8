package kinds

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/internal/pattern"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	rangeRule   = "a range of addresses in CIDR notation, e.g. 192.168.1.0/24 or 2001:db8::/32"
	contactRule = "a mail address, e.g. admin@example.org"
	maxHeaders  = 64
	maxBody     = int64(64) << 30
)

var (
	headerName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	headerValue = pattern.New(`^[ -z|~]*$`, 0, 999)
	mailLocal   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)
	plainURL    = pattern.New(`^[A-Za-z0-9/._~:-]+$`, 1, 512)
)

// fixedHeaders belong to a connection and not to a message (RFC 9110 7.6.1), or tell the
// length of a body.
var fixedHeaders = []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func (p *problems) header(path, name string) {
	if !headerName.MatchString(name) || slices.Contains(fixedHeaders, strings.ToLower(name)) {
		p.invalid(path, name, "the name of a header, 1 to 64 letters, digits and -, and not one of "+strings.Join(fixedHeaders, ", "))
	}
}

func (p *problems) headers(path string, h *v1alpha1.HeaderChanges) {
	if h == nil {
		return
	}
	if len(h.GetSet()) > maxHeaders {
		p.invalid(path+".set", len(h.GetSet()), fmt.Sprintf("at most %d headers", maxHeaders))
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(h.GetSet())) {
		at := fmt.Sprintf("%s.set[%q]", path, name)
		p.header(at, name)
		if other, twice := seen[strings.ToLower(name)]; twice {
			p.invalid(at, name, "another header than "+other+": letters count for nothing")
		}
		seen[strings.ToLower(name)] = name
		if !headerValue.MatchString(h.GetSet()[name]) {
			p.invalid(at, h.GetSet()[name], "at most 999 printable ASCII characters without braces")
		}
	}
	for i, name := range h.GetRemove() {
		p.header(resource.IndexPath(path+".remove", i), name)
	}
}

// sources checks ranges of addresses that requests come from.
func (p *problems) sources(path string, ranges []string) {
	for i, s := range ranges {
		at := resource.IndexPath(path, i)
		n, err := netip.ParsePrefix(s)
		switch {
		case err != nil || n.Addr().Is4In6():
			p.invalid(at, s, rangeRule)
		case n.Masked() != n:
			p.invalid(at, s, fmt.Sprintf("the address of the range itself: %s", n.Masked()))
		}
	}
}

// optionalDuration checks a duration that is set.
func (p *problems) optionalDuration(path string, s *string, low, high time.Duration) {
	if s != nil {
		p.duration(path, *s, low, high)
	}
}

// validateVhostFields checks what holds for all rules.
func validateVhostFields(spec *v1alpha1.VhostSpec, p *problems) {
	p.headers("spec.requestHeaders", spec.GetRequestHeaders())
	p.headers("spec.responseHeaders", spec.GetResponseHeaders())
	p.sources("spec.allowFrom", spec.GetAllowFrom())
	p.sources("spec.maintenance.allowFrom", spec.GetMaintenance().GetAllowFrom())
	if s := spec.MaxBodySize; s != nil {
		if n, err := resource.ParseQuantity(*s); err != nil || n < 1<<10 || n > maxBody {
			p.invalid("spec.maxBodySize", *s, resource.QuantityRule+", from 1Ki to 64Gi")
		}
	}
	validateAuth(spec.GetAuth(), p)
	validateVhostTLS(spec, p)
}

func validateAuth(auth *v1alpha1.VhostAuth, p *problems) {
	switch {
	case auth == nil:
		return
	case auth.Basic == nil && auth.Forward == nil:
		p.required("spec.auth", "basic or forward")
	case auth.Basic != nil && auth.Forward != nil:
		p.unsupported("spec.auth.forward", "forward", "a name has either basic or forward; leave one out")
	case auth.Forward != nil:
		if auth.Forward.Address != nil {
			validateBackendAddress("spec.auth.forward.address", auth.Forward.GetAddress(), p)
		}
		for i, name := range auth.Forward.GetCopyHeaders() {
			p.header(resource.IndexPath("spec.auth.forward.copyHeaders", i), name)
		}
	}
}

func validateVhostTLS(spec *v1alpha1.VhostSpec, p *problems) {
	tls := orEmpty(spec.Tls)
	if tls.GetMode() == "off" && tls.GetRedirect() {
		p.unsupported("spec.tls.redirect", "true", "without TLS there is nothing to redirect to; set spec.tls.mode or leave redirect out")
	}
	const why = "it is for spec.tls.mode %s only; leave it out or change the mode"
	if tls.GetMode() == "provided" {
		if tls.Certificate == nil {
			p.required("spec.tls.certificate", "the key of a Secret with a certificate in PEM")
		}
		if tls.PrivateKey == nil {
			p.required("spec.tls.privateKey", "the key of a Secret with the certificate's key in PEM")
		}
	} else {
		if tls.Certificate != nil {
			p.unsupported("spec.tls.certificate", tls.GetCertificate().GetName(), fmt.Sprintf(why, "provided"))
		}
		if tls.PrivateKey != nil {
			p.unsupported("spec.tls.privateKey", tls.GetPrivateKey().GetName(), fmt.Sprintf(why, "provided"))
		}
	}
	if tls.GetMode() != "acme" {
		if tls.Acme != nil {
			p.unsupported("spec.tls.acme", "acme", fmt.Sprintf(why, "acme"))
		}
		return
	}
	p.acme("spec.tls.acme", tls.GetAcme().GetDirectory(), tls.GetAcme().GetContact())
	for i, h := range spec.GetHosts() {
		if strings.HasPrefix(h, "*.") && tls.GetAcme().GetChallenge() == "HTTP" {
			p.invalid(resource.IndexPath("spec.hosts", i), h, "a whole name: a wildcard needs spec.tls.acme.challenge DNS")
		}
	}
}

// acme checks directory and contact, "" for none.
func (p *problems) acme(path, directory, contact string) {
	if directory != "" {
		u, err := url.Parse(directory)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || !plainURL.MatchString(directory) {
			p.invalid(path+".directory", directory, "an https URL, e.g. https://ca.example.org/acme/directory")
		}
	}
	if contact != "" {
		local, domain, ok := strings.Cut(contact, "@")
		if !ok || !mailLocal.MatchString(local) || !hostName(strings.ToLower(domain)) {
			p.invalid(path+".contact", contact, contactRule)
		}
	}
}

// validateRuleFields checks what a rule says beside its backends.
func validateRuleFields(at string, rule *v1alpha1.VhostRule, p *problems) {
	switch {
	case rule.Redirect == nil && len(rule.GetBackends()) == 0:
		p.required(at+".backends", "at least one backend, or a redirect")
	case rule.Redirect != nil && len(rule.GetBackends()) > 0:
		p.unsupported(at+".redirect", rule.GetRedirect().GetTo(), "a rule has either backends or a redirect; leave one out")
	case rule.Redirect != nil && rule.GetRedirect().To != nil && rule.GetRedirect().GetTo() == "":
		p.invalid(at+".redirect.to", "", "an http or https URL, or a path that begins with /")
	}
	if c := rule.GetRedirect().GetCode(); c > 302 && c < 307 {
		p.invalid(at+".redirect.code", c, "301, 302, 307 or 308")
	}
	p.headers(at+".requestHeaders", rule.GetRequestHeaders())
	p.headers(at+".responseHeaders", rule.GetResponseHeaders())
	if t := rule.GetTimeouts(); t != nil {
		p.optionalDuration(at+".timeouts.connect", t.Connect, time.Second, 5*time.Minute)
		p.optionalDuration(at+".timeouts.response", t.Response, time.Second, 24*time.Hour)
	}
	if h := rule.GetHealthCheck(); h != nil {
		p.optionalDuration(at+".healthCheck.interval", h.Interval, time.Second, time.Hour)
		p.optionalDuration(at+".healthCheck.timeout", h.Timeout, time.Second, time.Minute)
		p.optionalDuration(at+".healthCheck.failDuration", h.FailDuration, time.Second, time.Hour)
	}
	if t := rule.GetBackendTls(); t != nil && t.ServerName != nil && !hostName(t.GetServerName()) {
		p.invalid(at+".backendTLS.serverName", t.GetServerName(), "a host name in lower case")
	}
	// Weights decide nothing where the way to choose has none.
	if lb := rule.GetLoadBalancing(); lb == "LeastConnections" || lb == "ClientAddress" {
		for i, b := range rule.GetBackends() {
			if b.GetWeight() > 1 {
				p.unsupported(resource.IndexPath(at+".backends", i)+".weight", fmt.Sprint(b.GetWeight()), "weights are for loadBalancing RoundRobin only")
			}
		}
	}
}
