package appliance

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/proximity-pve/proximity/pkg/internal/pattern"
)

// acceptedVhost is a Vhost after validation.
type acceptedVhost struct {
	Vhost    // all fields normalised: hosts sorted, rules by their length, the longest first
	fileName string
}

// exact are the host names, wild the parents of wildcards.
func (v *acceptedVhost) exact() (names []string) {
	for _, h := range v.Hosts {
		if !strings.HasPrefix(h, "*.") {
			names = append(names, h)
		}
	}
	return names
}

func (v *acceptedVhost) wild() (parents []string) {
	for _, h := range v.Hosts {
		if parent, ok := strings.CutPrefix(h, "*."); ok {
			parents = append(parents, parent)
		}
	}
	return parents
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
		if name, owner, ok := names.take(v.Key, got.Hosts...); !ok {
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
	if v.Unready != "" {
		return acceptedVhost{}, errors.New(plainText(v.Unready))
	}
	got := acceptedVhost{Vhost: v, fileName: fileName}
	if got.Hosts, err = a.acceptNames(v.Hosts); err != nil {
		return got, err
	}
	if got.Rules, err = a.acceptRules(v.Rules); err != nil {
		return got, err
	}
	if err := a.checkUI(&got); err != nil {
		return got, err
	}
	if got.TLS, err = a.acceptTLS(v.TLS, got.wild()); err != nil {
		return got, err
	}
	return got, a.acceptGuards(&got.Vhost)
}

// leadsToUI tells whether the Vhost leads to the management UI.
func (v *acceptedVhost) leadsToUI() bool {
	return slices.ContainsFunc(v.Rules, func(r Rule) bool { return r.ManagementUI })
}

// checkUI holds a Vhost that leads to the management UI to what keeps that safe.
func (a *accepted) checkUI(v *acceptedVhost) error {
	switch {
	case !v.leadsToUI():
		return nil
	case !a.cockpit:
		return errors.New("the appliance has no management UI: spec.managementUI of the Appliance")
	case len(v.Rules) > 1 || v.Rules[0].Path != "" || len(v.Rules[0].Backends) > 0 || v.Rules[0].Redirect != nil:
		return errors.New("nothing else is served under a name of the management UI")
	case !v.TLS.Redirect || len(v.wild()) > 0:
		return errors.New("the management UI is served over HTTPS only, under whole names")
	}
	return nil
}

// acceptGuards takes what decides who may use a Vhost, and what is changed for all rules.
func (a *accepted) acceptGuards(v *Vhost) (err error) {
	if v.Request, err = acceptHeaders(v.Request); err != nil {
		return err
	}
	if v.Response, err = acceptHeaders(v.Response); err != nil {
		return err
	}
	if v.MaxBody < 0 {
		return fmt.Errorf("a body of at most %d bytes", v.MaxBody)
	}
	if v.AllowFrom, err = acceptSources(v.AllowFrom); err != nil {
		return err
	}
	if m := v.Maintenance; m != nil {
		own := *m
		v.Maintenance = &own
		if own.AllowFrom, err = acceptSources(m.AllowFrom); err != nil {
			return err
		}
		if !isPage(own.Message) {
			return fmt.Errorf("maintenance page is not text of at most %d bytes", maxPageBytes)
		}
		v.Maintenance.AllowFrom = own.AllowFrom
	}
	switch {
	case v.BasicAuth != nil && v.ForwardAuth != nil:
		return errors.New("basic and forward authentication exclude one another")
	case v.BasicAuth != nil:
		return acceptBasic(v)
	case v.ForwardAuth != nil:
		return a.acceptForward(v)
	}
	return nil
}

const (
	maxHeaders   = 64
	maxUsers     = 64
	maxPageBytes = 4096
	maxTimeout   = 24 * time.Hour
)

var (
	headerNameRE  = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9-]{0,63}\z`)
	headerValueRE = pattern.New(`\A[ -z|~]*\z`, 0, 999) // printable, without braces: Caddy's placeholders
	redirectRE    = regexp.MustCompile(`\A(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)?(/[A-Za-z0-9/._~+,:;=@&?%-]*)?\z`)
	realmRE       = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}\z`)
	userRE        = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\z`)
	bcryptRE      = regexp.MustCompile(`\A\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}\z`)
)

// maxRedirectPath bounds, in bytes, the path of a redirect with its query.
const maxRedirectPath = 1000

func isRedirect(to string) bool {
	parts := redirectRE.FindStringSubmatch(to)
	return parts != nil && len(parts[len(parts)-1]) <= maxRedirectPath
}

// hopByHop are headers that belong to a connection and not to a message (RFC 9110 7.6.1), and
// those that the length of a body is told by.
var hopByHop = []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func acceptHeader(name string) error {
	if !headerNameRE.MatchString(name) || slices.Contains(hopByHop, strings.ToLower(name)) {
		return fmt.Errorf("header %s is not one that can be changed", quoted(name))
	}
	return nil
}

// acceptHeaders checks changes of headers. What is set need not be removed before.
func acceptHeaders(h Headers) (Headers, error) {
	if len(h.Set) > maxHeaders || len(h.Remove) > maxHeaders {
		return h, fmt.Errorf("more than %d headers", maxHeaders)
	}
	set := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(h.Set)) {
		if err := acceptHeader(name); err != nil {
			return h, err
		}
		if !headerValueRE.MatchString(h.Set[name]) {
			return h, fmt.Errorf("header %s: the value is not plain text in one line without braces", name)
		}
		if set[strings.ToLower(name)] {
			return h, fmt.Errorf("header %s is set twice", name)
		}
		set[strings.ToLower(name)] = true
	}
	var remove []string
	for _, name := range h.Remove {
		if err := acceptHeader(name); err != nil {
			return h, err
		}
		if !set[strings.ToLower(name)] && !slices.Contains(remove, name) {
			remove = append(remove, name)
		}
	}
	return Headers{Set: h.Set, Remove: remove}, nil
}

// acceptSources takes ranges of both families.
func acceptSources(in []netip.Prefix) ([]netip.Prefix, error) {
	if len(in) > MaxPrefixes {
		return nil, fmt.Errorf("%d source ranges, at most %d", len(in), MaxPrefixes)
	}
	var out []netip.Prefix
	for _, p := range in {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("source range %s is none", p)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

// isPage tells whether a text may be a page: printable, with line breaks.
func isPage(s string) bool {
	return len(s) <= maxPageBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '\n' && r != '\r' && r != '\t' && !unicode.IsPrint(r)
	})
}

// plainText makes a text fit for one line of a condition.
func plainText(s string) string {
	const limit = 300
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}

func acceptBasic(v *Vhost) error {
	auth := *v.BasicAuth
	auth.Realm = orDefault(auth.Realm, "restricted")
	auth.Users = slices.Clone(auth.Users)
	if !realmRE.MatchString(auth.Realm) {
		return fmt.Errorf("realm %s is not 1 to 64 letters, digits, blanks and ._-", quoted(auth.Realm))
	}
	if len(auth.Users) == 0 || len(auth.Users) > maxUsers {
		return fmt.Errorf("%d users, 1 to %d are possible", len(auth.Users), maxUsers)
	}
	names := map[string]bool{}
	for _, u := range auth.Users {
		switch {
		case !userRE.MatchString(u.Name) || names[u.Name]:
			return fmt.Errorf("user %s comes twice, or is not 1 to 64 letters, digits and ._@+-", quoted(u.Name))
		case !bcryptRE.MatchString(string(u.Hash)):
			return fmt.Errorf("user %s: not a bcrypt hash of a cost from 4 to 14", u.Name)
		}
		names[u.Name] = true
	}
	slices.SortFunc(auth.Users, func(x, y BasicUser) int { return strings.Compare(x.Name, y.Name) })
	v.BasicAuth = &auth
	return nil
}

func (a *accepted) acceptForward(v *Vhost) (err error) {
	auth := *v.ForwardAuth
	if auth.Address, err = checkBackend(auth.Address, a.lan, a.forbidden); err != nil {
		return fmt.Errorf("forward authentication: %w", err)
	}
	if auth.Path = orDefault(auth.Path, "/"); !probePathRE.MatchString(auth.Path) {
		return fmt.Errorf("forward authentication: path %s is not a plain URL path", quoted(auth.Path))
	}
	if len(auth.CopyHeaders) > maxHeaders {
		return fmt.Errorf("forward authentication: more than %d headers", maxHeaders)
	}
	for _, name := range auth.CopyHeaders {
		if err := acceptHeader(name); err != nil {
			return fmt.Errorf("forward authentication: %w", err)
		}
	}
	v.ForwardAuth = &auth
	return nil
}

func (a *accepted) acceptTLS(t TLS, wild []string) (TLS, error) {
	t.Mode = orDefault(t.Mode, TLSInternal)
	if t.Mode != TLSACME {
		t.ACMEDirectory, t.ACMEEmail, t.ACMEDNS = "", "", false
	}
	if t.Mode != TLSProvided {
		t.Certificate, t.PrivateKey = "", ""
	}
	switch t.Mode {
	case TLSInternal:
	case TLSACME:
		switch {
		case t.ACMEDNS && a.acmeDNS == nil:
			return t, errors.New("the DNS challenge needs a name server: spec.acme.dns of the Appliance")
		case !t.ACMEDNS && len(wild) > 0:
			return t, fmt.Errorf("a certificate for *.%s needs the DNS challenge", wild[0])
		}
		return t, checkACME(t)
	case TLSProvided:
		return acceptPair(t)
	case TLSOff:
		if t.Redirect {
			return t, errors.New("redirect to HTTPS needs TLS")
		}
	default:
		return t, fmt.Errorf("TLS mode %s is not %s, %s, %s or %s", quoted(t.Mode), TLSInternal, TLSACME, TLSProvided, TLSOff)
	}
	return t, nil
}

func (a *accepted) acceptNames(hosts []string) ([]string, error) {
	if len(hosts) == 0 || len(hosts) > MaxHostsPerVhost {
		return nil, fmt.Errorf("%d hosts, 1 to %d are possible", len(hosts), MaxHostsPerVhost)
	}
	var out []string
	for _, h := range hosts {
		h = strings.ToLower(h)
		name, wild := strings.CutPrefix(h, "*.")
		if err := checkHostName(name); err != nil || wild && !strings.Contains(name, ".") {
			return nil, fmt.Errorf("host: %s is not a DNS name, or *. before one of two labels or more", quoted(h))
		}
		if name == a.lanZone() || strings.HasSuffix(name, "."+a.lanZone()) {
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
		rule, err := a.acceptRule(path, r)
		if err != nil {
			return nil, fmt.Errorf("path %s: %w", orDefault(path, "/"), err)
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

func (a *accepted) acceptRule(path string, r Rule) (Rule, error) {
	if len(r.Backends) > MaxBackends {
		return r, fmt.Errorf("%d backends, at most %d", len(r.Backends), MaxBackends)
	}
	rule := r
	rule.Path, rule.Backends = path, nil
	for _, b := range r.Backends {
		address, err := checkBackend(b.Address, a.lan, a.forbidden)
		if err != nil {
			return r, err
		}
		if b.Weight < 0 || b.Weight > MaxWeight {
			return r, fmt.Errorf("backend %s: weight %d is not from 1 to %d", address, b.Weight, MaxWeight)
		}
		rule.Backends = append(rule.Backends, Backend{Address: address, Weight: max(b.Weight, 1)})
	}
	var err error
	if rule.Request, err = acceptHeaders(r.Request); err != nil {
		return r, err
	}
	if rule.Response, err = acceptHeaders(r.Response); err != nil {
		return r, err
	}
	for _, d := range []time.Duration{r.ConnectTimeout, r.ResponseTimeout} {
		if d < 0 || d > maxTimeout {
			return r, fmt.Errorf("a time-out of %s", d)
		}
	}
	rule.Balance = orDefault(r.Balance, BalanceRoundRobin)
	if !slices.Contains([]string{BalanceRoundRobin, BalanceLeast, BalanceClient}, rule.Balance) {
		return r, fmt.Errorf("balance %s is not one of %s, %s and %s", quoted(r.Balance), BalanceRoundRobin, BalanceLeast, BalanceClient)
	}
	if d := r.Redirect; d != nil {
		own := *d
		own.Code = cmp.Or(d.Code, 302)
		if d.To == "" || !isRedirect(d.To) || !slices.Contains([]int{301, 302, 307, 308}, own.Code) {
			return r, fmt.Errorf("redirect %d to %s is not one to an http or https URL or a path", own.Code, quoted(d.To))
		}
		rule.Redirect = &own
	}
	if t := r.TLS; t != nil && t.ServerName != "" {
		if err := checkHostName(t.ServerName); err != nil {
			return r, fmt.Errorf("server name: %w", err)
		}
	}
	rule.Health, err = acceptHealth(r.Health)
	return rule, err
}

func acceptHealth(h *Health) (*Health, error) {
	if h == nil {
		return nil, nil
	}
	own := *h
	own.Interval, own.Timeout = cmp.Or(h.Interval, 10*time.Second), cmp.Or(h.Timeout, 5*time.Second)
	own.MaxFails, own.FailDuration = cmp.Or(h.MaxFails, 1), cmp.Or(h.FailDuration, 10*time.Second)
	for _, d := range []time.Duration{own.Interval, own.Timeout, own.FailDuration} {
		if d < time.Second || d > time.Hour {
			return nil, fmt.Errorf("health check: %s is not from 1s to 1h", d)
		}
	}
	switch {
	case own.Path != "" && !probePathRE.MatchString(own.Path):
		return nil, fmt.Errorf("health check: path %s is not a plain URL path", quoted(own.Path))
	case own.Status != 0 && (own.Status < 200 || own.Status > 599):
		return nil, fmt.Errorf("health check: status %d is not from 200 to 599", own.Status)
	case own.MaxFails < 1 || own.MaxFails > 100:
		return nil, fmt.Errorf("health check: %d fails are not from 1 to 100", own.MaxFails)
	}
	return &own, nil
}
