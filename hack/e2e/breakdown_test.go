package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBreakdown breaks what an appliance stands on: what keeps its services up, its files, its
// disk, its clock, the name servers behind it. Each is repaired, or named by a condition as
// long as it lasts while what is ours is still served.
func TestBreakdown(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, d *daemon)
	}{
		{"log collector killed", logCollectorKilled},
		{"service manager killed", serviceManagerKilled},
		{"monitor of the guest killed", monitorKilled},
		{"files of services deleted", filesDeleted},
		{"forwarding switched off", forwardingOff},
		{"name servers gone", upstreamGone},
		{"disk full", diskFull},
		{"clock jumped", clockJumped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := d.t
			d.t = t
			defer func() { d.t = old }()
			tc.run(t, d)
			eventually(t, "page served", d.serves)
			d.must("wait", "--for=condition=Ready", app, apl, "vhost/"+host, "--timeout=120s")
		})
	}
	d.stop()
}

// in runs a shell command in the appliance's guest, which must work.
func (d *daemon) inAppliance(command string) string {
	d.t.Helper()
	r := d.inGuest(9999, "sh", "-c", command)
	if r.code != 0 {
		d.t.Fatalf("%s: exit code %d\n%s%s", command, r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// named waits until a condition of the appliance is not met, for a reason.
func (d *daemon) named(typ, reason string) {
	d.t.Helper()
	eventually(d.t, typ+" names it", func() bool {
		status, why, _ := d.condition(apl, typ)
		return status == "False" && why == reason
	})
	_, _, message := d.condition(apl, typ)
	d.t.Logf("%s: %s", typ, message)
}

func (d *daemon) met(typ string) bool {
	status, _, _ := d.condition(apl, typ)
	return status == "True"
}

// initOf is the process id, in the node, of a guest's first process; "" while there is none.
func (d *daemon) initOf(vmid int) string {
	d.t.Helper()
	return strings.TrimSpace(d.inNode("lxc-info", "-P", d.Node.LXCPath, "-n", strconv.Itoa(vmid), "-p", "-H").out)
}

// rebooted kills a process of the node and expects the appliance's guest to be booted anew.
func (d *daemon) rebooted(pid string) {
	d.t.Helper()
	before := d.initOf(9999)
	if r := d.inNode("kill", "-9", pid); r.code != 0 {
		d.t.Fatalf("kill -9 %s: %s", pid, r.err)
	}
	eventually(d.t, "booted anew", func() bool { now := d.initOf(9999); return now != "" && now != before })
}

func logCollectorKilled(t *testing.T, d *daemon) {
	before := d.inAppliance("systemctl show -p MainPID --value systemd-journald.service")
	d.inAppliance("kill -9 " + before)
	eventually(t, "collects again", func() bool {
		now := d.inGuest(9999, "systemctl", "show", "-p", "MainPID", "--value", "systemd-journald.service")
		return strings.TrimSpace(now.out) != before && d.inGuest(9999, "sh", "-c", "logger -t e2e came-back; sleep 0.2; journalctl -t e2e -n 1 -o cat | grep -q came-back").code == 0
	})
}

func serviceManagerKilled(_ *testing.T, d *daemon) { d.rebooted(d.initOf(9999)) }

func monitorKilled(t *testing.T, d *daemon) {
	out := d.inNode("pgrep", "-f", `^\[lxc monitor\].* 9999$`).out
	pid, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if pid == "" {
		t.Fatal("the guest has no monitor")
	}
	d.rebooted(pid)
}

func filesDeleted(t *testing.T, d *daemon) {
	d.inAppliance("rm -r /etc/proximity /etc/systemd/system/proximity-*.service")
	eventually(t, "files are back", func() bool {
		return d.inGuest(9999, "sh", "-c", "test -s /etc/proximity/manifest && test -s /etc/systemd/system/proximity-caddy.service && systemctl is-enabled -q proximity-caddy proximity-dnsmasq proximity-nat").code == 0
	})
}

func forwardingOff(t *testing.T, d *daemon) {
	d.inAppliance("echo 0 >/proc/sys/net/ipv4/ip_forward")
	vmid := d.vmid(app)
	eventually(t, "guests reach the internet again", func() bool {
		return strings.Contains(d.inGuest(vmid, "curl", "-s", "--max-time", "2", "http://www.internet.test/").out, "internet reached")
	})
}

// upstreamGone: nobody here can repair name servers of others, so they are named. Names of the
// zone are answered meanwhile.
func upstreamGone(t *testing.T, d *daemon) {
	d.inAppliance("nft 'add table inet e2e; add chain inet e2e out { type filter hook output priority -300; }; add rule inet e2e out meta l4proto { tcp, udp } th dport 53 ip daddr 192.168.50.0/24 drop'")
	d.named("UpstreamReachable", "NoAnswer")
	if r := d.inGuest(d.vmid(app), "getent", "hosts", "nginx-01.lan.prox.local"); r.code != 0 {
		t.Error("a name of the zone is not answered")
	}
	if !d.serves() {
		t.Error("the page is not served")
	}
	if !d.met("Ready") {
		t.Error("the appliance is not Ready, although all that is ours is served")
	}
	d.inAppliance("nft delete table inet e2e")
	eventually(t, "UpstreamReachable", func() bool { return d.met("UpstreamReachable") })
}

// diskFull leaves no room where configuration, leases and certificates are written. What runs
// goes on, what cannot be written is told, and done when there is room.
func diskFull(t *testing.T, d *daemon) {
	d.inAppliance(`mkdir -p /mnt/small && mount -t tmpfs -o size=4m tmpfs /mnt/small && cp -a /var/lib/proximity/. /mnt/small/ &&
		mount --bind /mnt/small /var/lib/proximity && { cat /dev/zero >/var/lib/proximity/filler 2>/dev/null; test -s /var/lib/proximity/filler; }`)
	d.named("DiskSpace", "AlmostFull")
	d.patch(apl, map[string]any{"dhcp": map[string]any{"leaseTime": "6h"}})
	d.named("ConfigurationApplied", "ApplyFailed")
	if !d.serves() {
		t.Error("the page is not served")
	}
	d.inAppliance("umount /var/lib/proximity && umount /mnt/small")
	eventually(t, "what was to be written is", func() bool { return d.met("ConfigurationApplied") && d.met("DiskSpace") })
	if got := d.inAppliance("grep ^dhcp-range /etc/proximity/dnsmasq.conf"); !strings.HasSuffix(got, ",21600") {
		t.Errorf("lease time: %s", got)
	}
}

// clockJumped gives all leases the times that a clock leaves behind which was years ahead, and
// years behind: dnsmasq reads them when it starts. The clock itself is the machine's.
func clockJumped(t *testing.T, d *daemon) {
	vmid := d.vmid(app)
	addr, _ := field(d.object(app), "status", "address").(string)
	for name, expiry := range map[string]string{"years ago": "100000000", "in years": "3900000000"} {
		d.inAppliance("systemctl stop proximity-dnsmasq && sed -i 's/^[0-9]* /" + expiry + " /' /var/lib/proximity/dnsmasq.leases && systemctl start proximity-dnsmasq")
		if r := d.inGuest(vmid, "sh", "-c", "ifdown eth0; ifup eth0"); r.code != 0 {
			t.Fatalf("ask again: %s%s", r.out, r.err)
		}
		eventually(t, "lease that ends "+name+" is renewed", func() bool {
			line := strings.Fields(d.inAppliance("grep ' " + addr + " ' /var/lib/proximity/dnsmasq.leases || true"))
			if len(line) == 0 {
				return false
			}
			ends, err := strconv.ParseInt(line[0], 10, 64)
			left := time.Until(time.Unix(ends, 0))
			return err == nil && left > time.Minute && left < 24*time.Hour
		})
	}
	if got := d.inGuest(vmid, "ip", "-4", "-o", "addr", "show", "eth0").out; !strings.Contains(got, " "+addr+"/24 ") {
		t.Errorf("the guest has another address: %s", got)
	}
}

// TestNodeLost kills the one process that the embedded node hangs on, which is a power failure:
// it is named, and what comes back by itself comes in its order, the appliance before the App.
func TestNodeLost(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	vmid := d.vmid(app)
	if err := syscall.Kill(d.Node.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.named("Ready", "Retrying")
	d.kill9()
	d = start(t, d.dir)
	eventually(t, "page served", d.serves)
	d.must("wait", "--for=condition=Ready", app, apl, "vhost/"+host, "--timeout=120s")
	first, second := d.bootTime(9999), d.bootTime(vmid)
	t.Logf("the App's guest was booted %.2f s after the appliance's", float64(second-first)/100)
	if first > second {
		t.Errorf("the appliance was booted at %d, after the App at %d", first, second)
	}

	// The other way round, and with nobody near who could help: the App's guest asks for its
	// address again and again, until there is somebody to give it one.
	d.pause(syscall.SIGSTOP)
	defer d.pause(syscall.SIGCONT)
	for _, id := range []int{vmid, 9999} {
		d.pve(http.MethodPost, id, "stop")
		eventually(t, fmt.Sprintf("guest %d stands", id), func() bool { return d.pveState(id) == "stopped" })
	}
	d.pve(http.MethodPost, vmid, "start")
	eventually(t, "the App's guest runs", func() bool { return d.inGuest(vmid, "true").code == 0 })
	time.Sleep(5 * time.Second) // its first questions are in vain
	address := func() string { return d.inGuest(vmid, "ip", "-4", "-o", "addr", "show", "eth0", "scope", "global").out }
	if got := address(); strings.Contains(got, "10.20.0.") {
		t.Fatalf("an address with no appliance there: %s", got)
	}
	d.pve(http.MethodPost, 9999, "start")
	eventually(t, "the App's guest has its address without help", func() bool { return strings.Contains(address(), " 10.20.0.100/24 ") })
	eventually(t, "page served without help", d.serves)
}

// bootTime is when a guest's first process began, in hundredths of a second since the machine's
// own boot.
func (d *daemon) bootTime(vmid int) int {
	d.t.Helper()
	stat := d.inNode("cat", "/proc/"+d.initOf(vmid)+"/stat").out
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		d.t.Fatalf("guest %d: %q", vmid, stat)
	}
	ticks, err := strconv.Atoi(fields[19])
	if err != nil {
		d.t.Fatal(err)
	}
	return ticks
}

// pve asks the embedded node's own API about a guest, beside the daemon.
func (d *daemon) pve(method string, vmid int, what string) []byte {
	d.t.Helper()
	var credentials struct{ TokenID, TokenSecret string }
	var node struct{ Ports struct{ API int } }
	for name, into := range map[string]any{"pve/credentials.json": &credentials, "node.json": &node} {
		text, err := os.ReadFile(filepath.Join(d.dir, "node", name))
		if err != nil {
			d.t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			d.t.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d/api2/json/nodes/pve/lxc/%d/status/%s", node.Ports.API, vmid, what), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "PVEAPIToken="+credentials.TokenID+"="+credentials.TokenSecret)
	// Its certificate is its own; it is on this machine's loopback.
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(nil, resp.Body, 1<<20)); err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s %s of guest %d: %s, %v", method, what, vmid, resp.Status, err)
	}
	return body.Bytes()
}

func (d *daemon) pveState(vmid int) string {
	d.t.Helper()
	var answer struct{ Data struct{ Status string } }
	if err := json.Unmarshal(d.pve(http.MethodGet, vmid, "current"), &answer); err != nil {
		d.t.Fatal(err)
	}
	return answer.Data.Status
}
