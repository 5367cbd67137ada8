package appliance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// openRC unpacks Debian's packages of OpenRC, which set-up has fetched for guests: nothing of them
// is installed on this machine. It is "" for a family that does not need it.
func openRC(t *testing.T, family Family) string {
	t.Helper()
	if family != (alpine{}) {
		return ""
	}
	cache := os.Getenv("PROXIMITY_CACHE")
	if cache == "" {
		cache = "/var/cache/proximity"
	}
	dir := t.TempDir()
	for _, name := range []string{"openrc", "librc1", "libeinfo1"} {
		found, err := filepath.Glob(filepath.Join(cache, "repo/pool/main", name+"_*.deb"))
		if err != nil || len(found) == 0 {
			t.Skipf("no package %s in %s: run make setup", name, cache)
		}
		if out, err := exec.Command(tool(t, "dpkg-deb"), "-x", found[0], dir).CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v: %s", name, err, out)
		}
	}
	return dir
}

// TestAgentOnAlpine runs the agent of the family with OpenRC and busybox. What is real of Alpine
// itself is neither apk nor a package.
func TestAgentOnAlpine(t *testing.T) {
	onlyAmongAll(t, "takes two minutes")
	s := newSandbox(t, alpine{}, tool(t, "caddy"))
	b := mustRender(t, s.quickstart())
	t.Run("packages", func(t *testing.T) { testApk(t, s.in(t), b) })
	firstContact(t, s, b)
	t.Run("traffic", func(t *testing.T) { testTraffic(t, s.in(t)) })
	t.Run("verbs", func(t *testing.T) { testVerbs(t, s.in(t)) })
	t.Run("logs", func(t *testing.T) { testOwnLogs(t, s.in(t), b) })
	t.Run("privileges", func(t *testing.T) { testPrivileges(t, s.in(t)) })
	t.Run("live data", func(t *testing.T) { testLiveData(t, s.in(t)) })
	t.Run("packets", func(t *testing.T) { testNet(t, s.in(t), b) })
	t.Run("drift", func(t *testing.T) { testDrift(t, s.in(t), b) })
	t.Run("supervision", func(t *testing.T) { testSupervision(t, s.in(t), b) })
	t.Run("refused", func(t *testing.T) { testRefused(t, s.in(t), b) })
	t.Run("rolled back", func(t *testing.T) { testRollBack(t, s.in(t), b) })
	t.Run("boot", func(t *testing.T) { testBoot(t, s.in(t), b) })
}

// Packages are asked for only where they are missing, and the distribution's own services stay out
// of the way.
func testApk(t *testing.T, s *sandbox, b Bundle) {
	if out, code := s.try(Stage(b), "busybox", "tar", "-x", "-o", "-C", "/", "-f", "-"); code != 0 {
		t.Fatalf("unpack: %d %s", code, out)
	}
	agent := StageDir(b) + "/agent"
	s.must("sh", "-c", "printf 'caddy\\nsetpriv\\n' >/run/lacking && printf '#!/sbin/openrc-run\\n' >/etc/init.d/dnsmasq && chmod +x /etc/init.d/dnsmasq && rc-update add dnsmasq default")
	if got, want := s.must("/bin/sh", agent, "packages"), "missing caddy caddy\nmissing setpriv setpriv\nend"; got != want {
		t.Errorf("packages: %q, want %q", got, want)
	}
	if r, err := ParseApply(s.try(nil, "/bin/sh", agent, "apply", StageDir(b))); err == nil || len(r.Problems) != 2 {
		t.Errorf("an apply without packages: %v %+v", err, r)
	}
	if got, want := s.must("/bin/sh", agent, "install"), "installed caddy\ninstalled setpriv\nend"; got != want {
		t.Errorf("install: %q, want %q", got, want)
	}
	s.must("test", "!", "-e", "/etc/runlevels/default/dnsmasq")
	s.must("/bin/sh", agent, "install") // has nothing to do
	if got := strings.Count(s.must("cat", "/run/apk.log"), "add --no-cache --no-progress --wait 60 caddy setpriv"); got != 1 {
		t.Errorf("apk was to install %d times", got)
	}
	s.must("rm", "-r", StageDir(b), "/etc/init.d/dnsmasq")
}

