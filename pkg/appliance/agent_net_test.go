package appliance

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// testNet: declared ports, egress, names on the WAN interface, by traffic.
func testNet(t *testing.T, s *sandbox, b Bundle) {
	lan := func(argv ...string) (string, int) {
		out, code := s.try(nil, append([]string{"ip", "netns", "exec", "lan"}, argv...)...)
		return string(out), code
	}
	wan := func(argv ...string) (string, int) {
		out, code := s.try(nil, append([]string{"ip", "netns", "exec", "wan"}, argv...)...)
		return string(out), code
	}
	get := func(url string) []string { return []string{"curl", "-sS", "-m", "3", url} }
	// The question of the self-check, sent from the WAN side to the WAN address.
	ask := func(file string) (string, int) {
		return wan("bash", "-c", "exec 3<>/dev/udp/192.168.50.100/53; cat "+file+" >&3; timeout 1 dd bs=2048 count=1 status=none <&3 | od -An -v -tx1 | tr -d ' \\n'")
	}
	const own, outside = EtcDir + "/dns-query-wan.bin", "/run/outside.bin"
	s.must("sh", "-c", "printf '"+octal(dnsQuery("www.outside.example", typeA))+"' >"+outside)

	in := s.quickstart()
	in.DNSWAN = &DNSWAN{}
	in.Forwards = []Forward{
		{Key: "web", Protocol: "tcp", Port: 8081, To: netip.MustParseAddrPort("10.20.0.50:80")},
		{Key: "mine", Protocol: "tcp", Port: 8082, To: netip.MustParseAddrPort("10.20.0.50:80"), From: []netip.Prefix{netip.MustParsePrefix("192.168.50.9/32")}},
	}
	s.mustBeLive(mustRender(t, in))
	if out, code := wan(get("http://192.168.50.100:8081/")...); out != "the app" {
		t.Errorf("declared port: %d %q", code, out)
	}
	for _, closed := range []string{"8082", "8083", "53"} {
		if out, code := wan("curl", "-sS", "-m", "1", "http://192.168.50.100:"+closed+"/"); code == 0 {
			t.Errorf("port %s: %q", closed, out)
		}
	}
	if out, _ := ask(own); !strings.HasSuffix(out, "c0a83264") { // 192.168.50.100
		t.Errorf("own name on the WAN interface: %s", out)
	}
	if out, _ := ask(outside); len(out) < 8 || out[7] != '5' { // RCODE 5: refused
		t.Errorf("another name on the WAN interface: %s", out)
	}
	if err := s.serves(); err != nil {
		t.Error(err)
	}

	// A guest of which nothing is live yet, so that it has no manifest, comes to it as well.
	s.must("sh", "-c", "rm "+EtcDir+"/manifest && "+s.manage("stop", ServiceDNSWAN))
	s.mustBeLive(mustRender(t, in))
	if out, _ := ask(own); !strings.HasSuffix(out, "c0a83264") {
		t.Errorf("own name on the WAN interface of a new guest: %s", out)
	}

	in.DNSWAN.From = []netip.Prefix{netip.MustParsePrefix("192.168.50.77/32")}
	in.Hosts[0].Egress = &Egress{Deny: true, Rules: []EgressRule{{To: netip.MustParsePrefix("203.0.113.0/24"), Protocol: "tcp", Ports: []int{9999}}}}
	s.mustBeLive(mustRender(t, in))
	if out, _ := ask(own); out != "" {
		t.Errorf("a source that is not declared is answered: %s", out)
	}
	if out, code := lan(get("http://203.0.113.10:8080/")...); code == 0 {
		t.Errorf("egress that the App may not have: %q", out)
	}
	in.Hosts[0].Egress.Rules[0].Ports = []int{9999, 8080}
	s.mustBeLive(mustRender(t, in))
	if out, code := lan(get("http://203.0.113.10:8080/")...); out != "the outside" {
		t.Errorf("egress that the App may have: %d %q", code, out)
	}
	// The appliance's own refusals stay.
	in.Hosts[0].Egress = &Egress{Rules: []EgressRule{{To: netip.MustParsePrefix("192.168.50.0/24")}}}
	s.mustBeLive(mustRender(t, in))
	if out, code := lan(get("http://192.168.50.2:8080/")...); code == 0 {
		t.Errorf("a rule opened what the appliance does not: %q", out)
	}
	// Connections are counted, and the count is no drift.
	in.Hosts[0].Egress, in.MaxConnections = nil, 16
	b16 := mustRender(t, in)
	s.mustBeLive(b16)
	out, _ := lan("bash", "-c", "n=0; for i in $(seq 40); do { exec {fd}<>/dev/tcp/203.0.113.10/8080; } 2>/dev/null && n=$((n+1)); done; echo $n")
	if strings.TrimSpace(out) != "16" {
		t.Errorf("%s of 40 connections were had, want 16", strings.TrimSpace(out))
	}
	if o := s.observe(b16.Hash); len(Diff(b16, o)) != 0 {
		t.Errorf("after connections: %q", Diff(b16, o))
	}
	// All of it goes again.
	s.must("cp", own, "/run/own.bin") // it goes too
	s.mustBeLive(b)
	if out, _ := ask("/run/own.bin"); out != "" {
		t.Errorf("names on the WAN interface are still answered: %s", out)
	}
	if out, code := wan("curl", "-sS", "-m", "1", "http://192.168.50.100:8081/"); code == 0 {
		t.Errorf("the port is still open: %q", out)
	}
	if o := s.observe(""); len(o.Services) != 3 {
		t.Errorf("services %v", o.Services)
	}
}

