package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// shortMemory remembers what was made, as package bulk does.
type shortMemory struct {
	touched bool
	made    any
	seen    any
	accept  func(proxmox.LXCConfig) (any, bool)
}

func (m *shortMemory) Saw(_ time.Time, _, _ string, _ proxmox.LXCStatus, seen any) {
	m.seen, m.made = seen, nil
}
func (m *shortMemory) Recall() (any, bool) { return m.seen, m.seen != nil }
func (m *shortMemory) SawAsMade(_ time.Time, _ string, _ proxmox.LXCStatus, seen any, accept func(proxmox.LXCConfig) (any, bool)) {
	m.seen, m.accept = seen, accept
}
func (m *shortMemory) Untouched() bool     { return !m.touched }
func (m *shortMemory) Made(with any)       { m.made = with }
func (m *shortMemory) AsMade() (any, bool) { return m.made, m.made != nil }

// busyNode is a node with another guest of ours, on which one is made. It notes what is asked.
type busyNode struct {
	bareNode
	memory *shortMemory
	asked  []string
	others string // tags of the other guest
	hidden bool   // the guest is there and lists lack it
	row    func(*proxmox.LXCStatus)
	config map[string]string
}

func (n *busyNode) ClusterResources(context.Context, proxmox.ResourceKind) ([]proxmox.Resource, error) {
	rows := []proxmox.Resource{{Type: "lxc", Node: "pve", VMID: 9999, Tags: n.others}}
	if n.created && !n.hidden {
		rows = append(rows, proxmox.Resource{Type: "lxc", Node: "pve", VMID: 20000, Tags: n.config["tags"]})
	}
	return rows, nil
}

func (n *busyNode) LXCConfig(ctx context.Context, node string, vmid int) (proxmox.LXCConfig, error) {
	n.asked = append(n.asked, "config")
	if !n.created {
		return n.bareNode.LXCConfig(ctx, node, vmid)
	}
	return proxmox.NewLXCConfig(n.config), nil
}

func (n *busyNode) LXCStatus(context.Context, string, int) (proxmox.LXCStatus, error) {
	n.asked = append(n.asked, "status")
	s := proxmox.LXCStatus{
		Status: map[bool]string{true: "running", false: "stopped"}[n.running], Name: "web", Tags: n.config["tags"],
		CPUs: 1, MaxMem: 512 << 20, MaxSwap: 0,
	}
	if n.row != nil {
		n.row(&s)
	}
	return s, nil
}

func (n *busyNode) StorageContent(context.Context, string, string, string) ([]proxmox.Volid, error) {
	return []proxmox.Volid{{Volid: "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst"}}, nil
}

func (n *busyNode) CreateLXC(ctx context.Context, node string, c proxmox.LXCCreate) (proxmox.UPID, error) {
	n.memory.touched = true
	if n.created {
		n.calls = append(n.calls, "refused")
		return proxmox.UPID{}, &proxmox.APIError{HTTP: 500, Reason: "CT 20000 already exists on node 'pve'"}
	}
	return n.bareNode.CreateLXC(ctx, node, c)
}

func (n *busyNode) UpdateLXC(_ context.Context, _ string, _ int, u proxmox.LXCUpdate) error {
	n.calls = append(n.calls, "update")
	maps.Copy(n.config, u.Set)
	return nil
}

func newBusyNode() (*busyNode, *Driver) {
	n := &busyNode{memory: &shortMemory{}, others: "proximity", config: asProxmoxKeepsIt(testDesired())}
	journal := &diary{}
	return n, &Driver{
		API: n, Journal: journal, Report: journal, Log: slog.New(slog.DiscardHandler), Memory: n.memory,
		Place: func(context.Context) (string, error) { return "pve", nil },
	}
}

func (n *busyNode) converge(t *testing.T, d *Driver, last string) (Observed, error) {
	t.Helper()
	desired := testDesired()
	o, _, err := d.Converge(t.Context(), desired, testMark, last, func(o Observed) ([]Step, *Blocked) { return Plan(desired, testMark, o) })
	return o, err
}

// A guest that is made for the first time is not asked for before, nor is its configuration read
// after; it is looked at in a list after each task.
func TestFirstCreationAsksForNothing(t *testing.T) {
	n, d := newBusyNode()
	o, err := n.converge(t, d, "")
	if err != nil || !o.Running || !o.AsMade || o.Relation != ownership.Ours {
		t.Fatalf("%+v, %v", o, err)
	}
	if calls, asked := strings.Join(n.calls, " "), strings.Join(n.asked, " "); calls != "vzcreate vzstart" || asked != "status status" {
		t.Errorf("calls %s, asked %s", calls, asked)
	}
	if seen, ok := n.memory.accept(configOf(t, n.config)); !ok || !seen.(Observed).AsMade || seen.(Observed).Config.Digest == "" {
		t.Errorf("its configuration is not what is expected: %+v", seen)
	}
}

