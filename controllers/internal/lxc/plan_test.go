package lxc

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

var testMark = ownership.Mark{Installation: "0123456789abcdef", Kind: "App", Namespace: "default", Name: "web", UID: "aaaabbbb-cccc-dddd-eeee-ffff00001111", VMID: 20000}

func testDesired() *Desired {
	return &Desired{
		Mark: testMark, Node: "pve", Template: "debian-12-standard", Hostname: "web", Storage: "local-lvm", Sizes: Sizes{Cores: 1, MemoryMiB: 512, DiskGiB: 4},
		NICs:       map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr1", HWAddr: "BC:24:11:00:00:01", IP: "dhcp"}},
		Nameserver: "10.20.0.1", OnBoot: true, Startup: "order=20", Running: true,
	}
}

// asProxmoxKeepsIt is the configuration of a guest made from a Desired, in the forms that
// Proxmox rewrites values to: keys in another order, type=veth added, a newline at the end of
// the description.
func asProxmoxKeepsIt(d *Desired) map[string]string {
	c := map[string]string{
		"hostname": d.Hostname, "memory": strconv.Itoa(d.MemoryMiB), "swap": strconv.Itoa(d.SwapMiB), "cores": strconv.Itoa(d.Cores),
		"description": d.Mark.Describe("") + "\n", "tags": proxmox.JoinTags(ownership.Tags(nil, d.Mark.UID)),
		"rootfs": "local-lvm:vm-20000-disk-0,size=" + strconv.Itoa(d.DiskGiB) + "G", "unprivileged": "1", "arch": "amd64", "ostype": "debian",
		"nameserver": d.Nameserver, "startup": d.Startup, "onboot": "1",
		"net0": "name=eth0,bridge=vmbr1,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth",
	}
	return c
}

func observedAs(c map[string]string, running bool) Observed {
	cfg := proxmox.NewLXCConfig(c)
	m := ownership.FromDescription(cfg.Description())
	return Observed{Present: true, Node: "pve", Running: running, Config: cfg, Mark: m, Relation: ownership.Relate(m, testMark)}
}

// absent is a guest that is not there, after a look for the template.
func absent(t TemplateSeen) Observed {
	t.Want = testDesired().Template
	return Observed{Node: "pve", Template: t}
}

func actions(steps []Step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Action)
	}
	return strings.Join(names, " ")
}

