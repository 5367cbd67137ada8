package routing

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

func app(name, address string, ports ...*v1alpha1.AppPort) *v1alpha1.App {
	return &v1alpha1.App{
		Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: name},
		Spec:     &v1alpha1.AppSpec{Ports: ports},
		Status:   &v1alpha1.AppStatus{Address: proto.String(address)},
	}
}

func port(name string, n int32) *v1alpha1.AppPort {
	return &v1alpha1.AppPort{Name: proto.String(name), Port: proto.Int32(n)}
}

func vhost(name, created string, hosts []string, backends ...*v1alpha1.VhostBackend) *v1alpha1.Vhost {
	return &v1alpha1.Vhost{
		Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: created},
		Spec:     &v1alpha1.VhostSpec{Hosts: hosts, Rules: []*v1alpha1.VhostRule{{Path: proto.String("/"), Backends: backends}}},
	}
}

func toApp(name, port string) *v1alpha1.VhostBackend {
	return &v1alpha1.VhostBackend{AppRef: &v1alpha1.AppPortReference{Name: proto.String(name), Port: proto.String(port)}}
}

func TestBackends(t *testing.T) {
	apps := IndexApps([]*v1alpha1.App{
		app("web", "10.20.0.100", port("http", 80), port("admin", 9000)), app("new", "", port("http", 80)), app("silent", "10.20.0.102"),
	})
	for name, tc := range map[string]struct {
		backend    *v1alpha1.VhostBackend
		address    string
		unresolved string
	}{
		"web port":        {toApp("web", ""), "10.20.0.100:80", ""},
		"by name":         {toApp("web", "admin"), "10.20.0.100:9000", ""},
		"by number":       {toApp("web", "8080"), "10.20.0.100:8080", ""},
		"external":        {&v1alpha1.VhostBackend{Address: proto.String("192.0.2.7:81")}, "192.0.2.7:81", ""},
		"no such app":     {toApp("nope", ""), "", "does not exist"},
		"no such port":    {toApp("web", "nope"), "", "has no port"},
		"no port at all":  {toApp("silent", ""), "", "has no port"},
		"port 0":          {toApp("web", "0"), "", "has no port"},
		"port 70000":      {toApp("web", "70000"), "", "has no port"},
		"without address": {toApp("new", ""), "", "no address yet"},
	} {
		rules, unresolved := Backends(vhost("v", "", []string{"x"}, tc.backend), apps, nil)
		got := ""
		if len(rules[0].Backends) > 0 {
			got = rules[0].Backends[0].Address
		}
		if got != tc.address || !strings.Contains(strings.Join(unresolved, ";"), tc.unresolved) || (tc.unresolved == "") != (len(unresolved) == 0) {
			t.Errorf("%s: %q %v, want %q %q", name, got, unresolved, tc.address, tc.unresolved)
		}
	}
}

func TestTheOlderKeepsTheName(t *testing.T) {
	old := vhost("b", "2026-01-01T00:00:00Z", []string{"x.test", "y.test"})
	young := vhost("a", "2026-01-02T00:00:00Z", []string{"z.test", "Y.test"})
	all := []*v1alpha1.Vhost{young, old}
	if claim, lost := Conflict(young, all); !lost || claim.By != "default/b" || claim.Host != "Y.test" {
		t.Errorf("got %+v, %v", claim, lost)
	}
	if _, lost := Conflict(old, all); lost {
		t.Error("the older loses")
	}
	old.Metadata.DeletionTimestamp = "2026-01-03T00:00:00Z"
	if _, lost := Conflict(young, all); lost {
		t.Error("one that is being deleted claims a name")
	}
	// Of two of the same second exactly one keeps the name.
	p, q := vhost("p", "2026-01-01T00:00:00Z", []string{"x"}), vhost("q", "2026-01-01T00:00:00Z", []string{"x"})
	_, a := Conflict(p, []*v1alpha1.Vhost{p, q})
	_, b := Conflict(q, []*v1alpha1.Vhost{p, q})
	if a == b {
		t.Errorf("both lose or both keep: %v %v", a, b)
	}
}

func TestWhichAppliance(t *testing.T) {
	apl := func(name string) *v1alpha1.Appliance {
		return &v1alpha1.Appliance{Metadata: &v1alpha1.ObjectMeta{Name: name}}
	}
	one, two := []*v1alpha1.Appliance{apl("a")}, []*v1alpha1.Appliance{apl("a"), apl("b")}
	web := app("web", "10.20.0.100", port("http", 80))
	if got := ApplianceOf(web, one); got != "a" {
		t.Errorf("the only one: %q", got)
	}
	if got := ApplianceOf(web, two); got != "" {
		t.Errorf("undecided: %q", got)
	}
	web.Status.Appliance = proto.String("b")
	if got := ApplianceOf(web, two); got != "b" {
		t.Errorf("the one so far: %q", got)
	}
	if got := ApplianceOf(web, one); got != "a" {
		t.Errorf("the one so far is gone: %q", got)
	}
	web.Status.Appliance = nil
	ext := vhost("ext", "", []string{"y"}, &v1alpha1.VhostBackend{Address: proto.String("192.0.2.7:81")})
	ext.Status = &v1alpha1.VhostStatus{Appliance: proto.String("a")}
	if got := VhostAppliance(ext, nil, two); got != "a" {
		t.Errorf("a Vhost's one so far: %q", got)
	}
	web.Spec.Network = &v1alpha1.AppNetwork{ApplianceRef: &v1alpha1.LocalReference{Name: proto.String("b")}}
	v := vhost("v", "", []string{"x"}, toApp("web", ""))
	if got := VhostAppliance(v, IndexApps([]*v1alpha1.App{web}), two); got != "b" {
		t.Errorf("that of its App: %q", got)
	}
}

// TestManagementUI: a Vhost leads there only where there is one, and never in the clear.
func TestManagementUI(t *testing.T) {
	v := vhost("v", "", []string{"x"}, &v1alpha1.VhostBackend{ManagementUi: proto.Bool(true)})
	for ui, want := range map[string]bool{"Cockpit": true, "None": false, "": false} {
		a := &v1alpha1.Appliance{Metadata: &v1alpha1.ObjectMeta{Name: "a"}, Spec: &v1alpha1.ApplianceSpec{ManagementUi: proto.String(ui)}}
		rules, unresolved := Backends(v, nil, a)
		if len(rules) != 1 || rules[0].ManagementUI != want || len(rules[0].Backends) > 0 {
			t.Errorf("%q: %+v", ui, rules)
		}
		if got := strings.Join(unresolved, ";"); (got == "") != want || !want && !strings.Contains(got, "Appliance a has no management UI; set its spec.managementUI to Cockpit") {
			t.Errorf("%q: %s", ui, got)
		}
		if r := Render(v, nil, a, Credentials{}); !r.TLS.Redirect {
			t.Errorf("%q: answers over HTTP", ui)
		}
	}
	if !LeadsToUI(v) || LeadsToUI(vhost("v", "", []string{"x"}, toApp("web", ""))) {
		t.Error("which Vhost leads there")
	}
}