// octal is bytes for printf(1).
func octal(b []byte) string {
	const digits = "01234567"
	var w strings.Builder
	for _, c := range b {
		w.Write([]byte{'\\', digits[c>>6], digits[c>>3&7], digits[c&7]})
	}
	return w.String()
}

// testWildcard: what has no name of its own below a wildcard leads to the proxy, guests' names
// do not.
func testWildcard(t *testing.T, s *sandbox, b Bundle) {
	in := s.quickstart()
	in.Vhosts[0].Hosts = []string{"nginx-01.prox.local", "*.prox.local"}
	s.mustBeLive(mustRender(t, in))
	for name, want := range map[string]string{
		"any.prox.local": "10.20.0.1", "nginx-01.prox.local": "10.20.0.1", "nginx-01.lan.prox.local": "10.20.0.50", "nobody.lan.prox.local": "",
	} {
		out, _ := s.try(nil, "ip", "netns", "exec", "lan", "getent", "ahostsv4", name)
		if !strings.HasPrefix(string(out), want) || want == "" && len(out) != 0 {
			t.Errorf("%s: %q, want %q", name, out, want)
		}
	}
	if out, code := s.try(nil, "ip", "netns", "exec", "lan", "curl", "-sS", "-m", "3", "http://any.prox.local/"); string(out) != "the app" {
		t.Errorf("page of a wildcard: %d %q", code, out)
	}
	s.mustBeLive(b)
}

// testSelf: a name that leads to the appliance itself is no backend, whichever of its addresses it
// has, and counts as one that does not answer.
func testSelf(t *testing.T, s *sandbox, b Bundle) {
	s.must("bash", "-c", "printf '%s\n' '127.0.0.1 inner.example' '10.20.0.1 outer.example' '192.168.50.100 uplink.example' >>/etc/hosts")
	s.must("bash", "-c", "HOME=/run setsid caddy respond --listen :2020 'an inner door' >/dev/null 2>&1 </dev/null & sleep 0.5")
	in := s.quickstart()
	for i, backend := range []string{"inner.example:2020", "outer.example:2020", "uplink.example:2020", "outer.example:80"} {
		name := fmt.Sprintf("self-%d", i)
		in.Vhosts = append(in.Vhosts, Vhost{Key: "b/" + name, UID: name, Hosts: []string{name + ".prox.local"}, Rules: []Rule{{Backends: []Backend{{Address: backend}}}}})
		in.Probes = append(in.Probes, Probe{Key: "backend/" + name, Kind: ProbeTCP, Address: backend})
	}
	s.mustBeLive(mustRender(t, in))
	if out, _ := s.try(nil, "curl", "-sS", "-m", "3", "http://127.0.0.1:2020/"); string(out) != "an inner door" {
		t.Fatalf("the door to begin with: %q", out)
	}
	o := s.observe("")
	for _, v := range in.Vhosts[1:] {
		out, _ := s.try(nil, "ip", "netns", "exec", "lan", "curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "http://"+v.Hosts[0]+"/")
		if string(out) != "502" {
			t.Errorf("%s: %q, want 502", v.Rules[0].Backends[0].Address, out)
		}
		if p := o.Probe("backend/" + v.UID); p.State != ProbeFail {
			t.Errorf("%s: %+v", v.Rules[0].Backends[0].Address, p)
		}
	}
	if err := s.serves(); err != nil {
		t.Error(err)
	}
	s.must("sh", "-c", "if command -v iptables >/dev/null && ! nft --version >/dev/null 2>&1; then iptables -F PROXIMITY-SELF; else nft flush chain inet proximity self; fi")
	if out, _ := s.try(nil, "ip", "netns", "exec", "lan", "curl", "-sS", "-m", "5", "http://"+in.Vhosts[1].Hosts[0]+"/"); string(out) != "an inner door" {
		t.Errorf("it is not the rule that keeps the proxy from the door: %q", out)
	}
	s.mustBeLive(b)
}

// testSenders: a guest with a reservation reaches the outside from its own address and from no
// other, and nobody else from that.
func testSenders(t *testing.T, s *sandbox) {
	reaches := func(from string) bool {
		_, code := s.try(nil, "ip", "netns", "exec", "lan", "curl", "-sS", "-m", "2", "--interface", from, "-o", "/dev/null", "http://203.0.113.10:8080/")
		return code == 0
	}
	mac := func(address string) {
		s.must("ip", "-n", "lan", "link", "set", "eth0", "address", address)
		s.must("ip", "-n", "lan", "route", "replace", "default", "via", "10.20.0.1")
	}
	const own, another, strangers = "10.20.0.50", "10.20.0.60", "bc:24:11:00:00:99"
	s.must("ip", "-n", "lan", "address", "add", another+"/24", "dev", "eth0")
	for _, tt := range []struct {
		name, mac, from string
		want            bool
	}{
		{"the guest from its address", "bc:24:11:00:00:01", own, true},
		{"the guest from another", "bc:24:11:00:00:01", another, false},
		{"a stranger from the guest's", strangers, own, false},
		{"a stranger from another", strangers, another, true},
	} {
		mac(tt.mac)
		if got := reaches(tt.from); got != tt.want {
			t.Errorf("%s: reached the outside: %v, want %v", tt.name, got, tt.want)
		}
	}
	mac("bc:24:11:00:00:01")
	s.must("ip", "-n", "lan", "address", "del", another+"/24", "dev", "eth0")
	if err := s.serves(); err != nil {
		t.Error(err)
	}
}
