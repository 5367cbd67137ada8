package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quickstart starts a daemon and deploys the quickstart.
func quickstart(t *testing.T) *daemon {
	t.Helper()
	d := start(t, t.TempDir())
	d.must("apply", "-f", quickDir, "--wait", "--timeout", "3m")
	return d
}

// guests lists the VMIDs that exist on the node.
func (d *daemon) guests() []string {
	d.t.Helper()
	return strings.Fields(d.inNode("lxc-ls", "-P", d.Node.LXCPath).out)
}

// serves tells whether the App's page is there.
func (d *daemon) serves() bool {
	code, body, err := d.web(host)
	return err == nil && code == 200 && strings.Contains(body, "Welcome to nginx")
}

// TestKillDaemonWhileDeploying ends the daemon like a crash at several moments of the
// quickstart; a new one takes up the work: one guest per object, no other.
func TestKillDaemonWhileDeploying(t *testing.T) {
	story(t, "all")
	dir := t.TempDir()
	d := start(t, dir)
	d.must("apply", "-f", quickDir)
	pid := d.Node.PID
	for i, moment := range []time.Duration{100, 700, 1500, 900, 2500, 400} {
		time.Sleep(moment * time.Millisecond) // a moment, not a wait for something
		d.kill9()
		d = start(t, dir)
		if d.Node.PID != pid {
			t.Fatalf("crash %d: the node's process was %d and is %d: it did not survive the daemon", i, pid, d.Node.PID)
		}
	}
	d.must("wait", "--for=condition=Ready", app, "vhost/"+host, "--timeout=120s")
	want := []string{"9999", strconv.Itoa(d.vmid(app))}
	got := d.guests()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("guests are %v, want %v", got, want)
	}
	if !d.serves() {
		t.Error("the page is not there")
	}
	// Nothing was done twice: one creation and one provisioning for each guest.
	events := d.must("get", "events", "-A", "-o", "json")
	for _, reason := range []string{`"reason": "Provisioned"`} {
		if n := strings.Count(events, reason); n > 1 {
			t.Errorf("%s happened %d times", reason, n)
		}
	}
}

// TestRepair breaks one thing after the other from outside; each is noticed and repaired,
// and an event tells of it.
func TestRepair(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	vmid := d.vmid(app)
	lxc := func(program string, id int, args ...string) {
		t.Helper()
		if r := d.inNode(append([]string{program, "-P", d.Node.LXCPath, "-n", strconv.Itoa(id)}, args...)...); r.code != 0 {
			t.Fatalf("%s %d: %s%s", program, id, r.out, r.err)
		}
	}
	in := func(id int, args ...string) {
		t.Helper()
		if r := d.inGuest(id, args...); r.code != 0 {
			t.Fatalf("%v in %d: %s%s", args, id, r.out, r.err)
		}
	}
	resolves := func() bool {
		return d.inGuest(d.vmid(app), "getent", "hosts", "nginx-01.lan.prox.local").code == 0
	}
	egress := func() bool {
		return strings.Contains(d.inGuest(d.vmid(app), "curl", "-s", "--max-time", "2", "http://www.internet.test/").out, "internet reached")
	}
	for _, tc := range []struct {
		name   string
		break_ func()
		ok     func() bool
		about  string // object whose events tell the story
		event  string
	}{
		{"dnsmasq killed", func() { in(9999, "pkill", "-9", "dnsmasq") }, resolves, "Appliance", "ServiceRestarted|Repaired"},
		{"Caddy killed", func() { in(9999, "pkill", "-9", "caddy") }, d.serves, "Appliance", "ServiceRestarted|Repaired"},
		{"dnsmasq stopped", func() { in(9999, "systemctl", "stop", "proximity-dnsmasq") }, resolves, "Appliance", "Repaired"},
		{"rules flushed", func() { in(9999, "nft", "flush", "ruleset") }, egress, "Appliance", "Repaired"},
		{"table of Vhosts deleted", func() { in(9999, "rm", "/etc/proximity/vhosts.table") }, func() bool {
			return d.inGuest(9999, "test", "-s", "/etc/proximity/vhosts.table").code == 0 && d.serves()
		}, "Appliance", "Repaired"},
		{"app guest stopped", func() { lxc("lxc-stop", vmid, "-k") }, d.serves, "App", "Start"},
		{"app guest destroyed", func() {
			// It stops the guest, removes all files and then fails at the mount point of the
			// root. The daemon, which would start the guest again meanwhile, stands still.
			d.pause(syscall.SIGSTOP)
			defer d.pause(syscall.SIGCONT)
			for range 5 {
				d.inNode("lxc-destroy", "-f", "-P", d.Node.LXCPath, "-n", strconv.Itoa(vmid))
				if d.inNode("test", "-e", d.Node.LXCPath+"/"+strconv.Itoa(vmid)+"/rootfs/usr").code != 0 {
					return
				}
			}
			t.Fatal("lxc-destroy left the guest's files")
		}, d.serves, "App", "Create"},
		{"appliance guest killed", func() { lxc("lxc-stop", 9999, "-k") }, d.serves, "Appliance", "Start"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := d.t
			d.t = t
			defer func() { d.t = old }()
			seen := d.countEvents(tc.about, tc.event)
			tc.break_()
			eventually(t, "repaired", tc.ok)
			eventually(t, "event "+tc.event, func() bool { return d.countEvents(tc.about, tc.event) > seen })
			d.must("wait", "--for=condition=Ready", app, apl, "vhost/"+host, "--timeout=90s")
		})
	}
}

