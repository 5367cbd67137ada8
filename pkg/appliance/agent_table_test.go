package appliance

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A change of Vhosts is a rename: Caddy is neither restarted nor loaded, and a connection
// through it lives on. One that it cannot serve is told, and hurts no other.
func testTable(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	before := s.seen(ServiceCaddy).MainPID
	in := s.quickstart()
	in.Vhosts = append(in.Vhosts, Vhost{Key: "default/two", UID: "v", Hosts: []string{"two.prox.local"}, Rules: in.Vhosts[0].Rules})
	next := mustRender(t, in)
	r := s.mustBeLive(next)
	for _, action := range r.Actions {
		if strings.Contains(action, s.family.Unit(ServiceCaddy)) || strings.Contains(action, "proxy.json") {
			t.Errorf("one Vhost more: %q", r.Actions)
		}
	}
	if got := s.must("ip", "netns", "exec", "lan", "curl", "-sS", "-m", "3", "http://two.prox.local/"); got != "the app" {
		t.Errorf("the new Vhost: %q", got)
	}
	if after := s.seen(ServiceCaddy).MainPID; after != before {
		t.Error("Caddy was restarted")
	}

	// A line that the renderer does not write, but another version may.
	table := contentOf(t, next, TablePath)
	broken := strings.Replace(table, `{"id":"default/two","hosts":["two.prox.local"],"http":[{"handle":[{"handler":"reverse_proxy"`,
		`{"id":"default/two","hosts":["two.prox.local"],"http":[{"handle":[{"handler":"no_such_handler"`, 1)
	if broken == table {
		t.Fatalf("nothing to break in %s", table)
	}
	r = s.mustBeLive(withFile(next, TablePath, broken))
	if why := r.Observation.Vhosts["default/two"]; !strings.Contains(why, "no_such_handler") || len(r.Observation.Vhosts) != 1 {
		t.Errorf("told of Vhosts: %q", r.Observation.Vhosts)
	}
	if err := s.serves(); err != nil {
		t.Error(err)
	}
	s.mustBeLive(b)
}

// The guest's Caddy becomes a stock one, as by an update of packages, and ours again.
func testOtherCaddy(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	binary := filepath.Join("/proc", strconv.Itoa(s.pid), "root/usr/local/bin/caddy")
	s.must("cp", "-p", "/usr/local/bin/caddy", "/usr/local/bin/caddy.ours")
	script, err := os.ReadFile(stockCaddy(t))
	if err != nil {
		t.Fatal(err)
	}
	script = []byte(strings.Replace(string(script), tool(t, "caddy"), "/usr/local/bin/caddy.ours", 1))
	if err := os.Remove(binary); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, script, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"", "mv /usr/local/bin/caddy.ours /usr/local/bin/caddy"} {
		if step != "" {
			s.must("sh", "-c", step)
		}
		if d := Diff(b, s.observe(b.Hash)); len(d) == 0 {
			t.Error("the old Caddy still runs, and nobody saw it")
		}
		begin := time.Now()
		s.mustBeLive(b)
		if err := s.serves(); err != nil {
			t.Error(err)
		}
		t.Logf("another Caddy: in %s", time.Since(begin).Round(time.Millisecond))
	}
}
