package appliance

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// quickstart is the smallest useful appliance: one guest, one vhost.
func quickstart() Input {
	return Input{
		Name: "prox-appliance", UID: "6f1d2c3b-0001", InstallationID: "inst-1",
		LAN:       netip.MustParsePrefix("10.20.0.1/24"),
		DHCPStart: netip.MustParseAddr("10.20.0.100"), DHCPEnd: netip.MustParseAddr("10.20.0.250"),
		Zone: "prox.local", NAT: true,
		Forbidden: []netip.Prefix{netip.MustParsePrefix("192.168.50.2/32")},
		Hosts: []Host{
			{Key: "default/nginx-01", Hostname: "nginx-01", MAC: "BC:24:11:00:00:01", Address: netip.MustParseAddr("10.20.0.50")},
		},
		Vhosts: []Vhost{{
			Key: "default/nginx-01", UID: "v1", Hosts: []string{"nginx-01.prox.local"},
			Rules: []Rule{{Backends: []Backend{{Address: "10.20.0.50:80"}}}},
		}},
		Probes: []Probe{
			{Key: "app/default/nginx-01", Kind: ProbeHTTP, Address: "10.20.0.50:80"},
			{Key: "vhost/default/nginx-01", Kind: ProbeHTTP, Address: "127.0.0.1:80", Host: "nginx-01.prox.local"},
		},
	}
}

// everything uses every field.
func everything() Input {
	in := quickstart()
	in.Name, in.LANInterface, in.WANInterface = "edge.site", "lan0", "wan0"
	in.LAN = netip.MustParsePrefix("10.40.3.254/22")
	in.DHCPStart, in.DHCPEnd = netip.MustParseAddr("10.40.1.0"), netip.MustParseAddr("10.40.2.255")
	in.LeaseTime, in.Zone = 30*time.Minute, "Apps.Example.ORG"
	in.Upstreams = []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::fe")}
	in.Allowed = []netip.Prefix{netip.MustParsePrefix("192.168.50.10/32"), netip.MustParsePrefix("172.20.0.0/16")}
	in.Hosts = []Host{
		{Key: "default/web", Hostname: "web", MAC: "bc:24:11:00:00:01", Address: netip.MustParseAddr("10.40.0.10")},
		{Key: "shop/db", Hostname: "db", MAC: "bc:24:11:00:00:02", Address: netip.MustParseAddr("10.40.0.11")},
	}
	in.Vhosts = []Vhost{
		{
			Key: "shop/store.front", UID: "v1", Hosts: []string{"www.shop.example", "Shop.Example"},
			Rules: []Rule{
				{Path: "/", Backends: []Backend{{Address: "10.40.0.10:80", Weight: 3}, {Address: "10.40.0.12:80", Weight: 1}}},
				{Path: "/api/", Backends: []Backend{{Address: "api.partner.example:8443"}}},
				{Path: "/api/v2", Backends: nil},
			},
			TLS: TLS{Mode: TLSACME, Redirect: true, ACMEDirectory: "https://acme.example/dir", ACMEEmail: "ops@shop.example"},
		},
		{
			Key: "default/web", UID: "v2", Hosts: []string{"web.apps.example.org"},
			Rules: []Rule{{Path: "/only", Backends: []Backend{{Address: "10.40.0.10:8080"}}}},
			TLS:   TLS{Mode: TLSInternal, Redirect: true},
		},
		{Key: "default/plain", UID: "v3", Hosts: []string{"plain.apps.example.org"}, TLS: TLS{Mode: TLSOff}},
		guarded(),
		{
			Key: "default/wild", UID: "v5", Hosts: []string{"*.dev.apps.example.org", "dev.apps.example.org"},
			Rules:       []Rule{{Backends: []Backend{{Address: "10.40.0.10:80"}}}},
			TLS:         TLS{Mode: TLSACME, ACMEDNS: true, ACMEDirectory: "https://acme.example/dir"},
			ForwardAuth: &ForwardAuth{Address: "10.40.0.11:9091", Path: "/api/verify?rd=x", CopyHeaders: []string{"Remote-User", "Remote-Groups"}},
		},
		{
			Key: "default/given", UID: "v6", Hosts: []string{"given.apps.example.org"},
			Rules: []Rule{{Backends: []Backend{{Address: "10.40.0.10:80"}}}},
			TLS:   TLS{Mode: TLSProvided, Redirect: true, Certificate: givenCertificate, PrivateKey: Hidden(givenKey)},
		},
		{
			Key: "default/cockpit", UID: "v7", Hosts: []string{"cockpit.apps.example.org", "net.example.org"},
			Rules: []Rule{{ManagementUI: true}}, TLS: TLS{Redirect: true},
			AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24")},
		},
	}
	in.Hosts[0].Egress = &Egress{Deny: true, Rules: []EgressRule{
		{To: netip.MustParsePrefix("203.0.113.0/24"), Protocol: "tcp", Ports: []int{443, 80}},
		{Protocol: "udp", Ports: []int{123}}, {Deny: true, To: netip.MustParsePrefix("198.51.100.7/32")}, {Protocol: "tcp", Deny: true},
	}}
	in.Hosts[1].Egress = &Egress{Rules: []EgressRule{{Deny: true, To: netip.MustParsePrefix("203.0.113.0/24")}}}
	in.MaxConnections, in.Cockpit = 100, true
	in.DNSWAN = &DNSWAN{From: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("192.168.0.0/16")}}
	in.Forwards = []Forward{
		{Key: "ssh", Protocol: "tcp", Port: 2222, To: netip.MustParseAddrPort("10.40.0.10:22"), From: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24")}},
		{Key: "game", Protocol: "udp", Port: 27015, To: netip.MustParseAddrPort("10.40.0.11:27015")},
	}
	in.ACMERoot = givenCertificate
	in.ACMEDNS = &DNSUpdate{Server: "192.168.50.53:53", KeyName: "acme.example.org.", Algorithm: "hmac-sha256", Key: "c2VjcmV0c2VjcmV0"}
	in.Probes = append(in.Probes, Probe{Key: "app/shop/db", Kind: ProbeTCP, Address: "10.40.0.11:5432"})
	return in
}

