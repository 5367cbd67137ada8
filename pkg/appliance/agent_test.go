package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sandbox is a guest made of namespaces: the real agent, dnsmasq, nft and Caddy on
// private directories and networks. Of Debian, systemd is a stand-in; of Alpine it has OpenRC and
// busybox, and apk is a stand-in.
type sandbox struct {
	t      *testing.T
	pid    int  // of the sandbox's init, in our pid namespace
	table  bool // its Caddy takes Vhosts as a table
	family Family
}

// quickstart is the usual set, for the family of the guest.
func (s *sandbox) quickstart() Input {
	in := quickstart()
	in.OS = s.family.Name()
	return in
}

// seen is what is told of a service.
func (s *sandbox) seen(name ServiceName) Service {
	s.t.Helper()
	return s.observe("").Services[s.family.Unit(name)]
}

// manage is a command of the service manager's own about a service; "pid" is words for a shell
// that become the process's number.
func (s *sandbox) manage(verb string, name ServiceName) string {
	unit := s.family.Unit(name)
	commands := map[string]string{"stop": "systemctl stop " + unit, "disable": "systemctl disable " + unit, "pid": "$(systemctl show -p MainPID --value " + unit + ")"}
	if s.family == (alpine{}) {
		commands = map[string]string{"stop": "rc-service " + unit + " stop", "disable": "rc-update del " + unit + " default", "pid": "$(cut -d' ' -f1 /run/proximity-services/" + unit + ")"}
	}
	return commands[verb]
}

// stockCaddy is a Caddy that says of itself that it has no module of ours.
func stockCaddy(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "caddy")
	script := "#!/bin/sh\n[ \"$1\" != list-modules ] || exit 0\n[ \"$1\" != check-vhosts ] || exit 2\nexec " + tool(t, "caddy") + " \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func newSandbox(t *testing.T, family Family, caddy string) *sandbox {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces and a firewall need root")
	}
	if testing.Short() {
		t.Skip("takes a minute: hanging services are waited for")
	}
	for _, name := range []string{"dnsmasq", "nft", "unshare", "nsenter", "curl", "bash", "setpriv", "ip"} {
		tool(t, name)
	}
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	scratch, standIns := t.TempDir(), filepath.Join(here, "systemd")
	if family == (alpine{}) {
		standIns = filepath.Join(here, "openrc")
		tool(t, "busybox")
	}
	cmd := exec.Command("unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", filepath.Join(here, "guest/setup"), scratch, standIns, caddy)
	cmd.Env = append(os.Environ(), "OPENRC="+openRC(t, family))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &sandbox{t: t, table: hasTable(t, caddy), family: family}
	deadline := time.Now().Add(30 * time.Second)
	for {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if s.pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err == nil {
			if _, code := s.try(nil, "test", "-e", "/run/made"); code == 0 {
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sandbox was not made: %s", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// in is the same sandbox for a subtest, so that it fails that one.
func (s *sandbox) in(t *testing.T) *sandbox {
	return &sandbox{t: t, pid: s.pid, table: s.table, family: s.family}
}

// try runs a command in the sandbox.
func (s *sandbox) try(stdin io.Reader, argv ...string) (out []byte, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(s.pid), "-n", "-m", "-p", "--"}, argv...)...)
	cmd.Stdin = stdin
	cmd.WaitDelay = time.Second // a daemon may hold the pipe
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return out, 0
	case errors.As(err, &exit):
		return out, exit.ExitCode()
	}
	return []byte(err.Error()), -1
}

