package appliance

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

var testMark = ownership.Mark{Installation: "i-1", Kind: kind, Name: "proximity", UID: "aaaabbbb-cccc-dddd-eeee-ffff00001111", VMID: 9999}

func testDesired(t testing.TB, change func(*v1alpha1.Appliance), apps ...*v1alpha1.App) *desired {
	t.Helper()
	a := &v1alpha1.Appliance{
		Metadata: &v1alpha1.ObjectMeta{Name: "proximity", Uid: testMark.UID},
		Spec: &v1alpha1.ApplianceSpec{
			Hostname: proto.String("proximity"), Dns: &v1alpha1.ApplianceDNS{Zone: proto.String("prox.local")},
			Dhcp: &v1alpha1.ApplianceDHCP{LeaseTime: proto.String("12h")}, Lan: &v1alpha1.ApplianceLAN{Address: proto.String("10.20.0.1")},
		},
		Status: &v1alpha1.ApplianceStatus{Vmid: proto.Int32(9999), WanMac: proto.String("BC:24:11:00:00:01"), LanMac: proto.String("BC:24:11:00:00:02")},
	}
	if change != nil {
		change(a)
	}
	cl := &v1alpha1.Cluster{Spec: &v1alpha1.ClusterSpec{ApplianceTemplate: proto.String("debian-12-proximity"), WanBridge: proto.String("vmbr0"), Storage: proto.String("local")}}
	n := network{bridge: "lan", lan: netip.MustParsePrefix("10.20.0.1/24"), start: netip.MustParseAddr("10.20.0.100"), end: netip.MustParseAddr("10.20.0.200")}
	w := world{appliances: []*v1alpha1.Appliance{a}, apps: apps}
	d, err := desire(a, cl, testMark, n, w, "pve")
	if err != nil {
		t.Fatal(err)
	}
	if d.broken != nil {
		t.Fatal(d.broken)
	}
	return d
}

func testApp(name string) *v1alpha1.App {
	return &v1alpha1.App{
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}, Spec: &v1alpha1.AppSpec{Hostname: proto.String(name)},
		Status: &v1alpha1.AppStatus{Address: proto.String("10.20.0.100"), Mac: proto.String("BC:24:11:00:00:09")},
	}
}

// inSync is the inside of a guest in which a bundle is live.
func inSync(b appliance.Bundle) *appliance.Observation {
	up := appliance.Service{Active: "active", Enabled: true}
	return &appliance.Observation{
		Manifest: b.Hash, SetHash: b.Hash, Files: b.Hashes(), NAT: appliance.NATOK, Forward: true,
		DNS: appliance.Check{OK: true}, Proxy: appliance.Check{OK: true},
		Services: map[string]appliance.Service{appliance.UnitNAT: up, appliance.UnitDNSMasq: up, appliance.UnitCaddy: up},
	}
}

// model is the outside as the steps change it.
type model struct {
	d                *desired
	present, running bool
	config           map[string]string
	inside           *appliance.Observation
}

func (m *model) observe() observed {
	if !m.present {
		return observed{inside: m.inside, guest: lxc.Observed{Node: "pve", Template: lxc.TemplateSeen{Want: "debian-12-proximity", Volid: "local:vztmpl/x"}}}
	}
	cfg := proxmox.NewLXCConfig(m.config)
	mark := ownership.FromDescription(cfg.Description())
	return observed{inside: m.inside, guest: lxc.Observed{
		Present: true, Node: "pve", Running: m.running, Config: cfg, Mark: mark, Relation: ownership.Relate(mark, testMark),
	}}
}

func (m *model) take(s lxc.Step) {
	switch s.Action {
	case lxc.ActionCreate:
		m.present, m.inside = true, nil
		m.config = map[string]string{"description": testMark.Describe(""), "rootfs": "local:1/vm-9999-disk-0.raw,size=8G"}
	case lxc.ActionUpdate:
		maps.Copy(m.config, s.Change.Set)
	case lxc.ActionGrowDisk:
		m.config["rootfs"] = "local:1/vm-9999-disk-0.raw,size=" + s.Size
	case lxc.ActionStart:
		m.running = true
	case lxc.ActionShutdown:
		m.running = false
	case lxc.ActionDestroy:
		m.present = false
	case ActionConfigure:
		m.inside = inSync(m.d.bundle)
	}
}