func TestPlan(t *testing.T) {
	change := func(key, value string) Observed {
		c := asProxmoxKeepsIt(testDesired())
		c[key] = value
		return observedAs(c, true)
	}
	foreign := func(m ownership.Mark) Observed { return change("description", m.Describe("")) }
	with := func(f func(*Desired)) *Desired { d := testDesired(); f(d); return d }
	for name, tc := range map[string]struct {
		desired *Desired
		o       Observed
		steps   string
		blocked string
	}{
		"never looked at":       {testDesired(), Observed{}, "DownloadTemplate Create Start", ""},
		"absent":                {testDesired(), absent(TemplateSeen{Volid: "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"}), "Create Start", ""},
		"absent, to be stopped": {with(func(d *Desired) { d.Running = false }), absent(TemplateSeen{Volid: "local:vztmpl/x"}), "Create", ""},
		"template to fetch":     {testDesired(), absent(TemplateSeen{Fetch: "debian-12-standard_12.7-1_amd64.tar.zst", Storage: "local"}), "DownloadTemplate Create Start", ""},
		"no template":           {testDesired(), absent(TemplateSeen{Blocked: &Blocked{Reason: "TemplateMissing"}}), "", "TemplateMissing"},
		"another template seen": {with(func(d *Desired) { d.Template = "other" }), absent(TemplateSeen{Volid: "local:vztmpl/x"}), "DownloadTemplate Create Start", ""},
		"as desired":            {testDesired(), observedAs(asProxmoxKeepsIt(testDesired()), true), "", ""},
		"stopped":               {testDesired(), observedAs(asProxmoxKeepsIt(testDesired()), false), "Start", ""},
		"runs, to be stopped":   {with(func(d *Desired) { d.Running = false }), observedAs(asProxmoxKeepsIt(testDesired()), true), "Shutdown", ""},
		"memory changed":        {testDesired(), change("memory", "2048"), "Update", ""},
		"tags of a user":        {testDesired(), change("tags", "prx-aaaabbbbccccdddd;proximity;web"), "", ""},
		"our tag removed":       {testDesired(), change("tags", "web"), "Update", ""},
		"user's description":    {testDesired(), change("description", testMark.Describe("call Bob before touching")), "", ""},
		"firewall on the NIC":   {testDesired(), change("net0", "name=eth0,bridge=vmbr1,firewall=1,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"), "", ""},
		"other bridge":          {testDesired(), change("net0", "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"), "Update", ""},
		"NIC removed":           {testDesired(), change("net0", ""), "Update", ""},
		"disk to grow":          {with(func(d *Desired) { d.DiskGiB = 10 }), observedAs(asProxmoxKeepsIt(testDesired()), true), "GrowDisk", ""},
		"disk to shrink":        {with(func(d *Desired) { d.DiskGiB = 2 }), observedAs(asProxmoxKeepsIt(testDesired()), true), "", "DiskCannotShrink"},
		"a login as console":    {with(func(d *Desired) { d.ShellConsole = true }), observedAs(asProxmoxKeepsIt(testDesired()), true), "Update", ""},
		"a shell as console":    {with(func(d *Desired) { d.ShellConsole = true }), change("cmode", "shell"), "", ""},
		"somebody's cmode":      {testDesired(), change("cmode", "console"), "", ""},
		"foreign guest":         {testDesired(), change("description", "somebody's"), "", "VMIDTaken"},
		"other installation":    {testDesired(), foreign(ownership.Mark{Installation: "ffffffffffffffff", Kind: "App", Name: "web", UID: testMark.UID, VMID: 20000}), "", "VMIDTaken"},
		"other object":          {testDesired(), foreign(ownership.Mark{Installation: testMark.Installation, Kind: "App", Name: "web", UID: "other", VMID: 20000}), "", "VMIDTaken"},
		"clone":                 {testDesired(), foreign(ownership.Mark{Installation: testMark.Installation, Kind: "App", Name: "web", UID: testMark.UID, VMID: 20001}), "", "VMIDIsCopy"},
		"uid elsewhere":         {testDesired(), Observed{Elsewhere: 20007}, "", "UIDElsewhere"},
		"delete running":        {nil, observedAs(asProxmoxKeepsIt(testDesired()), true), "Shutdown Destroy", ""},
		"delete stopped":        {nil, observedAs(asProxmoxKeepsIt(testDesired()), false), "Destroy", ""},
		"delete absent":         {nil, Observed{}, "", ""},
		"delete foreign":        {nil, change("description", ""), "", ""},
		"delete clone":          {nil, foreign(ownership.Mark{Installation: testMark.Installation, Kind: "App", Name: "web", UID: testMark.UID, VMID: 20001}), "", ""},
		"delete protected":      {nil, change("protection", "1"), "", "Protected"},
	} {
		t.Run(name, func(t *testing.T) {
			steps, blocked := Plan(tc.desired, testMark, tc.o)
			if got := actions(steps); got != tc.steps {
				t.Errorf("steps %q, want %q (%+v)", got, tc.steps, steps)
			}
			reason := ""
			if blocked != nil {
				reason = blocked.Reason
			}
			if reason != tc.blocked {
				t.Errorf("blocked by %q, want %q", reason, tc.blocked)
			}
		})
	}
}

// A guest that is entered through its console has a shell there from the start.
// TestMoveToAnotherNetwork: a guest that moves is stopped before its NIC is connected elsewhere,
// from wherever a crash left it; one that does not move is changed as it runs.
func TestMoveToAnotherNetwork(t *testing.T) {
	made := asProxmoxKeepsIt(testDesired())
	moved := testDesired()
	moved.Moving, moved.NodeResolver, moved.Nameserver = true, true, ""
	moved.NICs = map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", HWAddr: "BC:24:11:00:00:01", IP: "dhcp", Firewall: true}}
	for _, running := range []bool{true, false} {
		steps, _ := Plan(moved, testMark, observedAs(made, running))
		want := map[bool]string{true: "Shutdown Update Start", false: "Update Start"}[running]
		if actions(steps) != want {
			t.Errorf("running=%v: %s, want %s", running, actions(steps), want)
		}
		if update := steps[len(steps)-2].Change; !strings.Contains(update.Set["net0"], "bridge=vmbr0") || !strings.Contains(update.Set["net0"], "firewall=1") ||
			strings.Join(update.Delete, " ") != "nameserver" {
			t.Errorf("update %+v", update)
		}
	}
	there := asProxmoxKeepsIt(testDesired())
	there["net0"] = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,firewall=1,type=veth"
	delete(there, "nameserver")
	if steps, _ := Plan(moved, testMark, observedAs(there, true)); len(steps) != 0 {
		t.Errorf("it has arrived, and then: %s", actions(steps))
	}
	back := testDesired()
	back.Moving = true
	steps, _ := Plan(back, testMark, observedAs(there, true))
	if actions(steps) != "Shutdown Update Start" || strings.Contains(steps[1].Change.Set["net0"], "firewall") || steps[1].Change.Set["nameserver"] != "10.20.0.1" {
		t.Errorf("back: %s, %+v", actions(steps), steps[1].Change)
	}
	back.Moving = false // somebody's hand, not a move
	if steps, _ := Plan(back, testMark, observedAs(there, true)); actions(steps) != "Update" || !strings.Contains(steps[0].Change.Set["net0"], "firewall=1") {
		t.Errorf("by hand: %s", actions(steps))
	}
}

