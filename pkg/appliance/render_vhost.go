package appliance

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// dialect says which Caddy reads it.
type dialect bool

const (
	dialectStock dialect = true  // Debian's 2.6 and all after it
	dialectTable dialect = false // the one of cmd/proximity-caddy
)

// schemes are the routes of a Vhost for HTTP and for HTTPS, nil for none.
func (a *accepted) schemes(v acceptedVhost, d dialect) (http, https []object) {
	served := a.chain(v, d)
	switch {
	case v.TLS.Mode == TLSOff:
		return served, nil
	case v.TLS.Redirect:
		return []object{{"handle": []object{redirectToHTTPS()}}}, served
	}
	return served, served
}

// accessLog tells whether any Vhost has its requests logged.
func (a *accepted) accessLog() bool {
	return slices.ContainsFunc(a.vhosts, func(v acceptedVhost) bool { return v.AccessLog })
}

// chain is what a request for a Vhost goes through: first who is let in, then the rules.
func (a *accepted) chain(v acceptedVhost, d dialect) []object {
	var routes []object
	if a.accessLog() && !v.AccessLog {
		routes = append(routes, object{"handle": []object{skipLog()}})
	}
	if len(v.AllowFrom) > 0 {
		route := textRoute(403, "403: not from this address\n")
		route["match"] = []object{notFrom(v.AllowFrom)}
		routes = append(routes, route)
	}
	if v.Maintenance != nil {
		routes = append(routes, maintenanceRoute(v.Maintenance))
	}
	var handle []object
	if v.MaxBody > 0 {
		handle = append(handle, object{"handler": "request_body", "max_size": v.MaxBody})
	}
	if v.BasicAuth != nil {
		handle = append(handle, basicAuth(v.BasicAuth))
	}
	if v.ForwardAuth != nil {
		handle = append(handle, forwardAuth(v.ForwardAuth)...)
	}
	if h := headers(v.Request, v.Response); h != nil {
		handle = append(handle, h)
	}
	if handle != nil {
		routes = append(routes, object{"handle": handle})
	}
	return append(routes, ruleRoutes(v.Rules, d)...)
}

// vhostRoute serves hosts of a Vhost. Its id lets a human find it through the admin socket:
// /id/http:<ns>.<name>:<uid>.
func vhostRoute(scheme string, v acceptedVhost, hosts []string, routes []object) object {
	return object{
		"@id":      scheme + ":" + v.fileName + ":" + v.UID,
		"match":    []object{{"host": hosts}},
		"handle":   []object{{"handler": "subroute", "routes": routes}},
		"terminal": true,
	}
}

func redirectToHTTPS() object {
	return object{
		"handler":     "static_response",
		"status_code": 308,
		"headers":     object{"Location": []string{"https://{http.request.host}{http.request.uri}"}},
	}
}

// skipLog keeps a request out of the log; the variable has had two names.
func skipLog() object { return object{"handler": "vars", "log_skip": true, "skip_log": true} }

// notFrom matches sources outside of ranges. The appliance itself, which asks for its Vhosts
// all the time, is in every range.
func notFrom(ranges []netip.Prefix) object {
	texts := []string{"127.0.0.0/8"}
	for _, p := range ranges {
		texts = append(texts, p.String())
	}
	return object{"not": []object{{"remote_ip": object{"ranges": texts}}}}
}

func maintenanceRoute(m *Maintenance) object {
	text := orDefault(m.Message, "503: this application is being worked on; come again soon\n")
	kind := "text/plain; charset=utf-8"
	if strings.HasPrefix(strings.TrimSpace(text), "<") {
		kind = "text/html; charset=utf-8"
	}
	route := textRoute(503, strings.NewReplacer("{", `\{`, "}", `\}`).Replace(text)) // no placeholder
	route["handle"].([]object)[0]["headers"] = object{"Content-Type": []string{kind}, "Retry-After": []string{"300"}, "Cache-Control": []string{"no-store"}}
	if len(m.AllowFrom) > 0 {
		match := notFrom(m.AllowFrom)
		ranges := match["not"].([]object)[0]["remote_ip"].(object)
		ranges["ranges"] = ranges["ranges"].([]string)[1:] // the appliance sees the page too
		route["match"] = []object{match}
	}
	return route
}

