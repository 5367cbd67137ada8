package appliance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// Guests come, change and go without a restart of dnsmasq, except where a lease has to
// be taken back.
func testLiveData(t *testing.T, s *sandbox) {
	pid := func() int { return s.seen(ServiceDNSMasq).MainPID }
	before := pid()
	in := s.quickstart()
	in.Hosts = append(in.Hosts, Host{Key: "default/two", Hostname: "two", MAC: "bc:24:11:00:00:02", Address: netip.MustParseAddr("10.20.0.51")})
	s.mustBeLive(mustRender(t, in))
	lookup := []string{"ip", "netns", "exec", "lan", "getent", "hosts", "two.prox.local"}
	if got := s.must(lookup...); !strings.HasPrefix(got, "10.20.0.51 ") {
		t.Errorf("a new guest: %q", got)
	}
	in.Hosts[1].Address = netip.MustParseAddr("10.20.0.52")
	s.mustBeLive(mustRender(t, in))
	if got := s.must(lookup...); !strings.HasPrefix(got, "10.20.0.52 ") {
		t.Errorf("a changed guest: %q", got)
	}
	if pid() != before {
		t.Error("dnsmasq was restarted for data")
	}
	s.must("bash", "-c", "echo '4000000000 bc:24:11:00:00:02 10.20.0.52 * *' >> /var/lib/proximity/dnsmasq.leases")
	s.must("bash", "-c", "echo '4000000000 bc:24:11:00:00:99 10.20.0.53 * *' >> /var/lib/proximity/dnsmasq.leases")
	s.must("/bin/sh", AgentPath, "restart", "dnsmasq") // reads the file
	in.Hosts[1] = Host{Key: "default/three", Hostname: "three", MAC: "bc:24:11:00:00:03", Address: netip.MustParseAddr("10.20.0.53")}
	r := s.mustBeLive(mustRender(t, in))
	if len(r.Observation.Leases) != 0 {
		t.Errorf("leases of a guest that went, and of a stranger on a reserved address: %+v", r.Observation.Leases)
	}
	if out, code := s.try(nil, lookup...); code == 0 {
		t.Errorf("a removed guest still resolves: %s", out)
	}
}

// Whatever is broken from outside is seen by observe and repaired by apply.
func testDrift(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	for _, c := range []struct{ name, command, want string }{
		{"file deleted", "rm /etc/proximity/vhosts.json", "vhosts.json is missing"},
		{"table deleted", "rm /etc/proximity/vhosts.table", "vhosts.table is missing"},
		{"table changed", "echo x >> /etc/proximity/vhosts.table", "vhosts.table differs"},
		{"configuration deleted", "rm /etc/proximity/proxy.json", "proxy.json is missing"},
		{"file changed", "echo log-queries >> /etc/proximity/dnsmasq.conf", "dnsmasq.conf differs"},
		{"file added", "echo '10.20.0.9 evil.prox.local' > /etc/proximity/hosts.d/evil", "evil is not part of it (any more)"},
		{"symbolic link added", "ln -s /etc/passwd /etc/proximity/hosts.d/link", "link is not part of it (any more)"},
		{"directory gone", "rm -r /etc/proximity/hosts.d", "app.default.nginx-01 is missing"},
		{"everything gone", "rm -r /etc/proximity", "|never"},
		{"rules flushed", "nft flush ruleset", "firewall table is missing"},
		{"rule added", "nft insert rule inet proximity forward accept", "firewall table was changed"},
		{"forwarding off", "echo 0 > /proc/sys/net/ipv4/ip_forward", "forwarding is false"},
		{"WAN changed", "ip address add 198.51.100.7/24 dev eth0", "firewall table was changed"},
		{"service stopped", s.manage("stop", ServiceCaddy), s.family.Unit(ServiceCaddy) + " is inactive"},
		{"service disabled", s.manage("disable", ServiceDNSMasq), s.family.Unit(ServiceDNSMasq) + " does not start at boot"},
		{"dnsmasq hangs", "kill -STOP " + s.manage("pid", ServiceDNSMasq), "DNS: no answer"},
		{"Caddy hangs", "kill -STOP " + s.manage("pid", ServiceCaddy), "proxy: no answer"},
		{"unit changed", "echo '# x' >> " + s.family.UnitDir() + "/" + s.family.Unit(ServiceCaddy), s.family.Unit(ServiceCaddy) + " differs"},
		{"apply was cut", "rm /etc/proximity/manifest", "did not come to its end"},
		{"Caddy has another configuration", `sed 's/the app/x/' /etc/proximity/vhosts.json | sed 's/"body": "[0-9a-f]*/"body": "0/' > /run/x.json
			curl -sf --unix-socket /run/proximity/caddy-admin.sock -H 'Host: proximity-admin' -H 'Content-Type: application/json' --data-binary @/run/x.json http://x/load`,
			"proxy: answers from another configuration"},
	} {
		s.must("bash", "-c", c.command)
		broken := time.Now()
		d := Diff(b, s.observe(b.Hash))
		if want, _, special := strings.Cut(c.want, "|"); !special && !slices.ContainsFunc(d, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("%s: want %q in %q", c.name, want, d)
		}
		if len(d) == 0 {
			t.Errorf("%s: not seen", c.name)
		}
		s.mustBeLive(b)
		if err := s.serves(); err != nil {
			t.Errorf("%s, repaired, but: %v", c.name, err)
		}
		t.Logf("%-35s seen and repaired in %s", c.name, time.Since(broken).Round(time.Millisecond))
	}
}

