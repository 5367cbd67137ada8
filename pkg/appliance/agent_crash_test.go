package appliance

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crashPoint is a place in the agent where it dies: before or after a line that is there once.
type crashPoint struct {
	name, line string
	after      bool
}

// crashPoints go from the stage to the manifest, in the order in which an apply passes them.
var crashPoints = []crashPoint{
	{"stage checked", `	before=$(check_nat; check_dns; check_dns_wan; check_proxy)`, false},
	{"live files copied", `		swap "$stage" || {`, false},
	{"some files swapped", `			sed "s,^,$READY," | xargs -r mv -f -t "$dir" || exit 1`, true},
	{"all files put", `	if [ -n "$new" ]; then put "$1/files" "$new" || return 1; fi`, true},
	{"swapped", `	CURRENT=$stage/manifest` + "\n", true},
	{"services enabled", `	failed=` + "\n" + `	reload_logs`, false},
	{"rules loaded", `	reload_nat || failed="$failed nat"`, true},
	{"leases to be dropped are written", `	if [ ! -s $DROP ] && active "$unit"`, false},
	{"dnsmasq restarted", `	reload_dnsmasq || failed="$failed dns"`, true},
	{"proxy reloaded", `	reload_caddy || failed="$failed proxy"`, true},
	{"verified", `	commit "$stage"` + "\n", false},
	{"manifest written", `	rm -f $STATE/pending` + "\n", false},
}

// crashing is the agent that dies at a point.
func crashing(t *testing.T, p crashPoint) string {
	t.Helper()
	if n := strings.Count(debianAgent, p.line); n != 1 {
		t.Fatalf("%s: %q is in the agent %d times", p.name, p.line, n)
	}
	const die = "\tkill -KILL $$; sleep 5\n"
	if p.after {
		return strings.Replace(debianAgent, p.line, strings.TrimSuffix(p.line, "\n")+"\n"+die, 1)
	}
	return strings.Replace(debianAgent, p.line, die+p.line, 1)
}

// TestCrashPoints kills the agent at every point of an apply, and of going back.
func TestCrashPoints(t *testing.T) {
	onlyAmongAll(t, "takes a minute or two")
	s := newSandbox(t, debian{}, tool(t, "caddy"))
	b := mustRender(t, quickstart())
	firstContact(t, s, b)
	t.Run("apply", func(t *testing.T) { testCrashPoints(t, s.in(t)) })
	t.Run("roll back", func(t *testing.T) { testCrashInRollBack(t, s.in(t), b) })
}

// testCrashPoints ends an apply at each of its points. Old or new is served all the time, but for
// the moments of a restart, and without anybody's help; the next apply comes to its end.
func testCrashPoints(t *testing.T, s *sandbox) {
	old, next := changedEverywhere("10.20.0.51", "one"), changedEverywhere("10.20.0.52", "two")
	s.mustBeLive(old)
	for _, p := range crashPoints {
		s.write("/run/agent-that-dies", crashing(t, p))
		// A stranger has the address of a guest of the new set: its lease is to be dropped.
		s.must("bash", "-c", "echo '4000000000 bc:24:11:00:00:99 10.20.0.53 * *' >> /var/lib/proximity/dnsmasq.leases")
		s.must("/bin/sh", AgentPath, "restart", "dnsmasq") // reads the file
		s.settled(p.name + ": before")
		if out, code := s.try(Stage(next), "tar", "-x", "-o", "-C", "/", "-f", "-"); code != 0 {
			t.Fatalf("%s: unpack: %s", p.name, out)
		}
		watch := s.watch()
		if out, code := s.try(nil, "/bin/sh", "/run/agent-that-dies", "apply", StageDir(next)); code != 137 && code != -1 {
			t.Errorf("%s: exit %d instead of a death\n%s", p.name, code, out)
		}
		s.settled(p.name)
		down := watch()
		t.Logf("%-35s neither old nor new for %s", p.name, down.Round(time.Millisecond))
		if down > 2*time.Second {
			t.Errorf("%s: neither old nor new is served for %s", p.name, down)
		}
		s.mustBeLive(next)
		if leases := s.observe("").Leases; len(leases) != 0 {
			t.Errorf("%s: leases %+v", p.name, leases)
		}
		s.mustBeLive(old)
	}
}