func basicAuth(auth *BasicAuth) object {
	var accounts []object
	for _, u := range auth.Users {
		accounts = append(accounts, object{"username": u.Name, "password": base64.StdEncoding.EncodeToString([]byte(u.Hash))})
	}
	return object{"handler": "authentication", "providers": object{"http_basic": object{
		"accounts": accounts, "realm": auth.Realm, "hash": object{"algorithm": "bcrypt"}, "hash_cache": object{},
	}}}
}

// forwardAuth asks the server with the request's headers. What it says of the user is taken
// from its answer only: the same headers of the request are taken out first.
func forwardAuth(auth *ForwardAuth) []object {
	var out, copies []object
	if len(auth.CopyHeaders) > 0 {
		out = append(out, object{"handler": "headers", "request": object{"delete": auth.CopyHeaders}})
	}
	for _, name := range auth.CopyHeaders {
		from := "{http.reverse_proxy.header." + name + "}"
		copies = append(copies, object{
			"match":  []object{{"not": []object{{"vars": object{from: []string{""}}}}}},
			"handle": []object{{"handler": "headers", "request": object{"set": object{name: []string{from}}}}},
		})
	}
	if copies == nil {
		copies = []object{{"handle": []object{{"handler": "vars"}}}} // goes on
	}
	return append(out, object{
		"handler":   "reverse_proxy",
		"upstreams": []object{{"dial": auth.Address}},
		"transport": object{"protocol": "http", "dial_timeout": "3s", "response_header_timeout": "30s"},
		"rewrite":   object{"method": "GET", "uri": auth.Path},
		"headers": object{"request": object{"set": object{
			"X-Forwarded-Method": []string{"{http.request.method}"}, "X-Forwarded-Uri": []string{"{http.request.uri}"},
		}}},
		"handle_response": []object{{"match": object{"status_code": []int{2}}, "routes": copies}},
	})
}

// headers makes the changes of both directions, nil when there are none.
func headers(request, response Headers) object {
	h := object{"handler": "headers"}
	if ops := headerOps(request); ops != nil {
		h["request"] = ops
	}
	if ops := headerOps(response); ops != nil {
		ops["deferred"] = true // after the backend has said its own
		h["response"] = ops
	}
	if len(h) == 1 {
		return nil
	}
	return h
}

func headerOps(h Headers) object {
	ops := object{}
	if len(h.Set) > 0 {
		set := object{}
		for name, value := range h.Set {
			set[name] = []string{value}
		}
		ops["set"] = set
	}
	if len(h.Remove) > 0 {
		ops["delete"] = h.Remove
	}
	if len(ops) == 0 {
		return nil
	}
	return ops
}

// ruleRoutes answers every request for a Vhost.
func ruleRoutes(rules []Rule, d dialect) []object {
	var routes []object
	for _, r := range rules {
		routes = append(routes, ruleRoute(r, d))
	}
	if len(rules) == 0 {
		routes = append(routes, textRoute(503, "503: this application has no running backend\n"))
	} else if rules[len(rules)-1].Path != "" {
		routes = append(routes, textRoute(404, "404: nothing is published under this path\n"))
	}
	return routes
}

func ruleRoute(r Rule, d dialect) object {
	var handle []object
	if h := headers(r.Request, r.Response); h != nil {
		handle = append(handle, h)
	}
	switch {
	case r.Redirect != nil:
		to := r.Redirect.To
		if r.Redirect.KeepPath {
			to = strings.TrimSuffix(to, "/") + "{http.request.uri}"
		}
		handle = append(handle, object{"handler": "static_response", "status_code": r.Redirect.Code, "headers": object{"Location": []string{to}}})
	case r.ManagementUI:
		handle = append(handle, proxyToUI())
	case len(r.Backends) == 0:
		return withPath(textRoute(503, "503: this application has no running backend\n"), r.Path)
	default:
		if r.StripPath && r.Path != "" {
			handle = append(handle, object{"handler": "rewrite", "strip_path_prefix": r.Path})
		}
		handle = append(handle, proxyTo(r, d))
	}
	return withPath(object{"handle": handle, "terminal": true}, r.Path)
}

func withPath(route object, path string) object {
	if path != "" {
		route["match"] = []object{{"path": []string{path, path + "/*"}}}
	}
	return route
}