func actions(steps []lxc.Step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Action)
	}
	return strings.Join(names, " ")
}

func settled(t testing.TB) observed {
	t.Helper()
	d := testDesired(t, nil)
	m := &model{d: d}
	for range 10 {
		steps, blocked := plan(d, testMark, m.observe())
		if blocked != nil {
			t.Fatal(blocked)
		}
		if len(steps) == 0 {
			return m.observe()
		}
		for _, s := range steps {
			m.take(s)
		}
	}
	t.Fatal("does not come to rest")
	return observed{}
}

func TestPlan(t *testing.T) {
	base := settled(t)
	with := func(f func(*observed)) observed {
		o := base
		inside := *base.inside
		o.inside = &inside
		f(&o)
		return o
	}
	lease := func(a *v1alpha1.Appliance) { a.Spec.Dhcp.LeaseTime = proto.String("1h") }
	for name, tc := range map[string]struct {
		d      *desired
		o      observed
		steps  string
		effect runtime.Effect // of the last step
		says   string
	}{
		"never looked at":   {testDesired(t, nil), observed{}, "DownloadTemplate Create Start InstallPackages Configure", runtime.InPlace, "write 15 files"},
		"as desired":        {testDesired(t, nil), base, "", "", ""},
		"an App more":       {testDesired(t, nil, testApp("web")), base, "Configure", runtime.InPlace, "hosts.d/app.default.web"},
		"lease time":        {testDesired(t, lease), base, "Configure", runtime.Restart, "restarts proximity-dnsmasq"},
		"NAT":               {testDesired(t, func(a *v1alpha1.Appliance) { a.Spec.Nat = &v1alpha1.ApplianceNAT{Enabled: proto.Bool(false)} }), base, "Configure", runtime.InPlace, "nat.nft differs"},
		"memory":            {testDesired(t, func(a *v1alpha1.Appliance) { a.Spec.Resources = &v1alpha1.Resources{Memory: proto.String("2Gi")} }), base, "Update", runtime.InPlace, "memory"},
		"proxy died":        {testDesired(t, nil), with(func(o *observed) { o.inside.Services = nil }), "Configure", runtime.Restart, "unknown to the service manager"},
		"packages missing":  {testDesired(t, nil), with(func(o *observed) { o.inside.Missing = []string{"nft"} }), "InstallPackages Configure", runtime.InPlace, "commands are missing"},
		"files not listed":  {testDesired(t, lease), with(func(o *observed) { o.inside.Files = nil }), "Configure", runtime.Restart, "another set"},
		"stopped":           {testDesired(t, nil), with(func(o *observed) { o.guest.Running = false }), "Start", runtime.InPlace, ""},
		"stopped, changed":  {testDesired(t, lease), with(func(o *observed) { o.guest.Running = false }), "Start Configure", runtime.Restart, ""},
		"no agent":          {testDesired(t, nil), with(func(o *observed) { o.inside = nil }), "InstallPackages Configure", runtime.InPlace, ""},
		"delete":            {nil, base, "Shutdown Destroy", runtime.DataLoss, "disks"},
		"delete foreign":    {nil, with(func(o *observed) { o.guest.Relation = ownership.Unmarked }), "", "", ""},
		"delete absent":     {nil, observed{}, "", "", ""},
		"configuration bad": {&desired{guest: testDesired(t, nil).guest, broken: runtime.Stalled("RenderFailed", "bad")}, with(func(o *observed) { o.guest.Running = false }), "Start", runtime.InPlace, ""},
	} {
		steps, blocked := plan(tc.d, testMark, tc.o)
		var effect runtime.Effect
		text := ""
		if len(steps) > 0 {
			effect, text = steps[len(steps)-1].Effect, steps[len(steps)-1].Text
		}
		if got := actions(steps); got != tc.steps || effect != tc.effect || !strings.Contains(text, tc.says) || blocked != nil {
			t.Errorf("%s: %q %s %q %v, want %q %s %q", name, got, effect, text, blocked, tc.steps, tc.effect, tc.says)
		}
	}
}