// pause stops the daemon's process, or lets it go on.
func (d *daemon) pause(sig syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
}

// countEvents adds up the counts of the events of a kind with one of some reasons.
func (d *daemon) countEvents(kind, reasons string) int {
	d.t.Helper()
	out := d.must("get", "events", "-A", "--no-headers")
	n := 0
	for _, line := range strings.Split(out, "\n") {
		if slices.ContainsFunc(strings.Split(reasons, "|"), func(r string) bool { return strings.Contains(line, " "+r+" ") }) && strings.Contains(strings.ToLower(line), " "+strings.ToLower(kind)+"/") {
			n++
			for _, f := range strings.Fields(line) {
				if c, err := strconv.Atoi(f); err == nil {
					n += c
				}
			}
		}
	}
	return n
}

// TestStopAndStart shuts daemon and node down cleanly; the next start boots the node with
// everything back, and nothing of it is left on the machine meanwhile.
func TestStopAndStart(t *testing.T) {
	story(t, "all")
	dir := t.TempDir()
	d := start(t, dir)
	d.must("apply", "-f", quickDir, "--wait", "--timeout", "3m")
	uid := field(d.object(app), "metadata", "uid")
	vmid, pid := d.vmid(app), d.Node.PID
	d.stop()
	if alive(pid) {
		t.Error("the node's process is still there")
	}
	if out, _ := exec.Command("grep", "-c", dir, "/proc/mounts").Output(); strings.TrimSpace(string(out)) != "0" {
		t.Errorf("mounts are left: %s", out)
	}
	if _, err := os.Stat(dir + "/endpoint.json"); err == nil {
		t.Error("endpoint.json is left")
	}
	d = start(t, dir)
	eventually(t, "page after the restart", d.serves)
	d.must("wait", "--for=condition=Ready", app, apl, "--timeout=90s")
	if got := field(d.object(app), "metadata", "uid"); got != uid || d.vmid(app) != vmid {
		t.Errorf("the App is another one: uid %v, VMID %d", got, d.vmid(app))
	}
}

// alive tells whether a process runs; one that ended and was not yet waited for does not.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !regexp.MustCompile(`(?m)^State:\s+Z`).Match(status)
}

// TestKeepNode leaves the node running over a stop of the daemon.
func TestKeepNode(t *testing.T) {
	story(t, "all")
	dir := t.TempDir()
	d := start(t, dir, "--keep-node")
	pid := d.Node.PID
	d.stop()
	if !alive(pid) {
		t.Error("the node's process is gone")
	}
	if d = start(t, dir, "--keep-node"); d.Node.PID != pid {
		t.Errorf("the node is another one: %d, was %d", d.Node.PID, pid)
	}
}

var (
	commits  = regexp.MustCompile(`(?m)^proximity_store_commits_total (\S+)`)
	requests = regexp.MustCompile(`(?m)^proximity_proxmox_requests_total\{.*method="(\w+)".*\} (\S+)`)
)

// writes reads the counters of durable transactions and of changing requests to Proxmox.
func (d *daemon) writes() (store, proxmox float64) {
	d.t.Helper()
	code, body, err := d.api("/metrics", d.adminToken())
	if err != nil || code != 200 {
		d.t.Fatalf("metrics: %d, %v", code, err)
	}
	if m := commits.FindStringSubmatch(body); m != nil {
		store, _ = strconv.ParseFloat(m[1], 64)
	}
	for _, m := range requests.FindAllStringSubmatch(body, -1) {
		if n, _ := strconv.ParseFloat(m[2], 64); m[1] != "GET" {
			proxmox += n
		}
	}
	return store, proxmox
}

// TestQuiescence: once everything runs, nothing is written any more.
func TestQuiescence(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	// The conditions of the last steps settle with the next look.
	eventually(t, "settled", func() bool {
		s1, p1 := d.writes()
		time.Sleep(12 * time.Second) // more than two probe periods
		s2, p2 := d.writes()
		return s1 == s2 && p1 == p2
	})
	s1, p1 := d.writes()
	time.Sleep(60 * time.Second) // the period that the promise is about
	s2, p2 := d.writes()
	if s1 == 0 || p1 == 0 {
		t.Fatal("the counters count nothing")
	}
	if s2 != s1 || p2 != p1 {
		t.Errorf("in 60 s: %v store writes and %v Proxmox writes, want 0 and 0", s2-s1, p2-p1)
	}
	rss, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(rss)
	kib, _ := strconv.Atoi(string(m[1]))
	t.Logf("idle daemon: %.1f MiB RSS", float64(kib)/1024)
	if kib > 60<<10 {
		t.Errorf("idle daemon takes %d KiB, want at most 60 MiB", kib)
	}
}

// TestSecondDaemon is refused with a sentence that names the file.
func TestSecondDaemon(t *testing.T) {
	story(t, "all")
	d := start(t, t.TempDir())
	r := finish(t, exec.Command(binDir+"/proximityd", "--embedded", "--data-dir", d.dir, "--listen", "127.0.0.1:0"))
	if r.code != 1 || !strings.Contains(r.err, "proximity.db") || !strings.Contains(r.err, "in use") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	d.must("get", "clusters")
}
