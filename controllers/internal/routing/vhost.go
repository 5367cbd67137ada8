package routing

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Credentials are what the Secrets of a Vhost hold, as the proxy gets it.
type Credentials struct {
	Users       []appliance.BasicUser
	Certificate string
	PrivateKey  appliance.Hidden
	// Missing says what is not there (yet), with a Reason for a condition; "" = nothing. The
	// Vhost is not served without it: what guards a name is never left out.
	Missing, Reason string
}

// Lacking are credentials that cannot be had because of an error: one of the class Waiting
// says what is missing, any other is returned.
func (c Credentials) Lacking(err error) (Credentials, error) {
	var waiting *runtime.WaitingError
	if errors.As(err, &waiting) {
		return Credentials{Missing: waiting.Text, Reason: waiting.Reason}, nil
	}
	return Credentials{}, err
}

// Render is a Vhost as an appliance serves it.
func Render(v *v1alpha1.Vhost, apps map[string]*v1alpha1.App, a *v1alpha1.Appliance, c Credentials) appliance.Vhost {
	spec := v.GetSpec()
	rules, _ := Backends(v, apps, a)
	out := appliance.Vhost{
		Key: Key(v.GetMetadata()), UID: v.GetMetadata().GetUid(), Hosts: spec.GetHosts(), Rules: rules, Unready: c.Missing,
		TLS:     renderTLS(spec, a, c),
		Request: renderHeaders(spec.GetRequestHeaders()), Response: renderHeaders(spec.GetResponseHeaders()),
		AllowFrom: prefixes(spec.GetAllowFrom()), AccessLog: spec.GetAccessLog(),
	}
	if size, err := resource.ParseQuantity(spec.GetMaxBodySize()); err == nil {
		out.MaxBody = size
	}
	if m := spec.GetMaintenance(); m.GetEnabled() {
		out.Maintenance = &appliance.Maintenance{Message: m.GetMessage(), AllowFrom: prefixes(m.GetAllowFrom())}
	}
	if b := spec.GetAuth().GetBasic(); b != nil {
		out.BasicAuth = &appliance.BasicAuth{Realm: b.GetRealm(), Users: c.Users}
	}
	if f := spec.GetAuth().GetForward(); f != nil {
		out.ForwardAuth = &appliance.ForwardAuth{Address: f.GetAddress(), Path: f.GetPath(), CopyHeaders: f.GetCopyHeaders()}
	}
	return out
}

// Redirects tells whether plain HTTP is answered with a redirect: as the spec says, else where
// browsers trust the certificate.
func Redirects(v *v1alpha1.Vhost) bool {
	t := v.GetSpec().GetTls()
	if LeadsToUI(v) { // whose password is never to go in the clear
		return true
	}
	if t != nil && t.Redirect != nil {
		return t.GetRedirect()
	}
	return t.GetMode() == appliance.TLSACME || t.GetMode() == appliance.TLSProvided
}

func renderTLS(spec *v1alpha1.VhostSpec, a *v1alpha1.Appliance, c Credentials) appliance.TLS {
	t := appliance.TLS{Mode: spec.GetTls().GetMode(), Redirect: Redirects(&v1alpha1.Vhost{Spec: spec})}
	switch t.Mode {
	case appliance.TLSProvided:
		t.Certificate, t.PrivateKey = c.Certificate, c.PrivateKey
	case appliance.TLSACME:
		own, all := spec.GetTls().GetAcme(), a.GetSpec().GetAcme()
		t.ACMEDirectory, t.ACMEEmail = or(own.GetDirectory(), all.GetDirectory()), or(own.GetContact(), all.GetContact())
		wild := slices.ContainsFunc(spec.GetHosts(), func(h string) bool { return strings.HasPrefix(h, "*.") })
		t.ACMEDNS = own.GetChallenge() == "DNS" || own.GetChallenge() == "" && (wild || all.GetDns() != nil)
	}
	return t
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// renderRule is a rule without its backends.
func renderRule(r *v1alpha1.VhostRule) appliance.Rule {
	rule := appliance.Rule{
		Path: r.GetPath(), StripPath: r.GetStripPath(), Balance: r.GetLoadBalancing(),
		Request: renderHeaders(r.GetRequestHeaders()), Response: renderHeaders(r.GetResponseHeaders()),
		ConnectTimeout: duration(r.GetTimeouts().GetConnect()), ResponseTimeout: duration(r.GetTimeouts().GetResponse()),
	}
	if d := r.GetRedirect(); d != nil {
		rule.Redirect = &appliance.Redirect{To: d.GetTo(), Code: int(d.GetCode()), KeepPath: d.GetKeepPath()}
	}
	if t := r.GetBackendTls(); t != nil {
		rule.TLS = &appliance.BackendTLS{Insecure: t.GetInsecureSkipVerify(), ServerName: t.GetServerName()}
	}
	if h := r.GetHealthCheck(); h != nil {
		rule.Health = &appliance.Health{
			Path: h.GetPath(), Interval: duration(h.GetInterval()), Timeout: duration(h.GetTimeout()), Status: int(h.GetStatus()),
			MaxFails: int(h.GetMaxFails()), FailDuration: duration(h.GetFailDuration()),
		}
	}
	return rule
}

func renderHeaders(h *v1alpha1.HeaderChanges) appliance.Headers {
	return appliance.Headers{Set: h.GetSet(), Remove: h.GetRemove()}
}

// duration is that of a text that passed validation; 0 for none.
func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

// prefixes are ranges that passed validation. One that is none stays one that is none, which
// is refused later: to leave it out could open what it was to close.
func prefixes(texts []string) (out []netip.Prefix) {
	for _, s := range texts {
		p, _ := netip.ParsePrefix(s)
		out = append(out, p)
	}
	return out
}

// WithPort adds a port to an address that has none.
func WithPort(address, port string) string {
	if ip, err := netip.ParseAddr(address); err == nil {
		return net.JoinHostPort(ip.String(), port)
	}
	return address
}