// proxyToUI sends a request to Cockpit. It has a certificate of its own that nobody knows, which does
// not matter on a socket that only Cockpit listens on. Some Caddys tell a backend over TLS its own
// name, of which a socket has none; Cockpit wants the one that the browser knows.
func proxyToUI() object {
	return object{
		"handler":   "reverse_proxy",
		"upstreams": []object{{"dial": "unix/" + CockpitSocket}},
		"transport": object{
			"protocol": "http", "dial_timeout": "3s", "versions": []string{"1.1"},
			"tls": object{"insecure_skip_verify": true, "server_name": "localhost"},
		},
		"headers": object{"request": object{"set": object{"Host": []string{"{http.request.hostport}"}}}},
	}
}

// proxyTo sends a request to one of the backends.
func proxyTo(r Rule, d dialect) object {
	transport := object{"protocol": "http", "dial_timeout": seconds(r.ConnectTimeout, 3*time.Second)}
	if r.ResponseTimeout > 0 {
		transport["response_header_timeout"] = r.ResponseTimeout.String()
	}
	if t := r.TLS; t != nil {
		tls := object{}
		if t.Insecure {
			tls["insecure_skip_verify"] = true
		}
		if t.ServerName != "" {
			tls["server_name"] = t.ServerName
		}
		transport["tls"] = tls
	}
	proxy := object{"handler": "reverse_proxy", "transport": transport}
	policy := object{"policy": "round_robin"}
	switch {
	case r.Balance == BalanceLeast:
		policy = object{"policy": "least_conn"}
	case r.Balance == BalanceClient:
		policy = object{"policy": "ip_hash"}
	}
	weighted := r.Balance == BalanceRoundRobin && slices.ContainsFunc(r.Backends, func(b Backend) bool { return b.Weight != r.Backends[0].Weight })
	switch {
	case weighted && d == dialectTable:
		var weights []int
		for _, b := range r.Backends {
			weights = append(weights, b.Weight)
		}
		policy = object{"policy": "weighted_round_robin", "weights": weights}
		proxy["upstreams"] = dials(r.Backends)
	case weighted:
		proxy["upstreams"] = repeated(r.Backends)
	default:
		proxy["upstreams"] = dials(r.Backends)
	}
	checks := healthChecks(r)
	if len(r.Backends) > 1 {
		// A backend that fails is left out for a while and the request goes to another.
		proxy["load_balancing"] = object{"selection_policy": policy, "try_duration": "5s", "try_interval": "100ms"}
	}
	if checks != nil {
		proxy["health_checks"] = checks
	}
	return proxy
}

// healthChecks: with several backends one that fails is always left out for a while; a single
// one only when the Vhost says so, for then nothing is left.
func healthChecks(r Rule) object {
	if r.Health == nil {
		if len(r.Backends) < 2 {
			return nil
		}
		return object{"passive": object{"fail_duration": "10s", "max_fails": 1}}
	}
	h := r.Health
	checks := object{"passive": object{"fail_duration": h.FailDuration.String(), "max_fails": h.MaxFails}}
	if h.Path != "" {
		active := object{"uri": h.Path, "interval": h.Interval.String(), "timeout": h.Timeout.String(), "expect_status": 2}
		if h.Status != 0 {
			active["expect_status"] = h.Status
		}
		checks["active"] = active
	}
	return checks
}

func seconds(d, otherwise time.Duration) string {
	if d == 0 {
		d = otherwise
	}
	return d.String()
}

func dials(backends []Backend) (out []object) {
	for _, b := range backends {
		out = append(out, object{"dial": b.Address})
	}
	return out
}

// maxSlots bounds how often backends are repeated to express weights.
const maxSlots = 128

// repeated expresses weights by repetition, because Debian's Caddy has no weighted
// policy: round robin over a list in which a backend of weight 3 stands three times.
// Beyond maxSlots the weights are scaled down, no backend below one slot.
func repeated(backends []Backend) []object {
	weights := make([]int, len(backends))
	divisor, total := 0, 0
	for i, b := range backends {
		weights[i] = b.Weight
		divisor = gcd(divisor, b.Weight)
		total += b.Weight
	}
	for i := range weights {
		weights[i] /= divisor
	}
	if total /= divisor; total > maxSlots {
		for i := range weights {
			weights[i] = max(1, weights[i]*maxSlots/total)
		}
	}
	// Round by round, so that repetitions of one backend do not stand side by side.
	var out []object
	for round := range slices.Max(weights) {
		for i, b := range backends {
			if weights[i] > round {
				out = append(out, object{"dial": b.Address})
			}
		}
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