// Where something speaks against it, everything is looked at before anything is done.
func TestNothingIsTakenForGranted(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(n *busyNode, d *Driver)
		last    string
		calls   string
		asked   string // up to the first that is done
	}{
		"it was seen before":    {func(*busyNode, *Driver) {}, "pve", "vzcreate vzstart", "config config"},
		"the list shows none":   {func(n *busyNode, _ *Driver) { n.others = "" }, "", "vzcreate vzstart", "config"},
		"something was tried":   {func(n *busyNode, _ *Driver) { n.memory.touched = true }, "", "vzcreate vzstart", "config"},
		"nothing is remembered": {func(_ *busyNode, d *Driver) { d.Memory = nil }, "", "vzcreate vzstart", "config"},
		"another name":          {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.Name = "x" } }, "", "vzcreate vzstart", "status config"},
		"another tag":           {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.Tags += ";x" } }, "", "vzcreate vzstart", "status config"},
		"no mark in its tags":   {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.Tags = "" } }, "", "vzcreate vzstart", "status config"},
		"a template":            {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.Template = true } }, "", "vzcreate vzstart", "status config"},
		"more memory":           {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.MaxMem++; s.MaxMem *= 2 } }, "", "vzcreate vzstart", "status config"},
		"swap":                  {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.MaxSwap = 1 << 30 } }, "", "vzcreate vzstart", "status config"},
		"more cores":            {func(n *busyNode, _ *Driver) { n.row = func(s *proxmox.LXCStatus) { s.CPUs = 2 } }, "", "vzcreate vzstart", "status config"},
		"it is there, unlisted": {func(n *busyNode, _ *Driver) { n.created, n.hidden = true, true }, "", "refused", ""},
		"less memory, and so it is": {func(n *busyNode, _ *Driver) {
			n.config["memory"], n.row = "256", func(s *proxmox.LXCStatus) { s.MaxMem = 256 << 20 }
		}, "", "vzcreate update vzstart", "status config"},
	} {
		t.Run(name, func(t *testing.T) {
			n, d := newBusyNode()
			tc.prepare(n, d)
			_, err := n.converge(t, d, tc.last)
			if asked := strings.Join(n.asked, " "); !strings.HasPrefix(asked, tc.asked) {
				t.Errorf("asked %s", asked)
			}
			if calls := strings.Join(n.calls, " "); calls != tc.calls {
				t.Errorf("calls: %s, %v", calls, err)
			}
		})
	}
}

// A guest that is there though the list lacks it is refused by Proxmox, and then found: whose it
// is decides.
func TestRefusedCreationIsLookedInto(t *testing.T) {
	for name, description := range map[string]string{"ours": testMark.Describe(""), "somebody's": "somebody's"} {
		n, d := newBusyNode()
		n.created, n.hidden, n.config["description"] = true, true, description
		var waiting *runtime.WaitingError
		if _, err := n.converge(t, d, ""); !errors.As(err, &waiting) {
			t.Errorf("%s: %v", name, err)
		}
		o, err := n.converge(t, d, "")
		if ours := name == "ours"; ours && (err != nil || !o.Running || o.AsMade) || !ours && (err == nil || len(n.calls) > 1) {
			t.Errorf("%s: %+v, %v, calls %v", name, o, err, n.calls)
		}
	}
}

// What the spec asks for meanwhile is done after a look at the guest itself.
func TestOnlyAStartIsDecidedUnseen(t *testing.T) {
	n, d := newBusyNode()
	if _, err := n.converge(t, d, ""); err != nil {
		t.Fatal(err)
	}
	n.asked, n.calls = nil, nil
	desired := testDesired()
	desired.MemoryMiB = 1024
	o, _, err := d.Converge(t.Context(), desired, testMark, "pve", func(o Observed) ([]Step, *Blocked) { return Plan(desired, testMark, o) })
	if err != nil || o.AsMade || strings.Join(n.calls, " ") != "update" || !strings.Contains(strings.Join(n.asked, " "), "config") {
		t.Errorf("%+v, %v; calls %v, asked %v", o, err, n.calls, n.asked)
	}
	// A deletion does not rely on it either.
	n, d = newBusyNode()
	if _, err := n.converge(t, d, ""); err != nil {
		t.Fatal(err)
	}
	n.config["description"], n.calls = "somebody's", nil
	if _, _, err := d.Converge(t.Context(), nil, testMark, "pve", func(o Observed) ([]Step, *Blocked) { return Plan(nil, testMark, o) }); err != nil || len(n.calls) > 0 {
		t.Errorf("%v, calls %v", err, n.calls)
	}
}

func configOf(t *testing.T, values map[string]string) (c proxmox.LXCConfig) {
	t.Helper()
	values = maps.Clone(values)
	if values["digest"] == "" {
		values["digest"] = "d1"
	}
	text, err := json.Marshal(values)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The first configuration that is read is accepted only when it is exactly what was asked for.
func TestWhatAGuestWasMadeWith(t *testing.T) {
	d := testDesired()
	d.Nesting, d.ShellConsole = true, true
	m, good := newMade(d), asProxmoxKeepsIt(d)
	good["features"], good["cmode"] = "nesting=1", "shell"
	if !m.is(configOf(t, good)) {
		t.Fatalf("not accepted: %v, made with %v", good, m.values)
	}
	for key, value := range map[string]string{
		"hostname": "x", "memory": "1024", "swap": "5", "cores": "2", "description": "x", "tags": "proximity", "nameserver": "1.1.1.1", "startup": "",
		"onboot": "0", "unprivileged": "0", "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth", "net1": "name=eth1,bridge=vmbr1",
		"features": "nesting=1,keyctl=1", "cmode": "tty", "lock": "backup", "protection": "1", "mp0": "local-lvm:vm-1-disk-1,mp=/x", "hookscript": "local:snippets/x",
		"rootfs": "local-lvm:vm-20000-disk-0,size=5G",
	} {
		bad := maps.Clone(good)
		bad[key] = value
		if m.is(configOf(t, bad)) {
			t.Errorf("accepted with %s %q", key, value)
		}
		if _, there := good[key]; !there || key == "arch" {
			continue
		}
		delete(bad, key)
		if m.is(configOf(t, bad)) {
			t.Errorf("accepted without %s", key)
		}
	}
	other := configOf(t, good)
	other.Raw = [][2]string{{"lxc.apparmor.profile", "unconfined"}}
	if m.is(other) {
		t.Error("accepted with a line of lxc")
	}
	if m.is(proxmox.NewLXCConfig(good)) {
		t.Error("accepted without a digest")
	}
}
