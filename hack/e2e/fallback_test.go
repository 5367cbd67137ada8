package e2e

import (
	"strings"
	"testing"
)

// TestFallback: the appliance cannot be worked with, the App moves to the uplink and reaches the
// internet from there; the appliance is whole again, and the App is back where it was.
func TestFallback(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	d.patch(apl, map[string]any{"fallback": "WAN", "fallbackAfter": "30s", "repair": "Services"})
	d.must("wait", "--for=condition=Ready", apl, app, "--timeout=120s")
	address := func() string { return d.inGuest(d.vmid(app), "ip", "-4", "-o", "address", "show", "dev", "eth0").out }
	internet := func() bool {
		return strings.Contains(d.inGuest(d.vmid(app), "curl", "-s", "--max-time", "3", "http://www.internet.test/").out, "internet reached")
	}
	if !strings.Contains(address(), " 10.20.0.") {
		t.Fatalf("to begin with: %s", address())
	}

	// Nothing of ours can be run in the appliance any more, nor does anything in it come back.
	for _, args := range [][]string{{"mv", "/usr/bin/sh", "/usr/bin/sh.away"}, {"pkill", "-9", "dnsmasq"}} {
		if r := d.inGuest(9999, args...); r.code != 0 {
			t.Fatalf("%v: %s%s", args, r.out, r.err)
		}
	}
	d.must("wait", "--for=condition=Fallback", app, "--timeout=180s")
	eventually(t, "the App reaches the internet from the uplink", func() bool { return strings.Contains(address(), " 192.168.50.") && internet() })
	if strings.Contains(address(), "10.20.0.") {
		t.Errorf("it has two addresses: %s", address())
	}

	if r := d.inGuest(9999, "mv", "/usr/bin/sh.away", "/usr/bin/sh"); r.code != 0 {
		t.Fatalf("mend: %s", r.err)
	}
	d.must("wait", "--for=condition=Ready", apl, app, "vhost/"+host, "--timeout=180s")
	eventually(t, "the page is there", d.serves)
	if !strings.Contains(address(), " 10.20.0.") || strings.Contains(address(), "192.168.50.") || !internet() {
		t.Errorf("after the return: %s", address())
	}
	d.stop()
}