// TestPlanReachesWhatIsDesired carries plans out on a model.
func TestPlanReachesWhatIsDesired(t *testing.T) {
	plans := []*desired{
		testDesired(t, nil), testDesired(t, nil, testApp("web")),
		testDesired(t, func(a *v1alpha1.Appliance) { a.Spec.Dhcp.LeaseTime = proto.String("1h") }),
		testDesired(t, func(a *v1alpha1.Appliance) { a.Spec.Resources = &v1alpha1.Resources{Disk: proto.String("20Gi")} }),
	}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{d: rapid.SampledFrom(plans).Draw(t, "before")}
		foreign := false
		if rapid.Bool().Draw(t, "present") {
			m.take(lxc.Step{Step: runtime.Step{Action: lxc.ActionCreate}})
			if m.running = rapid.Bool().Draw(t, "running"); rapid.Bool().Draw(t, "looked inside") {
				m.inside = inSync(m.d.bundle)
			}
			if foreign = rapid.Bool().Draw(t, "foreign"); foreign {
				m.config["description"] = "somebody's"
			}
		}
		m.d = rapid.SampledFrom(plans).Draw(t, "after")
		target := m.d
		if rapid.Bool().Draw(t, "deletion") {
			target = nil
		}
		for round := 0; ; round++ {
			steps, blocked := plan(target, testMark, m.observe())
			if foreign && len(steps) > 0 {
				t.Fatalf("steps of a foreign guest: %s", actions(steps))
			}
			if len(steps) == 0 || blocked != nil {
				break
			}
			if round == 2 { // what Proxmox sets of a new guest is not modelled: one Update may follow
				t.Fatalf("does not come to rest: %s", actions(steps))
			}
			for _, s := range steps {
				if target != nil && (s.Effect == runtime.DataLoss || s.Effect == runtime.Recreate) {
					t.Fatalf("step %s is %s", s.Action, s.Effect)
				}
				m.take(s)
			}
		}
		if target == nil && m.present != foreign {
			t.Fatalf("a deletion leaves %+v", m)
		}
	})
}

// An observation of a set that is live does not list its files; they are kept from before,
// or are those of the bundle.
func TestFilesAreAlwaysListed(t *testing.T) {
	d := testDesired(t, nil)
	short := *inSync(d.bundle)
	short.Files = nil
	if got := listed(d.bundle, short, nil); !maps.Equal(got.Files, d.bundle.Hashes()) {
		t.Errorf("got %v", got.Files)
	}
	before := observed{inside: &appliance.Observation{SetHash: d.bundle.Hash, Files: map[string]string{"/kept": "x"}}}
	if got := listed(d.bundle, short, before); got.Files["/kept"] != "x" {
		t.Errorf("got %v", got.Files)
	}
	short.SetHash = "other"
	if got := listed(d.bundle, short, before); got.Files != nil {
		t.Errorf("got %v", got.Files)
	}
}

// What the proxy says that it cannot serve is refused, like what was left out before.
func TestVhostsThatTheProxyRefuses(t *testing.T) {
	b := appliance.Bundle{Rejected: []appliance.Rejected{{Kind: "vhost", Key: "default/a", Reason: "bad name"}}}
	st := liveState(appliance.Input{}, b, appliance.Observation{Vhosts: map[string]string{"default/b": "no such handler"}}, guest.Target{})
	for key, want := range map[string]string{"default/a": "bad name", "default/b": "the proxy cannot serve it: no such handler", "default/c": ""} {
		if got := st.Rejected[live.RejectedKey("vhost", key)].Reason; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}
