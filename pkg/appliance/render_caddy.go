package appliance

import (
	"encoding/json"
	"fmt"
	"slices"
)

// What the agent and Caddy agree on.
const (
	caddyAdminSocket = "/run/proximity/caddy-admin.sock"
	caddyAdminHost   = "proximity-admin" // Host header of the admin socket
)

// object is a JSON object; encoding/json writes its keys in order, so the same vhosts
// give the same bytes.
type object map[string]any

// renderCaddy makes a configuration of Caddy (stockConfig or proxyConfig) and the proof: what
// only this very configuration answers to the agent's request, so that one request tells
// whether it is the one running.
func renderCaddy(a *accepted, build func(a *accepted, proof string) object) (config []byte, proof string, err error) {
	bare, err := json.Marshal(build(a, ""))
	if err != nil {
		return nil, "", fmt.Errorf("caddy configuration: %w", err)
	}
	proof = contentHash(bare)[:2*proofBytes]
	config, err = json.MarshalIndent(build(a, proof), "", " ")
	if err != nil {
		return nil, "", fmt.Errorf("caddy configuration: %w", err)
	}
	return append(config, '\n'), proof, nil
}

// stockConfig has all Vhosts in it, in the subset that both Debian's 2.6 and current releases
// take.
func stockConfig(a *accepted, proof string) object {
	plain, secure := []object{proofRoute(proof)}, []object{}
	for _, v := range a.vhosts {
		served := vhostRoute(v, "http", v.rules)
		if v.tls.Redirect {
			served = redirectRoute(v)
		}
		plain = append(plain, served)
		if v.tls.Mode != TLSOff {
			secure = append(secure, vhostRoute(v, "https", v.rules))
		}
	}
	return caddyBase(a, plain, secure, tlsApp(a.vhosts))
}

// caddyBase is what every configuration has: the routes of both ports go before the answer to
// unknown names.
func caddyBase(a *accepted, plain, secure []object, tls object) object {
	unknown := textRoute(404, "404: no application is published under this name\n")
	return object{
		"admin": object{
			"listen":  "unix/" + caddyAdminSocket,
			"origins": []string{caddyAdminHost},
			"config":  object{"persist": false}, // the file is the truth, also after a crash
		},
		"storage": object{"module": "file_system", "root": CaddyStorage},
		"apps": object{
			"http": object{
				"grace_period": "5s",
				"servers": object{
					"http":  server(":80", append(plain, unknown), nil),
					"https": server(":443", append(secure, unknown), []object{{}}),
				},
			},
			"tls": tls,
			"pki": object{"certificate_authorities": object{"local": object{
				"name":          "Proximity " + a.name,
				"install_trust": false,
			}}},
		},
	}
}

// server listens on one port. Automatic HTTPS is off: which names get a certificate
// and which are redirected is said explicitly. UDP stays closed, so no HTTP/3.
func server(listen string, routes []object, tlsPolicies []object) object {
	s := object{
		"listen":              []string{listen},
		"protocols":           []string{"h1", "h2"},
		"automatic_https":     object{"disable": true},
		"read_header_timeout": "10s",
		"idle_timeout":        "2m",
		"routes":              routes,
		"errors": object{"routes": []object{{"handle": []object{{
			"handler":     "static_response",
			"status_code": "{http.error.status_code}",
			"headers":     textHeaders(),
			"body":        "{http.error.status_code}: {http.error.status_text}\n",
		}}}}},
	}
	if tlsPolicies != nil {
		s["tls_connection_policies"] = tlsPolicies
	}
	return s
}

// proofRoute answers the agent, and nobody else: the source must be the guest itself.
func proofRoute(proof string) object {
	route := textRoute(200, proof+"\n")
	route["@id"] = "proximity-check"
	route["match"] = []object{{
		"host":      []string{ProxyProofHost},
		"remote_ip": object{"ranges": []string{"127.0.0.0/8"}},
	}}
	return route
}

// routeID lets a human find a route through the admin socket: /id/http:<ns>.<name>:<uid>.
func routeID(scheme string, v acceptedVhost) string { return scheme + ":" + v.fileName + ":" + v.uid }

// vhostRoute serves the hosts of a Vhost.
func vhostRoute(v acceptedVhost, scheme string, rules []Rule) object {
	return object{
		"@id":      routeID(scheme, v),
		"match":    []object{{"host": v.hosts}},
		"handle":   []object{{"handler": "subroute", "routes": ruleRoutes(rules)}},
		"terminal": true,
	}
}

// ruleRoutes answers every request for a Vhost.
func ruleRoutes(rules []Rule) []object {
	var routes []object
	for _, r := range rules {
		routes = append(routes, ruleRoute(r))
	}
	if len(rules) == 0 {
		routes = append(routes, textRoute(503, "503: this application has no running backend\n"))
	} else if rules[len(rules)-1].Path != "" {
		routes = append(routes, textRoute(404, "404: nothing is published under this path\n"))
	}
	return routes
}

func redirectRoute(v acceptedVhost) object {
	return object{
		"@id":      routeID("http", v),
		"match":    []object{{"host": v.hosts}},
		"handle":   []object{redirect()},
		"terminal": true,
	}
}

func redirect() object {
	return object{
		"handler":     "static_response",
		"status_code": 308,
		"headers":     object{"Location": []string{"https://{http.request.host}{http.request.uri}"}},
	}
}

func ruleRoute(r Rule) object {
	if len(r.Backends) == 0 {
		route := textRoute(503, "503: this application has no running backend\n")
		return withPath(route, r.Path)
	}
	proxy := object{
		"handler":   "reverse_proxy",
		"upstreams": upstreams(r.Backends),
		"transport": object{"protocol": "http", "dial_timeout": "3s"},
	}
	if len(r.Backends) > 1 {
		// A backend that fails is left out for a while and the request goes to another.
		proxy["load_balancing"] = object{
			"selection_policy": object{"policy": "round_robin"},
			"try_duration":     "5s",
			"try_interval":     "100ms",
		}
		proxy["health_checks"] = object{"passive": object{"fail_duration": "10s", "max_fails": 1}}
	}
	return withPath(object{"handle": []object{proxy}, "terminal": true}, r.Path)
}

func withPath(route object, path string) object {
	if path != "" {
		route["match"] = []object{{"path": []string{path, path + "/*"}}}
	}
	return route
}

func textRoute(status int, body string) object {
	return object{
		"handle": []object{{
			"handler":     "static_response",
			"status_code": status,
			"headers":     textHeaders(),
			"body":        body,
		}},
		"terminal": true,
	}
}

func textHeaders() object {
	return object{"Content-Type": []string{"text/plain; charset=utf-8"}}
}

// maxSlots bounds how often backends are repeated to express weights.
const maxSlots = 128

// upstreams expresses weights by repetition, because Debian's Caddy has no weighted
// policy: round robin over a list in which a backend of weight 3 stands three times.
// Beyond maxSlots the weights are scaled down, no backend below one slot.
func upstreams(backends []Backend) []object {
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