// Lines have the time, a cursor goes on from where it was also when the log was turned, and what
// a log takes has a bound.
func testOwnLogs(t *testing.T, s *sandbox, b Bundle) {
	logs := func(cursor string) (lines []string, next string) {
		out := strings.Split(s.must("/bin/sh", AgentPath, "logs", "dnsmasq", "9999", "-", cursor), "\n")
		next, ok := strings.CutPrefix(out[len(out)-1], "-- cursor: ")
		if !ok {
			t.Fatalf("no cursor at the end of %q", out)
		}
		return out[:len(out)-1], next
	}
	all, cursor := logs("-")
	for _, line := range all {
		stamp, rest, _ := strings.Cut(line, " ")
		if _, err := time.Parse("2006-01-02T15:04:05-0700", stamp); err != nil || !strings.Contains(rest, " dnsmasq[") {
			t.Errorf("line %q", line)
		}
	}
	if more, same := logs(cursor); len(more) != 0 || same != cursor {
		t.Errorf("nothing happened, but %q to %q, after %q", more, same, cursor)
	}
	s.must("/bin/sh", AgentPath, "restart", "dnsmasq")
	s.settled("dnsmasq was restarted")
	s.must("mv", "/var/log/proximity/dnsmasq.log", "/var/log/proximity/dnsmasq.log.1")
	s.must("/bin/sh", AgentPath, "restart", "dnsmasq")
	s.settled("its log was turned")
	more, next := logs(cursor)
	started := 0
	for _, line := range more {
		if strings.Contains(line, "IP range") {
			started++
		}
	}
	if started != 2 || next == cursor {
		t.Errorf("after two starts: %q", more)
	}
	if again, _ := logs(next); len(again) != 0 {
		t.Errorf("read twice: %q", again)
	}
	if out, code := s.try(nil, "/bin/sh", AgentPath, "logs", "dnsmasq", "5", "err"); code != ExitUsage || !strings.Contains(string(out), "no priorities") {
		t.Errorf("a priority: exit %d, %q", code, out)
	}

	// A log that is full.
	s.must("sh", "-c", "LC_ALL=C LOGS=/run/kept LOG_SIZE=/run/size; mkdir $LOGS; echo 100000 bytes >$LOG_SIZE; eval \"$(sed -n '/^keep_log/,/^}/p' "+AgentPath+")\"; yes 'a line of twenty-nine letters' | head -n 20000 | (keep_log x 1)")
	if got := s.must("sh", "-c", "cd /run/kept && echo * && find . -size +98k && tail -q -n 1 x.log | cut -d' ' -f4-"); got != "x.log x.log.1\na line of twenty-nine letters" {
		t.Errorf("a full log: %q", got)
	}
}

// Caddy is not root, and may bind ports below 1024 and nothing else.
func testPrivileges(t *testing.T, s *sandbox) {
	got := s.must("sh", "-c", fmt.Sprintf("grep -E '^(Cap|NoNew|Groups)' /proc/%d/status; stat -c %%U /proc/%[1]d", s.seen(ServiceCaddy).MainPID))
	for _, want := range []string{"CapEff:\t0000000000000400", "CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "caddy"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// What dies comes back by itself; when its supervisor dies, apply brings both back, and the process
// that was left does not stay in the way.
func testSupervision(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	for _, name := range []ServiceName{ServiceDNSMasq, ServiceCaddy, ServiceNAT} {
		before := s.seen(name)
		s.must("kill", "-KILL", fmt.Sprint(before.MainPID))
		s.settled(string(name) + " was killed")
		var after Service
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if after = s.seen(name); after.Active == "active" {
				break
			}
		}
		if after.MainPID == before.MainPID || after.Active != "active" || after.Restarts != before.Restarts+1 {
			t.Errorf("%s, killed: %+v, before %+v", name, after, before)
		}

		s.must("sh", "-c", "kill -KILL $(cat /run/supervise-"+s.family.Unit(name)+".pid)")
		if d := Diff(b, s.observe(b.Hash)); !slices.Contains(d, s.family.Unit(name)+" is failed") {
			t.Errorf("the supervisor of %s was killed: %q", name, d)
		}
		s.mustBeLive(b)
		if left := s.seen(name); left.MainPID == after.MainPID || left.Restarts != 0 {
			t.Errorf("%s, its supervisor killed: %+v, before %+v", name, left, after)
		}
		if _, code := s.try(nil, "test", "-e", fmt.Sprintf("/proc/%d", after.MainPID)); code == 0 {
			t.Errorf("%s: the old process is still there", name)
		}
		if err := s.serves(); err != nil {
			t.Error(err)
		}
	}
	// The lock of an apply is nobody's afterwards.
	if out, code := s.try(nil, "flock", "-n", "/run/proximity-agent.lock", "true"); code != 0 {
		t.Errorf("the agent's lock is held: %s", out)
	}
}

// After a boot everything is back, with nobody near.
func testBoot(t *testing.T, s *sandbox, b Bundle) {
	s.mustBeLive(b)
	for _, name := range b.services() {
		s.must("sh", "-c", s.manage("stop", name))
	}
	s.must("sh", "-c", "nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward; rm -rf /run/proximity* /run/openrc /run/supervise-*")
	if err := s.serves(); err == nil {
		t.Fatal("it serves while everything is down")
	}
	s.must("sh", "-c", "boot-openrc && openrc default")
	s.settled("boot")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if len(Diff(b, s.observe(b.Hash))) == 0 {
			return
		}
	}
	t.Errorf("after a boot: %q", Diff(b, s.observe(b.Hash)))
}
