package app

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

var testMark = ownership.Mark{Installation: "i-1", Kind: kind, Namespace: "default", Name: "web", UID: "aaaabbbb-cccc-dddd-eeee-ffff00001111", VMID: 20000}

func testApp() *v1alpha1.App {
	return &v1alpha1.App{
		Metadata: &v1alpha1.ObjectMeta{Name: "web", Namespace: "default", Uid: testMark.UID},
		Spec:     &v1alpha1.AppSpec{Hostname: proto.String("web"), State: proto.String(stateRunning), Packages: []string{"nginx"}},
		Status:   &v1alpha1.AppStatus{Vmid: proto.Int32(20000), Mac: proto.String("BC:24:11:00:00:01"), Address: proto.String("10.20.0.100")},
	}
}

func testDesired(t testing.TB, change func(*v1alpha1.App)) *desired {
	t.Helper()
	a := testApp()
	if change != nil {
		change(a)
	}
	cl := &v1alpha1.Cluster{Spec: &v1alpha1.ClusterSpec{AppTemplate: proto.String("debian-12-standard"), Storage: proto.String("local")}}
	n := network{bridge: "lan", lan: netip.MustParseAddr("10.20.0.1"), appliance: &v1alpha1.Appliance{
		Metadata: &v1alpha1.ObjectMeta{Name: "proximity"}, Spec: &v1alpha1.ApplianceSpec{Dns: &v1alpha1.ApplianceDNS{Zone: proto.String("prox.local")}},
	}}
	d, err := desire(a, secretEnv{}, cl, testMark, n, "pve")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// model is the outside as the steps change it.
type model struct {
	d         *desired
	want      ownership.Mark
	present   bool
	running   bool
	config    map[string]string
	host      *appliance.Host
	provision string
}

func (m *model) observe() observed {
	o := observed{appliance: "proximity", host: m.host, provision: m.provision, guest: lxc.Observed{Node: "pve"}}
	if !m.present {
		o.guest.Template = lxc.TemplateSeen{Want: "debian-12-standard", Volid: "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"}
		return o
	}
	cfg := proxmox.NewLXCConfig(m.config)
	mark := ownership.FromDescription(cfg.Description())
	o.guest = lxc.Observed{Present: true, Node: "pve", Running: m.running, Config: cfg, Mark: mark, Relation: ownership.Relate(mark, m.want)}
	return o
}

func (m *model) take(t *rapid.T, s lxc.Step) {
	switch s.Action {
	case lxc.ActionCreate:
		m.present, m.provision = true, ""
		m.config = map[string]string{
			"description": m.want.Describe(""), "rootfs": "local:1/vm-20000-disk-0.raw,size=4G", "hostname": m.d.guest.Hostname,
		}
	case lxc.ActionUpdate:
		for k, v := range s.Change.Set {
			m.config[k] = v
		}
	case lxc.ActionGrowDisk:
		m.config["rootfs"] = "local:1/vm-20000-disk-0.raw,size=" + s.Size
	case lxc.ActionStart:
		if m.host == nil {
			t.Fatal("the guest is started before its appliance serves it")
		}
		m.running = true
	case lxc.ActionShutdown:
		m.running = false
	case lxc.ActionDestroy:
		if m.running {
			t.Fatal("a running guest is destroyed")
		}
		m.present = false
	case ActionServe:
		h := m.d.host
		m.host = &h
	case ActionDrop:
		m.host = nil
	case ActionProvision:
		if !m.running {
			t.Fatal("provisioned while the guest does not run")
		}
		m.provision = m.d.provision
	default:
		t.Fatalf("unknown step %s", s.Action)
	}
}

func actions(steps []lxc.Step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Action)
	}
	return strings.Join(names, " ")
}

// settled is the outside when an App is as desired.
func settled(t testing.TB) observed {
	t.Helper()
	d := testDesired(t, nil)
	m := &model{d: d, want: testMark}
	for range 10 {
		steps, blocked := plan(d, testMark, m.observe())
		if blocked != nil {
			t.Fatal(blocked)
		}
		if len(steps) == 0 {
			return m.observe()
		}
		m.take(nil, steps[0])
	}
	t.Fatal("does not come to rest")
	return observed{}
}