// A set that a tool refuses, or that did not arrive whole, changes nothing.
func testRefused(t *testing.T, s *sandbox, b Bundle) {
	config := VhostsPath
	if s.table {
		config = ProxyPath
	}
	for _, c := range []struct {
		name string
		b    Bundle
		exit int
		says string
	}{
		{"dnsmasq", withFile(b, DNSMasqPath, "no-such-option\n"), ExitDNSMasq, "bad option at line 1"},
		{"caddy", withFile(b, config, strings.Replace(contentOf(t, b, config), `"grace_period"`, `"grace"`, 1)), ExitCaddy, "grace"},
		{"table", withFile(b, TablePath, "{\"entries\":7}\n"), ExitCaddy, "the table is not whole"},
		{"nft", withFile(b, NATPath, "table inet proximity { chain x { nonsense; } }\n"), ExitNFT, "nonsense"},
	} {
		if c.name == "table" && !s.table {
			continue
		}
		_, err := s.apply(c.b)
		var failed *AgentError
		if !errors.As(err, &failed) || failed.Exit != c.exit || !failed.Refused() || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want exit %d and %q", c.name, err, c.exit, c.says)
		}
		if d := Diff(b, s.observe(b.Hash)); len(d) != 0 {
			t.Errorf("%s: refused, but live differs: %q", c.name, d)
		}
	}
	var archive strings.Builder
	if _, err := fmt.Fprint(&archive, readAll(t, Stage(b))); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 511, 40000, archive.Len() / 2, archive.Len() - 2500} {
		out, code := s.try(strings.NewReader(archive.String()[:cut]), "/bin/sh", AgentPath, "apply", "-")
		if code != ExitStage {
			t.Errorf("archive cut at %d: exit %d\n%s", cut, code, out)
		}
	}
	s.must("mkdir", "-p", "/var/lib/proximity/stage")
	s.must("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "/var/lib/proximity/stage")
	if _, err := s.apply(b); err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("full disk: %v", err)
	}
	s.must("umount", "/var/lib/proximity/stage")
	if d := Diff(b, s.observe(b.Hash)); len(d) != 0 {
		t.Errorf("after damaged stages: %q", d)
	}
}

// A set that passes the checks and then does not work gives way to the one that did.
func testRollBack(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	bad := withFile(b, DNSMasqPath, "user=no-such-user-here\ninterface=eth1\nbind-dynamic\n")
	r, err := s.apply(bad)
	var failed *AgentError
	if !errors.As(err, &failed) || failed.Exit != ExitBadDNS || !r.RolledBack {
		t.Fatalf("got %v, %+v", err, r)
	}
	if !strings.Contains(err.Error(), "no-such-user-here") {
		t.Errorf("without dnsmasq's own words: %v", err)
	}
	if d := Diff(b, s.observe(b.Hash)); len(d) != 0 {
		t.Errorf("after the roll-back: %q", d)
	}
	if err := s.serves(); err != nil {
		t.Error(err)
	}
	// What was broken before is no reason to go back: the new set stays for the next try.
	s.must("ip", "address", "flush", "dev", "eth1")
	in := s.quickstart()
	in.Upstreams = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	next := mustRender(t, in)
	if r, err := s.apply(next); !errors.As(err, &failed) || failed.Exit != ExitBadDNS || r.RolledBack {
		t.Errorf("broken before and after: %v, %+v", err, r)
	}
	s.must("ip", "address", "add", "10.20.0.1/24", "dev", "eth1")
	s.mustBeLive(next)
}

// An apply that is killed leaves the old or the new, and the next one finishes it. The
// delays spread over an apply's length; the property holds wherever they hit.
func testKilled(t *testing.T, s *sandbox, b Bundle) {
	in := s.quickstart()
	in.LeaseTime = 3600e9
	in.Hosts = append(in.Hosts, Host{Key: "default/two", Hostname: "two", MAC: "bc:24:11:00:00:02", Address: netip.MustParseAddr("10.20.0.51")})
	in.Vhosts = append(in.Vhosts, Vhost{Key: "default/two", UID: "v", Hosts: []string{"two.prox.local"}})
	in.Forbidden = nil
	other := mustRender(t, in)
	s.mustBeLive(b)
	for i := range 16 {
		target := []Bundle{other, b}[i%2]
		delay := fmt.Sprintf("0.%03d", 40+i*40)
		_, code := s.try(Stage(target), "timeout", "-s", "KILL", delay, "/bin/sh", AgentPath, "apply", "-")
		if code != 0 && code != 137 && code != -1 {
			t.Errorf("killed after %s s: exit %d", delay, code)
		}
		if err := s.serves(); err != nil {
			// A restart may be under way; what counts is that it comes by itself.
			s.must("sleep", "1.5")
			if err := s.serves(); err != nil {
				t.Errorf("killed after %s s: %v", delay, err)
			}
		}
		if i%4 == 3 {
			s.mustBeLive(target)
		}
	}
	s.mustBeLive(b)
}