func TestShellConsoleFromTheStart(t *testing.T) {
	d := testDesired()
	if got := createRequest(d, "local:vztmpl/x").Extra; len(got) != 0 {
		t.Errorf("%v", got)
	}
	d.ShellConsole = true
	if got := createRequest(d, "local:vztmpl/x").Extra["cmode"]; got != "shell" {
		t.Errorf("cmode %q", got)
	}
}

// TestPlanConverges carries plans out on a model: from any configuration of ours a few
// steps lead to a plan that is empty, and no step but the deletion's loses data.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := testDesired()
		d.MemoryMiB = rapid.IntRange(16, 4096).Draw(t, "memory")
		d.DiskGiB = rapid.IntRange(4, 64).Draw(t, "disk")
		d.Running = rapid.Bool().Draw(t, "running")
		c := asProxmoxKeepsIt(testDesired())
		for _, key := range []string{"hostname", "memory", "cores", "startup", "nameserver"} {
			if rapid.Bool().Draw(t, "drop "+key) {
				delete(c, key)
			}
		}
		c["onboot"] = rapid.SampledFrom([]string{"0", "1", ""}).Draw(t, "onboot")
		c["tags"] = rapid.SampledFrom([]string{"", "a;b", "proximity", "prx-0000000000000000"}).Draw(t, "tags")
		running := rapid.Bool().Draw(t, "runs")
		for range 6 {
			steps, blocked := Plan(d, testMark, observedAs(c, running))
			if blocked != nil {
				t.Fatalf("blocked: %+v", blocked)
			}
			if len(steps) == 0 {
				return
			}
			s := steps[0]
			if s.Effect == runtime.DataLoss || s.Effect == runtime.Recreate {
				t.Fatalf("step %s loses data", s.Action)
			}
			switch s.Action {
			case ActionUpdate:
				for k, v := range s.Change.Set {
					c[k] = v
				}
			case ActionGrowDisk:
				c["rootfs"] = "local-lvm:vm-20000-disk-0,size=" + s.Size
			case ActionStart:
				running = true
			case ActionShutdown:
				running = false
			default:
				t.Fatalf("unexpected step %s", s.Action)
			}
		}
		t.Fatal("does not come to rest")
	})
}

func TestNewerTemplate(t *testing.T) {
	order := []string{
		"debian-12-standard_12.2-1_amd64.tar.zst", "debian-12-standard_12.7-1_amd64.tar.zst",
		"debian-12-standard_12.12-1_amd64.tar.zst", "debian-13-standard_13.1-2_amd64.tar.zst",
	}
	for i, a := range order {
		for j, b := range order {
			if got := newer(a, b); got != (i > j) {
				t.Errorf("newer(%s, %s) is %v", a, b, got)
			}
		}
	}
}

func TestSize(t *testing.T) {
	def := Sizes{Cores: 2, MemoryMiB: 512, DiskGiB: 8}
	got, err := Size(&v1alpha1.Resources{Memory: proto.String("1Gi"), Disk: proto.String("1536Mi"), Swap: proto.String("0")}, def)
	if want := (Sizes{Cores: 2, MemoryMiB: 1024, DiskGiB: 2}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := Size(&v1alpha1.Resources{Memory: proto.String("lots")}, def); err == nil || !strings.Contains(err.Error(), "spec.resources.memory") {
		t.Errorf("got %v", err)
	}
}