// changedEverywhere is a set whose kinds differ in every file that changes in a life.
func changedEverywhere(address, zone string) Bundle {
	in := quickstart()
	in.Upstreams = []netip.Addr{netip.MustParseAddr("192.168.50.1")}
	in.Hosts = append(in.Hosts, Host{Key: "default/two", Hostname: "two", MAC: "bc:24:11:00:00:02", Address: netip.MustParseAddr(address)})
	in.Vhosts = append(in.Vhosts, Vhost{Key: "default/" + zone, UID: zone, Hosts: []string{zone + ".prox.local"}, Rules: in.Vhosts[0].Rules})
	if zone == "two" {
		in.LeaseTime = time.Hour
		in.Forbidden = nil
		in.Hosts = append(in.Hosts, Host{Key: "default/three", Hostname: "three", MAC: "bc:24:11:00:00:03", Address: netip.MustParseAddr("10.20.0.53")})
		in.Vhosts[0].AccessLog = true // part of the proxy's configuration, not of its table only
	}
	b, err := Render(in)
	if err != nil {
		panic(err)
	}
	return b
}

// write makes a file in the sandbox.
func (s *sandbox) write(path, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(s.pid), "root", path), []byte(content), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// settled waits until the page is served by name, which takes DNS, proxy and rules. How long it
// may take is no promise; that nobody applies anything meanwhile is the point.
func (s *sandbox) settled(when string) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = s.serves(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s: not served by itself: %v", when, err)
}

// watch asks for the page and for a name again and again, until the function that it returns is
// called; that tells the longest time in which one of them was not answered. On a machine that
// is busy with other things a question may take long by itself: each counts as 100 ms at most.
func (s *sandbox) watch() (longest func() time.Duration) {
	stop, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst, now time.Duration
		for {
			select {
			case <-stop:
				done <- worst
				return
			default:
			}
			begin := time.Now()
			_, code := s.try(nil, "ip", "netns", "exec", "lan", "sh", "-c", "getent hosts nginx-01.lan.prox.local && curl -sSf -m 1 -o /dev/null -H 'Host: nginx-01.prox.local' http://10.20.0.1/")
			if code == 0 {
				now = 0
				continue
			}
			now += min(time.Since(begin), 100*time.Millisecond)
			worst = max(worst, now)
		}
	}()
	return func() time.Duration { close(stop); return <-done }
}

// A set that passes the checks and does not work, and an agent that dies while it goes back: the
// next apply of a good set ends it all the same.
func testCrashInRollBack(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	bad := withFile(b, DNSMasqPath, "user=no-such-user-here\ninterface=eth1\nbind-dynamic\n")
	for _, p := range []crashPoint{
		{"before the old files are back", `	restore $STATE/rollback` + "\n" + `	PENDING=`, false},
		{"before the services have them", `	PENDING='unit journal`, false},
	} {
		s.write("/run/agent-that-dies", crashing(t, p))
		if out, code := s.try(Stage(bad), "tar", "-x", "-o", "-C", "/", "-f", "-"); code != 0 {
			t.Fatalf("unpack: %s", out)
		}
		if out, code := s.try(nil, "/bin/sh", "/run/agent-that-dies", "apply", StageDir(bad)); code != 137 && code != -1 {
			t.Errorf("%s: exit %d instead of a death\n%s", p.name, code, out)
		}
		if d := Diff(b, s.observe(b.Hash)); len(d) == 0 {
			t.Errorf("%s: nobody sees that something is to be done", p.name)
		}
		if r := s.mustBeLive(b); !slices.ContainsFunc(r.Actions, func(a string) bool { return strings.HasPrefix(a, "restart "+UnitDNSMasq) }) {
			t.Errorf("%s: the next apply did %q", p.name, r.Actions)
		}
		if err := s.serves(); err != nil {
			t.Error(fmt.Errorf("%s: %w", p.name, err))
		}
	}
}