func (s *sandbox) must(argv ...string) string {
	s.t.Helper()
	out, code := s.try(nil, argv...)
	if code != 0 {
		s.t.Fatalf("%v: exit %d\n%s", argv, code, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *sandbox) observe(hash string) Observation {
	s.t.Helper()
	out, code := s.try(nil, ObserveArgv(hash)...)
	o, err := ParseObservation(out)
	if err != nil || code != 0 {
		s.t.Fatalf("observe: exit %d, %v\n%s", code, err, out)
	}
	return o
}

func (s *sandbox) apply(b Bundle) (Result, error) {
	s.t.Helper()
	return ParseApply(s.try(Stage(b), "/bin/sh", AgentPath, "apply", "-"))
}

// mustBeLive applies and holds the outcome against the bundle.
func (s *sandbox) mustBeLive(b Bundle) Result {
	s.t.Helper()
	r, err := s.apply(b)
	if err != nil {
		s.t.Fatalf("apply: %v\n%+v", err, r)
	}
	if d := Diff(b, *r.Observation); len(d) != 0 {
		s.t.Fatalf("after apply: %q", d)
	}
	return r
}

// serves asks as a guest of the LAN would.
func (s *sandbox) serves() error {
	if out, code := s.try(nil, "ip", "netns", "exec", "lan", "curl", "-sS", "-m", "3", "http://nginx-01.prox.local/"); code != 0 || string(out) != "the app" {
		return fmt.Errorf("page through DNS and proxy: exit %d, %q", code, out)
	}
	return nil
}

// withFile is the bundle with another content of one file.
func withFile(b Bundle, path, content string) Bundle {
	b.Files = slices.Clone(b.Files)
	old := b.Hash
	manifest := string(b.manifest)
	for i, f := range b.Files {
		if f.Path == path {
			manifest = strings.Replace(manifest, contentHash(f.Content), contentHash([]byte(content)), 1)
			b.Files[i].Content = []byte(content)
		}
	}
	b.Hash = setHash(b)
	b.manifest = []byte(strings.Replace(manifest, old, b.Hash, 1))
	return b
}

// TestAgent runs with the Caddy that set-up makes, so with Vhosts as a table.
func TestAgent(t *testing.T) {
	s := newSandbox(t, debian{}, tool(t, "caddy"))
	b := mustRender(t, s.quickstart())
	firstContact(t, s, b)
	t.Run("traffic", func(t *testing.T) { testTraffic(t, s.in(t)) })
	t.Run("verbs", func(t *testing.T) { testVerbs(t, s.in(t)) })
	t.Run("live data", func(t *testing.T) { testLiveData(t, s.in(t)) })
	t.Run("senders", func(t *testing.T) { testSenders(t, s.in(t)) })
	t.Run("packets", func(t *testing.T) { testNet(t, s.in(t), b) })
	t.Run("names of its own", func(t *testing.T) { testSelf(t, s.in(t), b) })
	t.Run("wildcard", func(t *testing.T) { testWildcard(t, s.in(t), b) })
	t.Run("drift", func(t *testing.T) { testDrift(t, s.in(t), b) })
	t.Run("refused", func(t *testing.T) { testRefused(t, s.in(t), b) })
	t.Run("rolled back", func(t *testing.T) { testRollBack(t, s.in(t), b) })
	t.Run("killed", func(t *testing.T) { testKilled(t, s.in(t), b) })
	if s.table {
		t.Run("table", func(t *testing.T) { testTable(t, s.in(t), b) })
		t.Run("other Caddy", func(t *testing.T) { testOtherCaddy(t, s.in(t), b) })
	}
}

// onlyAmongAll skips a test that takes long where not all are asked for.
func onlyAmongAll(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("PROXIMITY_E2E") != "all" {
		t.Skip(why + ": PROXIMITY_E2E=all asks for it")
	}
}

// TestAgentWithIPTables: the guest has no nft, and the same packets come through and the same are
// refused.
func TestAgentWithIPTables(t *testing.T) {
	onlyAmongAll(t, "takes a minute; TestAgentWithLegacyIPTables has what differs most from nft")
	s := withoutNFT(t, "nft")
	b := mustRender(t, s.quickstart())
	firstContact(t, s, b)
	t.Run("traffic", func(t *testing.T) { testTraffic(t, s.in(t)) })
	t.Run("verbs", func(t *testing.T) { testVerbs(t, s.in(t)) })
	t.Run("senders", func(t *testing.T) { testSenders(t, s.in(t)) })
	t.Run("packets", func(t *testing.T) { testNet(t, s.in(t), b) })
	t.Run("rules", func(t *testing.T) { testIPTables(t, s.in(t), b) })
	t.Run("names of its own", func(t *testing.T) { testSelf(t, s.in(t), b) })
}

// TestAgentWithLegacyIPTables: what could differ with the older one.
func TestAgentWithLegacyIPTables(t *testing.T) {
	s := withoutNFT(t, "legacy")
	b := mustRender(t, s.quickstart())
	firstContact(t, s, b)
	t.Run("senders", func(t *testing.T) { testSenders(t, s.in(t)) })
	t.Run("rules", func(t *testing.T) { testIPTables(t, s.in(t), b) })
}

// withoutNFT is a guest that has only iptables, of that kind, and in it a rule of somebody else, who
// has no say.
func withoutNFT(t *testing.T, kind string) *sandbox {
	t.Helper()
	s := newSandbox(t, debian{}, tool(t, "caddy"))
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, verb := range []string{"", "-restore", "-save"} {
			s.must("ln", "-sf", tool(t, name+"-"+kind+verb), "/usr/local/sbin/"+name+verb)
		}
	}
	s.must("mount", "--bind", "/dev/null", tool(t, "nft"))
	s.must("iptables", "-A", "FORWARD", "-j", "ACCEPT")
	return s
}

// What is changed about the rules is seen and put right, nothing of somebody else's is touched, and
// rules of guests that are gone are gone.
func testIPTables(t *testing.T, s *sandbox, b Bundle) {
	in := s.quickstart()
	in.Hosts[0].Egress = &Egress{Rules: []EgressRule{{Deny: true, Protocol: "tcp", Ports: make([]int, 0, 40)}}}
	for port := range 40 {
		in.Hosts[0].Egress.Rules[0].Ports = append(in.Hosts[0].Egress.Rules[0].Ports, 9000+port)
	}
	s.mustBeLive(mustRender(t, in))
	if n := strings.Count(s.must("iptables-save"), "-A PROXIMITY-10.20.0.50 "); n != 3 {
		t.Errorf("%d rules for 40 ports", n)
	}
	s.mustBeLive(b)
	for _, c := range []struct{ name, command, want string }{
		{"flushed", "iptables -F && iptables -X", "firewall table is missing"},
		{"another table flushed", "iptables -t nat -F", "firewall table was changed"},
		{"a rule of ours gone", "iptables -D PROXIMITY-FWD -j DROP", "firewall table was changed"},
		{"a rule before ours", "iptables -I FORWARD 1 -j ACCEPT", "firewall table was changed"},
		{"the jump twice", "iptables -I INPUT 1 -s 203.0.113.1 -j DROP && iptables -I INPUT 1 -j PROXIMITY-IN && iptables -D INPUT -s 203.0.113.1 -j DROP", ""},
		{"WAN changed", "ip address add 198.51.100.7/24 dev eth0", "firewall table was changed"},
		{"WAN as it was", "ip address del 198.51.100.7/24 dev eth0", "firewall table was changed"},
	} {
		s.must("sh", "-c", c.command)
		if d := strings.Join(Diff(b, s.observe(b.Hash)), "; "); !strings.Contains(d, c.want) {
			t.Errorf("%s: %q in %q", c.name, c.want, d)
		}
		s.must("/bin/sh", AgentPath, "restart", "nat")
		s.mustBeLive(b)
		testTraffic(t, s)
	}
	saved := s.must("iptables-save")
	for text, want := range map[string]int{
		"-j PROXIMITY-IN\n": 1, "-j PROXIMITY-FWD\n": 1, "-A FORWARD -j ACCEPT\n": 1, "PROXIMITY-10.20.0.50": 0,
	} {
		if n := strings.Count(saved+"\n", text); n != want {
			t.Errorf("%q is there %d times, want %d\n%s", text, n, want, saved)
		}
	}
}

// TestAgentWithStockCaddy: what differs with a Caddy that has no table.
func TestAgentWithStockCaddy(t *testing.T) {
	s := newSandbox(t, debian{}, stockCaddy(t))
	b := mustRender(t, s.quickstart())
	firstContact(t, s, b)
	t.Run("traffic", func(t *testing.T) { testTraffic(t, s.in(t)) })
	t.Run("refused", func(t *testing.T) { testRefused(t, s.in(t), b) })
	t.Run("vhosts", func(t *testing.T) {
		s := s.in(t)
		in := s.quickstart()
		in.Vhosts[0].Hosts = []string{"other.prox.local"}
		if r := s.mustBeLive(mustRender(t, in)); !slices.Contains(r.Actions, "reload "+UnitCaddy) {
			t.Errorf("a change of Vhosts did %q", r.Actions)
		}
	})
}

func firstContact(t *testing.T, s *sandbox, b Bundle) {
	t.Helper()

	if _, code := s.try(nil, ObserveArgv("")...); code != 127 && code != 2 {
		t.Fatalf("a guest without an agent: exit %d", code)
	}
	// First contact: unpack, then run the staged agent.
	if out, code := s.try(Stage(b), "tar", "-x", "-o", "-C", "/", "-f", "-"); code != 0 {
		t.Fatalf("unpack: %d %s", code, out)
	}
	r, err := ParseApply(s.try(nil, "/bin/sh", StageDir(b)+"/agent", "apply", StageDir(b)))
	if err != nil {
		t.Fatalf("first apply: %v %+v", err, r)
	}
	if d := Diff(b, *r.Observation); len(d) != 0 {
		t.Fatalf("after the first apply: %q", d)
	}
	if o := s.observe(b.Hash); o.Files != nil || len(Diff(b, o)) != 0 {
		t.Fatalf("steady state: %d file lines, %q", len(o.Files), Diff(b, o))
	}
	if r := s.mustBeLive(b); len(r.Actions) != 0 {
		t.Errorf("an apply that has nothing to do did %q", r.Actions)
	}
}

func testTraffic(t *testing.T, s *sandbox) {
	if err := s.serves(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name, from string
		argv       []string
		want       string // "" = must fail
	}{
		{"out by NAT", "lan", []string{"curl", "-s", "-m", "3", "http://203.0.113.10:8080/"}, "the outside"},
		{"the node is closed", "lan", []string{"curl", "-s", "-m", "3", "http://192.168.50.2:8080/"}, ""},
		{"the WAN router is closed", "lan", []string{"curl", "-s", "-m", "3", "http://192.168.50.1:8080/"}, ""},
		{"in by the proxy", "wan", []string{"curl", "-s", "-m", "3", "-H", "Host: nginx-01.prox.local", "http://192.168.50.100/"}, "the app"},
		{"in past the proxy", "wan", []string{"curl", "-s", "-m", "1", "http://10.20.0.50/"}, ""},
		{"unknown host", "wan", []string{"curl", "-s", "-m", "3", "http://192.168.50.100/"}, "404: no application is published under this name\n"},
		{"self-check from outside", "wan", []string{"curl", "-s", "-m", "3", "-H", "Host: proximity-check.invalid", "http://192.168.50.100/"}, "404: no application is published under this name\n"},
		{"DNS from outside", "wan", []string{"timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/192.168.50.100/53"}, ""},
		{"the guest's own name", "lan", []string{"getent", "hosts", "nginx-01.lan.prox.local"}, "10.20.0.50      nginx-01.lan.prox.local\n"},
		{"reverse", "lan", []string{"getent", "hosts", "10.20.0.50"}, "10.20.0.50      nginx-01.lan.prox.local\n"},
		{"unknown name", "lan", []string{"getent", "hosts", "nobody.prox.local"}, ""},
	} {
		if c.from == "wan" {
			s.must("ip", "-n", "wan", "route", "replace", "10.20.0.0/24", "via", "192.168.50.100")
		}
		out, code := s.try(nil, append([]string{"ip", "netns", "exec", c.from}, c.argv...)...)
		if (code == 0) != (c.want != "") || code == 0 && string(out) != c.want {
			t.Errorf("%s: exit %d, %q, want %q", c.name, code, out, c.want)
		}
	}
}

func testVerbs(t *testing.T, s *sandbox) {
	if pem := s.must("/bin/sh", AgentPath, "ca-root"); !strings.HasPrefix(pem, "-----BEGIN CERTIFICATE-----\n") {
		t.Errorf("ca-root: %q", pem)
	}
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(s.pid), "root/run/ca.pem"), []byte(s.must("/bin/sh", AgentPath, "ca-root")), 0o644); err != nil {
		t.Fatal(err)
	}
	if page := s.must("ip", "netns", "exec", "lan", "curl", "-sS", "-m", "5", "--cacert", "/run/ca.pem", "https://nginx-01.prox.local/"); page != "the app" {
		t.Errorf("page by HTTPS: %q", page)
	}
	want := "nat-test dns ok 203.0.113.10\nnat-test tcp ok connected\nnat-test forbidden ok refused by rule\nend"
	if got := s.must("/bin/sh", AgentPath, "nat-test", "203.0.113.10", "8080", "192.168.50.2"); got != want {
		t.Errorf("nat-test: %q", got)
	}
	if got := s.must("/bin/sh", AgentPath, "packages"); got != "end" {
		t.Errorf("packages: %q", got)
	}
	if got := s.must("/bin/sh", AgentPath, "logs", "dnsmasq", "50"); !strings.Contains(got, "DHCP, IP range 10.20.0.100 -- 10.20.0.250") {
		t.Errorf("logs: %q", got)
	}
	if got := s.must("/bin/sh", AgentPath, "logs", "dnsmasq", "50", "-", "-", "IP range"); strings.Contains(got, "started") || !strings.Contains(got, "IP range") {
		t.Errorf("logs with a text: %q", got)
	}
	testState(t, s)
	before := s.seen(ServiceDNSMasq).MainPID
	s.must("/bin/sh", AgentPath, "restart", "dnsmasq")
	if after := s.seen(ServiceDNSMasq).MainPID; after == before {
		t.Error("restart left the same process")
	}
	for _, argv := range [][]string{{}, {"reboot"}, {"logs", "dnsmasq", "1;id"}, {"logs", "../x", "5"}, {"logs", "dnsmasq", "5", "loud"}, {"logs", "dnsmasq", "5", "-", "$(id)"}, {"restart", "ssh"}, {"nat-test", "$(id)", "80", "1.1.1.1"}} {
		if out, code := s.try(nil, append([]string{"/bin/sh", AgentPath}, argv...)...); code != ExitUsage {
			t.Errorf("%q: exit %d, %q", argv, code, out)
		}
	}
}

// testState takes the state of the guest away, and brings it back from what the agent told.
func testState(t *testing.T, s *sandbox) {
	t.Helper()
	out, code := s.try(nil, StateSaveArgv()...)
	state, err := ParseState(out)
	if err != nil || code != 0 {
		t.Fatalf("state-save: exit %d, %v\n%.500s", code, err, out)
	}
	list := "cd " + StateDir + " && find caddy/pki -printf '%p %u %m\n' -type f -exec sha256sum {} + | sort"
	before := s.must("sh", "-c", list)
	if !strings.Contains(before, "root.key caddy 600") {
		t.Fatalf("before:\n%s", before)
	}
	s.must("mv", StateDir+"/caddy", "/run/was")
	if out, code := s.try(bytes.NewReader(state[:len(state)/2]), "/bin/sh", AgentPath, "state-load"); code != ExitSystem {
		t.Errorf("half of it: exit %d\n%s", code, out)
	}
	s.must("rm", "-rf", StateDir+"/caddy")
	if out, code := s.try(bytes.NewReader(state), "/bin/sh", AgentPath, "state-load"); code != 0 {
		t.Fatalf("state-load: exit %d\n%s", code, out)
	}
	if after := s.must("sh", "-c", list); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}