// guarded has everything that a Vhost may ask for.
func guarded() Vhost {
	return Vhost{
		Key: "default/guarded", UID: "v4", Hosts: []string{"guarded.apps.example.org"},
		Rules: []Rule{
			{
				Path: "/app", StripPath: true, Balance: BalanceRoundRobin, ConnectTimeout: time.Second, ResponseTimeout: time.Minute,
				Backends: []Backend{{Address: "10.40.0.10:8443", Weight: 3}, {Address: "nas.example.org:8443", Weight: 1}},
				TLS:      &BackendTLS{Insecure: true, ServerName: "nas.example.org"},
				Request:  Headers{Set: map[string]string{"Host": "nas.example.org"}, Remove: []string{"Cookie"}},
				Response: Headers{Set: map[string]string{"Cache-Control": "no-store, max-age=0"}, Remove: []string{"Server"}},
				Health:   &Health{Path: "/healthz", Interval: 5 * time.Second, Timeout: time.Second, Status: 204, MaxFails: 3, FailDuration: 30 * time.Second},
			},
			{Path: "/old", Redirect: &Redirect{To: "https://new.example.org/x%20y", Code: 301, KeepPath: true}},
			{Path: "/least", Balance: BalanceLeast, Backends: []Backend{{Address: "10.40.0.10:80"}, {Address: "10.40.0.11:80"}}, Health: &Health{}},
			{Balance: BalanceClient, Backends: []Backend{{Address: "10.40.0.10:80"}, {Address: "10.40.0.11:80"}}},
		},
		TLS:         TLS{Mode: TLSInternal},
		Request:     Headers{Set: map[string]string{"X-Site": "edge 1"}},
		Response:    Headers{Set: map[string]string{"X-Frame-Options": "DENY"}},
		MaxBody:     10 << 20,
		AllowFrom:   []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("fd00::/8")},
		BasicAuth:   &BasicAuth{Realm: "Staff only", Users: []BasicUser{{Name: "ann@example.org", Hash: "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"}}},
		AccessLog:   true,
		Maintenance: &Maintenance{Message: "<style>p{color:red}</style><p>{env.HOME} Zurück um 5</p>", AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.168.50.7/32")}},
	}
}