func TestPlan(t *testing.T) {
	base := settled(t)
	with := func(f func(*observed)) observed { o := base; f(&o); return o }
	stopped := func(a *v1alpha1.App) { a.Spec.State = proto.String(stateStopped) }
	for name, tc := range map[string]struct {
		d       *desired
		o       observed
		steps   string
		worst   runtime.Effect
		blocked string
	}{
		"never looked at": {testDesired(t, nil), observed{}, "DownloadTemplate Create ServeNames Start Provision", runtime.InPlace, ""},
		"as desired":      {testDesired(t, nil), base, "", "", ""},
		"memory":          {testDesired(t, func(a *v1alpha1.App) { a.Spec.Resources = &v1alpha1.Resources{Memory: proto.String("1Gi")} }), base, "Update", runtime.InPlace, ""},
		"host name":       {testDesired(t, func(a *v1alpha1.App) { a.Spec.Hostname = proto.String("other") }), base, "Update ServeNames", runtime.InPlace, ""},
		"another address": {testDesired(t, func(a *v1alpha1.App) { a.Spec.Network = &v1alpha1.AppNetwork{Address: proto.String("10.20.0.7")} }), base, "ServeNames", runtime.InPlace, ""},
		"packages":        {testDesired(t, func(a *v1alpha1.App) { a.Spec.Packages = nil }), base, "Provision", runtime.InPlace, ""},
		"to be stopped":   {testDesired(t, stopped), base, "Update Shutdown", runtime.Restart, ""},
		"stopped":         {testDesired(t, nil), with(func(o *observed) { o.guest.Running = false }), "Start", runtime.InPlace, ""},
		"unserved":        {testDesired(t, nil), with(func(o *observed) { o.unserved = "dnsmasq is dead" }), "ServeNames", runtime.InPlace, ""},
		"stopped, unserved": {testDesired(t, nil), with(func(o *observed) { o.guest.Running, o.host = false, nil }),
			"ServeNames Start", runtime.InPlace, ""},
		"vanished": {testDesired(t, nil), with(func(o *observed) { o.guest = lxc.Observed{Node: "pve"} }),
			"DownloadTemplate Create Start Provision", runtime.InPlace, ""},
		"foreign":          {testDesired(t, nil), with(func(o *observed) { o.guest.Relation = ownership.Unmarked }), "", "", "VMIDTaken"},
		"delete":           {nil, base, "Shutdown Destroy DropNames", runtime.DataLoss, ""},
		"delete foreign":   {nil, with(func(o *observed) { o.guest.Relation = ownership.Unmarked }), "DropNames", runtime.InPlace, ""},
		"delete, unserved": {nil, with(func(o *observed) { o.host, o.guest.Running = nil, false }), "Destroy", runtime.DataLoss, ""},
		"delete absent":    {nil, observed{}, "", "", ""},
	} {
		steps, blocked := plan(tc.d, testMark, tc.o)
		reason := ""
		if blocked != nil {
			reason = blocked.Reason
		}
		if got := actions(steps); got != tc.steps || reason != tc.blocked {
			t.Errorf("%s: %q %q, want %q %q", name, got, reason, tc.steps, tc.blocked)
		}
		var worst runtime.Effect
		for _, s := range steps {
			if s.Text == "" || (s.By != "") != (s.Action == ActionServe || s.Action == ActionDrop) {
				t.Errorf("%s: %+v", name, s)
			}
			if worst == "" || s.Effect == runtime.DataLoss || s.Effect == runtime.Restart && worst == runtime.InPlace {
				worst = s.Effect
			}
		}
		if worst != tc.worst {
			t.Errorf("%s: worst effect %q, want %q", name, worst, tc.worst)
		}
	}
}

// TestPlanReachesWhatIsDesired carries plans out on a model, each step of each plan in
// order: it reaches what is desired in one go, a deletion leaves nothing of ours, nothing but
// a deletion loses data, and a guest that is not ours is never touched.
func TestPlanReachesWhatIsDesired(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := testDesired(t, func(a *v1alpha1.App) {
			a.Spec.State = proto.String(rapid.SampledFrom([]string{stateRunning, stateStopped}).Draw(rt, "state"))
			a.Spec.Hostname = proto.String(rapid.SampledFrom([]string{"web", "other"}).Draw(rt, "hostname"))
			a.Spec.Packages = rapid.SampledFrom([][]string{nil, {"nginx"}}).Draw(rt, "packages")
			a.Spec.Resources = &v1alpha1.Resources{Disk: proto.String(rapid.SampledFrom([]string{"4Gi", "8Gi"}).Draw(rt, "disk"))}
		})
		m := &model{d: testDesired(t, nil), want: testMark}
		foreign := false
		if m.present = rapid.Bool().Draw(rt, "present"); m.present {
			m.take(rt, lxc.Step{Step: runtime.Step{Action: lxc.ActionCreate}})
			m.running = rapid.Bool().Draw(rt, "running")
			if foreign = rapid.Bool().Draw(rt, "foreign"); foreign {
				m.config["description"] = "somebody's"
			}
			m.provision = rapid.SampledFrom([]string{"", m.d.provision}).Draw(rt, "provision")
		}
		if rapid.Bool().Draw(rt, "served") {
			h := m.d.host
			m.host = &h
		}
		m.d = d
		target := d
		if rapid.Bool().Draw(rt, "deletion") {
			target = nil
		}
		steps, blocked := plan(target, testMark, m.observe())
		if foreign && target != nil && (blocked == nil || len(steps) > 0) {
			rt.Fatalf("a foreign guest: %v, %v", actions(steps), blocked)
		}
		for _, s := range steps {
			if foreign && s.By == "" {
				rt.Fatalf("step %s of a foreign guest", s.Action)
			}
			if target != nil && (s.Effect == runtime.DataLoss || s.Effect == runtime.Recreate) {
				rt.Fatalf("step %s is %s", s.Action, s.Effect)
			}
			m.take(rt, s)
		}
		if blocked != nil {
			return
		}
		if target == nil && (m.host != nil || m.present && !foreign) {
			rt.Fatalf("a deletion leaves %+v", m)
		}
		if left, _ := plan(target, testMark, m.observe()); len(left) > 0 && !onlyCreated(steps, left) {
			rt.Fatalf("after %q there is left %q", actions(steps), actions(left))
		}
	})
}

// onlyCreated: the model's new guest lacks what Proxmox sets from a create request, so that
// one Update may follow.
func onlyCreated(steps, left []lxc.Step) bool {
	return lxc.Has(steps, lxc.ActionCreate) && len(left) <= 2 && (left[0].Action == lxc.ActionUpdate || left[0].Action == lxc.ActionGrowDisk)
}
