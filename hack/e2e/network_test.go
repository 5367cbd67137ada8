package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// patch changes an object by a merge patch.
func (d *daemon) patch(ref string, spec map[string]any) {
	d.t.Helper()
	text, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		d.t.Fatal(err)
	}
	d.must("patch", ref, "--type", "merge", "-p", string(text))
}

// TestApplianceNetwork is the story of what an appliance does beside the quickstart: a port that
// leads to a guest, an App that may not go everywhere, names on the uplink, a websocket, a name that
// asks for a password, and Cockpit.
func TestApplianceNetwork(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	vmid := d.vmid(app)
	wan, _ := field(d.object(apl), "status", "wanAddress").(string)
	wan, _, _ = strings.Cut(wan, "/")
	node := func(args ...string) run {
		return d.inNode(append([]string{"curl", "-sS", "--max-time", "3"}, args...)...)
	}
	// The guest knows its own name by itself: what is asked of the name goes to the proxy.
	guest := func(args ...string) run {
		return d.inGuest(vmid, append([]string{"curl", "-sS", "--max-time", "60", "--resolve", host + ":80:" + lanIP}, args...)...)
	}

	d.patch(apl, map[string]any{
		"managementUI": "Cockpit",
		"dns":          map[string]any{"wan": map[string]any{"enabled": true}},
		"nat":          map[string]any{"portForwards": []any{map[string]any{"name": "web", "port": 8080, "targetPort": 80, "appRef": map[string]any{"name": "nginx-01"}}}},
	})
	d.must("wait", "--for=condition=Ready", apl, "--timeout=120s")
	d.must("wait", "--for=condition=ManagementUIReady", apl, "--timeout=180s")

	eventually(t, "a declared port leads to the guest", func() bool {
		return strings.Contains(node("http://"+wan+":8080/").out, "Welcome to nginx")
	})
	if r := node("http://" + wan + ":8081/"); r.code == 0 {
		t.Errorf("a port that is not declared: %s", r.out)
	}
	if got := d.must("leases"); !strings.Contains(got, "default/nginx-01") {
		t.Errorf("leases:\n%s", got)
	}
	if got := d.must("ca"); !strings.HasPrefix(got, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("ca: %s", got)
	}

	t.Run("Cockpit", func(t *testing.T) {
		if r := d.inGuest(9999, "sh", "-c", "echo root:of-the-test | chpasswd"); r.code != 0 {
			t.Fatalf("password: %s", r.err)
		}
		const login = "https://10.20.0.1:9090/cockpit/login"
		if r := guest("-k", "-u", "root:of-the-test", "-o", "/dev/null", "-w", "%{http_code}", login); r.out != "200" {
			t.Errorf("login: %s %s", r.out, r.err)
		}
		if r := guest("-k", "-u", "root:another", "-o", "/dev/null", "-w", "%{http_code}", login); r.out != "401" {
			t.Errorf("login with a wrong password: %s %s", r.out, r.err)
		}
		if r := node("-k", "https://"+wan+":9090/"); r.code == 0 {
			t.Error("it answers on the uplink")
		}
		d.cockpitByName(t, "root", "of-the-test")
	})

	t.Run("names on the uplink", func(t *testing.T) { d.namesOnTheUplink(t, wan) })

	t.Run("websocket", d.websocket)

	t.Run("egress", func(t *testing.T) {
		reached := func() bool {
			return strings.Contains(guest("--max-time", "5", "http://www.internet.test/").out, "internet reached")
		}
		if !reached() {
			t.Error("the App does not reach the internet to begin with")
		}
		d.patch(app, map[string]any{"network": map[string]any{"egress": map[string]any{"default": "Deny"}}})
		eventually(t, "the App is cut off", func() bool { return !reached() })
		if !d.serves() {
			t.Error("its page is not served any more")
		}
		d.patch(app, map[string]any{"network": map[string]any{"egress": nil}})
		eventually(t, "the App may go everywhere again", reached)
	})

	t.Run("password", func(t *testing.T) {
		d.must("create", "secret", "staff", "--from-literal", "ann=right")
		d.patch("vhost/"+host, map[string]any{"auth": map[string]any{"basic": map[string]any{
			"users": []any{map[string]any{"name": "ann", "password": map[string]any{"name": "staff", "key": "ann"}}},
		}}})
		eventually(t, "the name asks who comes", func() bool { code, _, err := d.web(host); return err == nil && code == 401 })
		if r := guest("-u", "ann:right", "http://"+host+"/"); !strings.Contains(r.out, "Welcome to nginx") {
			t.Errorf("with the password: %s %s", r.out, r.err)
		}
		if r := guest("-u", "ann:wrong", "-o", "/dev/null", "-w", "%{http_code}", "http://"+host+"/"); r.out != "401" {
			t.Errorf("with another: %s", r.out)
		}
	})

	t.Run("test-nat", func(t *testing.T) {
		if out := d.must("test-nat"); !strings.Contains(out, "App default/nginx-01") || !strings.Contains(out, "Succeeded") {
			t.Errorf("got:\n%s", out)
		}
	})

	t.Run("test-nat without an App", func(t *testing.T) {
		d.patch(apl, map[string]any{"nat": map[string]any{"portForwards": nil}})
		d.must("delete", app, "--timeout", "1m")
		if out := d.must("test-nat"); !strings.Contains(out, "made for the test") || !strings.Contains(out, "Succeeded") {
			t.Errorf("got:\n%s", out)
		}
		if out := strings.Fields(d.inNode("lxc-ls", "-P", d.Node.LXCPath).out); len(out) != 1 || out[0] != "9999" {
			t.Errorf("guests after the test: %v", out)
		}
	})
	d.stop()
}