// isolated has no NAT, no guests and no vhosts.
func isolated() Input {
	in := quickstart()
	in.NAT, in.Forbidden, in.Hosts, in.Vhosts, in.Probes = false, nil, nil, nil, nil
	return in
}

// rejecting has a fault of every kind beside one good item of each kind.
func rejecting() Input {
	in := quickstart()
	in.Hosts = append(in.Hosts,
		Host{Key: "b/same-mac", Hostname: "x1", MAC: "bc:24:11:00:00:01", Address: netip.MustParseAddr("10.20.0.51")},
		Host{Key: "b/same-ip", Hostname: "x2", MAC: "bc:24:11:00:00:09", Address: netip.MustParseAddr("10.20.0.50")},
		Host{Key: "b/same-name", Hostname: "NGINX-01", MAC: "bc:24:11:00:00:0a", Address: netip.MustParseAddr("10.20.0.52")},
		Host{Key: "b/outside", Hostname: "x3", MAC: "bc:24:11:00:00:0b", Address: netip.MustParseAddr("10.21.0.52")},
		Host{Key: "b/self", Hostname: "prox-appliance", MAC: "bc:24:11:00:00:0c", Address: netip.MustParseAddr("10.20.0.53")},
		Host{Key: "b/evil", Hostname: "a\nserver=6.6.6.6", MAC: "bc:24:11:00:00:0d", Address: netip.MustParseAddr("10.20.0.54")},
	)
	in.Vhosts = append(in.Vhosts,
		Vhost{Key: "b/conflict", UID: "v2", Hosts: []string{"free.prox.local", "Nginx-01.prox.local"}},
		Vhost{Key: "b/lan", UID: "v3", Hosts: []string{"nginx-01.lan.prox.local"}},
		Vhost{Key: "b/inside", UID: "v4", Hosts: []string{"a.prox.local"}, Rules: []Rule{{Backends: []Backend{{Address: "127.0.0.1:2019"}}}}},
		Vhost{Key: "b/forbidden", UID: "v5", Hosts: []string{"c.prox.local"}, Rules: []Rule{{Backends: []Backend{{Address: "192.168.50.2:8006"}}}}},
		Vhost{Key: "b/path", UID: "v6", Hosts: []string{"d.prox.local"}, Rules: []Rule{{Path: "/{env.HOME}"}}},
		Vhost{Key: "b/later", UID: "v7", Hosts: []string{"free.prox.local"}},
		Vhost{Key: "b/ui", UID: "v8", Hosts: []string{"e.prox.local"}, Rules: []Rule{{ManagementUI: true}}, TLS: TLS{Redirect: true}},
	)
	in.Forwards = []Forward{
		{Key: "web", Protocol: "tcp", Port: 443, To: netip.MustParseAddrPort("10.20.0.50:443")},
		{Key: "ssh", Protocol: "tcp", Port: 22, To: netip.MustParseAddrPort("10.20.0.50:22")},
		{Key: "twice", Protocol: "tcp", Port: 22, To: netip.MustParseAddrPort("10.20.0.51:22")},
		{Key: "outside", Protocol: "udp", Port: 22, To: netip.MustParseAddrPort("192.168.50.2:22")},
		{Key: "later", Protocol: "udp", Port: 23, To: netip.MustParseAddrPort("10.20.0.50:23"), Unready: "App x has no address yet"},
	}
	in.Probes = append(in.Probes, Probe{Key: "two words", Kind: ProbeHTTP, Address: "10.20.0.50:80"})
	return in
}

