package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// impatient is a configuration with which services that are down have their guest booted, and
// made anew, as soon as can be allowed.
func impatient(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "impatient.yaml")
	if err := os.WriteFile(path, []byte("repair: {after: 5s, pause: 15s, longest: 15s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRebuild takes from the appliance's guest what it needs to live: first a program alone, which
// is fetched again, then the program and every way to get it. Services are restarted, the guest is
// booted, three times, and made anew at last; who trusted the one before trusts the new one, and
// who had an address has it still.
func TestRebuild(t *testing.T) {
	story(t, "all")
	d := start(t, t.TempDir(), "--config", impatient(t))
	d.must("apply", "-f", quickDir, "--wait", "--timeout", "3m")
	root := []byte(d.must("ca"))
	reachable := func() bool {
		code, body, err := d.webTLS(host, root)
		return err == nil && code == 200 && strings.Contains(body, "Welcome to nginx")
	}
	eventually(t, "page over HTTPS", reachable)
	address := func() string {
		return d.inGuest(d.vmid(app), "ip", "-4", "-o", "addr", "show", "dev", "eth0", "scope", "global").out
	}

	// Somebody without a reservation has an address too: only the kept leases know of it.
	const visitor = "02:00:5e:00:53:01 10.20.0.240 visitor"
	d.inAppliance("systemctl stop proximity-dnsmasq && echo '3900000000 " + visitor + " *' >>/var/lib/proximity/dnsmasq.leases && systemctl start proximity-dnsmasq")
	leases := func() string { return d.inAppliance("sort /var/lib/proximity/dnsmasq.leases") }
	had, where := leases(), address()
	if !strings.Contains(had, visitor) || !strings.Contains(had, " 10.20.0.100 ") || where == "" {
		t.Fatalf("leases to begin with:\n%s\nthe App has %q", had, where)
	}
	d.patch(apl, map[string]any{"repair": "Rebuild"})
	d.must("wait", "--for=condition=StateKept", apl, "--timeout=60s")

	d.inAppliance("rm /usr/sbin/dnsmasq && systemctl stop proximity-dnsmasq")
	eventually(t, "the program is there again", func() bool { return d.inGuest(9999, "test", "-x", "/usr/sbin/dnsmasq").code == 0 })
	d.must("wait", "--for=condition=Ready", apl, "--timeout=120s")
	eventually(t, "page over HTTPS", reachable)

	before := d.initOf(9999)
	d.inAppliance("touch /root/of-the-guest-before && rm -r /usr/sbin/dnsmasq /etc/apt/sources.list* /var/lib/apt/lists && systemctl stop proximity-dnsmasq")
	begin := time.Now()
	since := func(what string) { t.Logf("%s: %.1f s after the break", what, time.Since(begin).Seconds()) }
	d.named("PackagesInstalled", "InstallFailed")
	for _, n := range []string{"first", "second", "third"} {
		eventually(t, "the guest is booted a "+n+" time", func() bool { now := d.initOf(9999); return now != "" && now != before })
		before = d.initOf(9999)
		since("boot")
	}
	eventually(t, "the guest is made anew", func() bool { return d.countEvents("Appliance", "GuestRebuilt") > 0 })
	since("decided")
	eventually(t, "leases, CA and certificates are brought back", func() bool { return d.countEvents("Appliance", "StateRestored") > 0 })
	since("restored")
	eventually(t, "page over HTTPS, as trusted before", reachable)
	since("served")
	d.must("wait", "--for=condition=Ready", apl, app, "vhost/"+host, "--timeout=120s")

	if d.inGuest(9999, "test", "-e", "/root/of-the-guest-before").code == 0 {
		t.Error("it is the guest of before")
	}
	if got := d.must("ca"); got != string(root) {
		t.Errorf("another CA:\n%s", got)
	}
	if got := leases(); got != had {
		t.Errorf("leases are:\n%s\nbefore:\n%s", got, had)
	}
	if r := d.inGuest(d.vmid(app), "sh", "-c", "ifdown eth0; ifup eth0"); r.code != 0 {
		t.Fatalf("ask again: %s%s", r.out, r.err)
	}
	if got := address(); strings.Fields(got)[3] != strings.Fields(where)[3] {
		t.Errorf("the App had\n%sand has\n%s", where, got)
	}
	if n, phase := field(d.object(apl), "status", "repair", "rebuilds"), field(d.object(apl), "status", "repair", "phase"); n != 1.0 || phase != nil {
		t.Errorf("%v rebuilds, phase %v", n, phase)
	}
	if status, _, why := d.condition(apl, "Repaired"); status != "" {
		t.Errorf("Repaired is %s: %s", status, why)
	}
	d.stop()
}
