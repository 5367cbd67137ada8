package appliance

import (
	"encoding/json"
	"fmt"
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
// take. Whole names come before wildcards, so that they win.
func stockConfig(a *accepted, proof string) object {
	plain, secure := []object{proofRoute(proof)}, []object{}
	add := func(v acceptedVhost, hosts []string, suffix string) {
		if len(hosts) == 0 {
			return
		}
		http, https := a.schemes(v, dialectStock)
		plain = append(plain, vhostRoute("http"+suffix, v, hosts, http))
		if https != nil {
			secure = append(secure, vhostRoute("https"+suffix, v, hosts, https))
		}
	}
	for _, v := range a.vhosts {
		add(v, v.exact(), "")
	}
	for _, v := range a.vhosts {
		var wild []string
		for _, parent := range v.wild() {
			wild = append(wild, "*."+parent)
		}
		add(v, wild, "-any")
	}
	return caddyBase(a, plain, secure, tlsApp(a, a.vhosts, dialectStock))
}

// caddyBase is what every configuration has: the routes of both ports go before the answer to
// unknown names.
func caddyBase(a *accepted, plain, secure []object, tls object) object {
	unknown := textRoute(404, "404: no application is published under this name\n")
	logs := a.accessLog()
	if logs {
		unknown["handle"] = append([]object{skipLog()}, unknown["handle"].([]object)...)
	}
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
					"http":  server(":80", append(plain, unknown), nil, logs),
					"https": server(":443", append(secure, unknown), []object{{}}, logs),
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
func server(listen string, routes []object, tlsPolicies []object, logs bool) object {
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
	if logs {
		s["logs"] = object{} // of every request; what is not to be logged says so itself
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
