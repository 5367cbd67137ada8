package kinds

import (
	"strings"
	"testing"
)

// TestVhostFields: each part of a spec alone beside a good rule, and what is said of it. A
// part about which nothing is said is good.
func TestVhostFields(t *testing.T) {
	for _, tt := range []struct{ part, want string }{
		{"maxBodySize: 10Mi", ""},
		{"maxBodySize: '1'", "spec.maxBodySize: "},
		{"requestHeaders: {set: {X-A: b c}, remove: [Cookie]}", ""},
		{`requestHeaders: {set: {X-A: "{env.HOME}"}}`, `spec.requestHeaders.set["X-A"]: `},
		{`responseHeaders: {set: {X-A: "ä"}}`, `spec.responseHeaders.set["X-A"]: `},
		{"responseHeaders: {set: {X-A: a, x-a: b}}", `spec.responseHeaders.set["x-a"]: `},
		{"responseHeaders: {remove: [Connection]}", "spec.responseHeaders.remove[0]: "},
		{"allowFrom: [10.0.0.0/8, 'fd00::/8']", ""},
		{"allowFrom: [10.0.0.1/8]", "spec.allowFrom[0]: found \"10.0.0.1/8\"; allowed is the address of the range itself: 10.0.0.0/8"},
		{"allowFrom: [10.0.0.1]", "spec.allowFrom[0]: "},
		{"maintenance: {enabled: true, message: \"a\\nb\", allowFrom: [10.0.0.0/8]}", ""},
		{"maintenance: {allowFrom: [x]}", "spec.maintenance.allowFrom[0]: "},
		{"auth: {basic: {users: [{name: ann, password: {name: s, key: k}}]}}", ""},
		{"auth: {basic: {users: [{name: 'a:b', password: {name: s, key: k}}]}}", "spec.auth.basic.users[0].name: "},
		{"auth: {basic: {users: [{name: ann}]}}", "spec.auth.basic.users[0].password: "},
		{"auth: {}", "spec.auth: missing"},
		{"auth: {basic: {users: [{name: ann, password: {name: s, key: k}}]}, forward: {address: 'a.b:1'}}", "spec.auth.forward: "},
		{"auth: {forward: {address: 'auth.example:9091', path: /api/verify, copyHeaders: [Remote-User]}}", ""},
		{"auth: {forward: {address: 'localhost:9091'}}", "spec.auth.forward.address: "},
		{"auth: {forward: {address: 'a.b:1', copyHeaders: ['a b']}}", "spec.auth.forward.copyHeaders[0]: "},
		{"tls: {mode: acme, acme: {directory: 'https://ca.example/dir', contact: a@b.example, challenge: DNS}}", ""},
		{"tls: {mode: acme, acme: {directory: 'http://ca.example/dir'}}", "spec.tls.acme.directory: "},
		{"tls: {mode: acme, acme: {contact: nobody}}", "spec.tls.acme.contact: "},
		{"tls: {mode: acme, acme: {challenge: HTTP}}", "spec.hosts[1]: "},
		{"tls: {mode: internal, acme: {}}", "spec.tls.acme: "},
		{"tls: {mode: provided, certificate: {name: s, key: c}, privateKey: {name: s, key: k}}", ""},
		{"tls: {mode: provided}", "spec.tls.certificate: missing"},
		{"tls: {privateKey: {name: s, key: k}}", "spec.tls.privateKey: "},
		{"tls: {mode: off, redirect: true}", "spec.tls.redirect: "},
	} {
		document := "spec:\n  hosts: [www.prox.local, '*.apps.prox.local']\n  rules: [{backends: [{address: 'a.b:1'}]}]\n  " + tt.part + "\n"
		checkPart(t, document, tt.part, tt.want)
	}
	for _, tt := range []struct{ part, want string }{
		{"backends: [{address: 'a.b:1'}]", ""},
		{"redirect: {to: 'https://a.example/b?c=d', code: 308, keepPath: true}", ""},
		{"redirect: {to: /b}", ""},
		{"redirect: {to: ''}", "spec.rules[0].redirect.to: "},
		{"redirect: {to: 'ftp://a'}", "spec.rules[0].redirect.to: "},
		{"redirect: {to: '/{env.HOME}'}", "spec.rules[0].redirect.to: "},
		{"redirect: {to: /b, code: 304}", "spec.rules[0].redirect.code: "},
		{"redirect: {to: /b}, backends: [{address: 'a.b:1'}]", "spec.rules[0].redirect: "},
		{"backends: [{address: 'a.b:1'}], timeouts: {connect: 1s, response: 1h}", ""},
		{"backends: [{address: 'a.b:1'}], timeouts: {connect: 1h}", "spec.rules[0].timeouts.connect: "},
		{"backends: [{address: 'a.b:1'}], healthCheck: {path: /x, interval: 5s, timeout: 1s, status: 204, maxFails: 3, failDuration: 1m}", ""},
		{"backends: [{address: 'a.b:1'}], healthCheck: {path: x}", "spec.rules[0].healthCheck.path: "},
		{"backends: [{address: 'a.b:1'}], healthCheck: {interval: 1ms}", "spec.rules[0].healthCheck.interval: "},
		{"backends: [{address: 'a.b:1'}], backendTLS: {insecureSkipVerify: true, serverName: nas.example}", ""},
		{"backends: [{address: 'a.b:1'}], backendTLS: {serverName: 'a b'}", "spec.rules[0].backendTLS.serverName: "},
		{"backends: [{address: 'a.b:1', weight: 2}], loadBalancing: LeastConnections", "spec.rules[0].backends[0].weight: "},
		{"backends: [{address: 'a.b:1'}], loadBalancing: Best", "spec.rules[0].loadBalancing: "},
	} {
		checkPart(t, "spec:\n  hosts: [www.prox.local]\n  rules: [{"+tt.part+"}]\n", tt.part, tt.want)
	}
}

func checkPart(t *testing.T, document, part, want string) {
	t.Helper()
	got := problemsOf(t, "Vhost", document)
	if want == "" && got != "" || want != "" && !strings.Contains(got, ": "+want) {
		t.Errorf("%s: %q, want %q", part, got, want)
	}
}