// onAlpine has everything that there is on Alpine.
func onAlpine() Input {
	in := everything()
	in.OS, in.Cockpit, in.LogMiB = "alpine", false, 64
	return in
}

var goldenInputs = map[string]func() Input{
	"quickstart": quickstart, "everything": everything, "isolated": isolated, "rejecting": rejecting, "alpine": onAlpine,
}

// TestGolden holds the whole rendered set against testdata/<name>.golden. The agent's
// text is left out: it is a file of its own in this repository.
func TestGolden(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(goldenInputs)) {
		t.Run(name, func(t *testing.T) {
			b := mustRender(t, goldenInputs[name]())
			var got bytes.Buffer
			for _, f := range b.Files {
				if f.Path == AgentPath {
					continue
				}
				fmt.Fprintf(&got, "=== %s %04o %s\n", f.Path, f.Mode, f.Part)
				if f.Path == DNSQueryPath {
					fmt.Fprintf(&got, "%q\n", f.Content)
				} else {
					got.Write(f.Content)
				}
			}
			for _, r := range b.Rejected {
				fmt.Fprintf(&got, "=== rejected %s %s conflict=%q: %s\n", r.Kind, r.Key, r.Conflict, r.Reason)
			}
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("rendering differs from %s (run with -update and look at the diff)\n%s", path, firstDifference(got.String(), string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
	return "got ends early"
}

func mustRender(t *testing.T, in Input) Bundle {
	t.Helper()
	b, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func contentOf(t *testing.T, b Bundle, path string) string {
	t.Helper()
	for _, f := range b.Files {
		if f.Path == path {
			return string(f.Content)
		}
	}
	t.Fatalf("no file %s in the bundle", path)
	return ""
}

func TestRenderRefusesBadApplianceFields(t *testing.T) {
	for field, spoil := range map[string]func(*Input){
		"name":        func(in *Input) { in.Name = "a b" },
		"system":      func(in *Input) { in.OS = "gentoo" },
		"Cockpit":     func(in *Input) { in.OS, in.Cockpit = "alpine", true },
		"empty name":  func(in *Input) { in.Name = "" },
		"uid":         func(in *Input) { in.UID = "x\ny" },
		"interface":   func(in *Input) { in.LANInterface = `eth1" accept` },
		"interfaces":  func(in *Input) { in.LANInterface, in.WANInterface = "eth0", "eth0" },
		"zone":        func(in *Input) { in.Zone = "prox.local/1.2.3.4" },
		"empty zone":  func(in *Input) { in.Zone = "" },
		"numeric tld": func(in *Input) { in.Zone = "prox.1" },
		"LAN v6":      func(in *Input) { in.LAN = netip.MustParsePrefix("fd00::1/64") },
		"LAN network": func(in *Input) { in.LAN = netip.MustParsePrefix("10.20.0.0/24") },
		"LAN size":    func(in *Input) { in.LAN = netip.MustParsePrefix("10.20.0.1/8") },
		"range order": func(in *Input) { in.DHCPStart, in.DHCPEnd = in.DHCPEnd, in.DHCPStart },
		"range out":   func(in *Input) { in.DHCPEnd = netip.MustParseAddr("10.20.1.5") },
		"range self":  func(in *Input) { in.DHCPStart = netip.MustParseAddr("10.20.0.1") },
		"broadcast":   func(in *Input) { in.DHCPEnd = netip.MustParseAddr("10.20.0.255") },
		"lease":       func(in *Input) { in.LeaseTime = time.Second },
		"upstream":    func(in *Input) { in.Upstreams = []netip.Addr{in.LAN.Addr()} },
		"zoned":       func(in *Input) { in.Upstreams = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} },
		"forbidden":   func(in *Input) { in.Forbidden = []netip.Prefix{netip.MustParsePrefix("fd00::/8")} },
		"allowed":     func(in *Input) { in.Allowed = []netip.Prefix{{}} },
	} {
		t.Run(field, func(t *testing.T) {
			in := quickstart()
			spoil(&in)
			if _, err := Render(in); err == nil {
				t.Errorf("accepted: %+v", in)
			} else if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error of more than one line: %q", err)
			}
		})
	}
}

// The order of the items only matters for conflicts.
func TestRenderIsIndependentOfOrder(t *testing.T) {
	in := everything()
	want := mustRender(t, in)
	slices.Reverse(in.Hosts)
	slices.Reverse(in.Vhosts)
	slices.Reverse(in.Probes)
	for _, v := range in.Vhosts {
		slices.Reverse(v.Hosts)
		slices.Reverse(v.Rules)
	}
	got := mustRender(t, in)
	if got.Hash != want.Hash || !bytes.Equal(got.manifest, want.manifest) {
		t.Error("another order of the same items gives another bundle")
	}
}

func TestSplitHorizon(t *testing.T) {
	in := quickstart()
	app, vhost := HostsDir+"/app.default.nginx-01", HostsDir+"/vhost.default.nginx-01"
	b := mustRender(t, in)
	if got := contentOf(t, b, app); !strings.HasSuffix(got, "\n10.20.0.50 nginx-01.lan.prox.local\n") {
		t.Errorf("with a vhost, the guest must only have its lan name: %q", got)
	}
	if got := contentOf(t, b, vhost); !strings.HasSuffix(got, "\n10.20.0.1 nginx-01.prox.local\n") {
		t.Errorf("the vhost's name must lead to the proxy: %q", got)
	}
	in.Vhosts = nil
	b = mustRender(t, in)
	if got := contentOf(t, b, app); !strings.HasSuffix(got, "\n10.20.0.50 nginx-01.lan.prox.local nginx-01.prox.local\n") {
		t.Errorf("without a vhost, the plain name is the guest's: %q", got)
	}
}

func TestUpstreamWeights(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    map[string]int
	}{
		{[]int{5}, map[string]int{"0": 1}},
		{[]int{2, 4}, map[string]int{"0": 1, "1": 2}},
		{[]int{3, 1, 2}, map[string]int{"0": 3, "1": 1, "2": 2}},
		{[]int{1000, 1}, map[string]int{"0": 127, "1": 1}},
	} {
		var backends []Backend
		for i, w := range c.weights {
			backends = append(backends, Backend{Address: fmt.Sprint(i), Weight: w})
		}
		got := map[string]int{}
		for _, u := range repeated(backends) {
			got[u["dial"].(string)]++
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("weights %v: got %v, want %v", c.weights, got, c.want)
		}
	}
}

// As many Vhosts as may be, each with one backend, fit into a bundle with room for their guests.
func TestMaxVhostsFit(t *testing.T) {
	in := quickstart()
	in.Vhosts = nil
	for i := range MaxVhosts {
		name := fmt.Sprintf("vhost-%05d", i)
		in.Vhosts = append(in.Vhosts, Vhost{
			Key: "default/" + name, UID: "6f1d2c3b-0000-4000-8000-000000000001", Hosts: []string{name + ".apps.prox.local"},
			Rules: []Rule{{Backends: []Backend{{Address: "10.20.0.50:8080"}}}},
		})
	}
	b := mustRender(t, in)
	size := 0
	for _, f := range b.Files {
		size += len(f.Content)
	}
	if size > MaxBundleBytes*3/4 || len(b.Rejected) != 0 {
		t.Errorf("%d bytes of %d, %d rejected", size, MaxBundleBytes, len(b.Rejected))
	}
	t.Logf("%d Vhosts: table %d bytes, vhosts.json %d, all %d", MaxVhosts, len(contentOf(t, b, TablePath)), len(contentOf(t, b, VhostsPath)), size)
}
