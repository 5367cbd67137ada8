package doctor_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/doctor"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

const (
	templateFile = "debian-12-standard_12.12-1_amd64.tar.zst"
	user         = "proximity@pve"
)

// patient is a simulated node with a connection to it, both as they should be until a test
// spoils one.
type patient struct {
	*testing.T
	node     *pvesim.Node
	settings cluster.Settings
	want     doctor.Want
	admin    *proxmox.Client
}

// newPatient starts a node; config changes what it is.
func newPatient(t *testing.T, config func(*pvesim.Config)) *patient {
	t.Helper()
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	p := &patient{T: t}
	p.must(os.Mkdir(templates, 0o700))
	p.must(os.WriteFile(filepath.Join(templates, templateFile), nil, 0o600))
	newEngine := func() *mem.Engine {
		e, err := mem.New(mem.Config{TemplateDir: templates})
		p.must(err)
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	cfg := pvesim.Config{Dir: filepath.Join(dir, "node"), Engine: newEngine(), TemplateDir: templates}
	if config != nil {
		config(&cfg)
		for i := range cfg.Peers {
			cfg.Peers[i].Engine = newEngine()
		}
	}
	var err error
	p.node, err = pvesim.New(cfg)
	p.must(err)
	p.must(p.node.Boot(t.Context()))
	api, shell := listen(t), listen(t)
	served := make(chan struct{}, 2)
	for _, serve := range []func() error{func() error { return p.node.ServeAPI(api) }, func() error { return p.node.ServeSSH(shell) }} {
		go func() { _ = serve(); served <- struct{}{} }()
	}
	t.Cleanup(func() {
		_ = p.node.Close()
		<-served
		<-served
	})
	creds := p.node.Credentials()
	key, err := os.ReadFile(creds.SSHPrivateKeyPath)
	p.must(err)
	p.settings = cluster.Settings{
		Endpoints: []string{"https://" + api.Addr().String()}, Fingerprints: []string{creds.Fingerprint},
		TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
		Access: cluster.Access{
			Mode: cluster.AccessSSH, User: creds.SSHUser, PrivateKey: key, HostKeys: []string{creds.SSHHostKey},
			Addresses: map[string]string{"": shell.Addr().String()},
		},
	}
	p.want = doctor.Want{
		Node: "pve", Storage: "local-lvm", Templates: []string{"debian-12-standard"}, VMIDStart: 20000, VMIDEnd: 20099, Uplink: "vmbr0",
		Bridges: []string{"proxlan"},
	}
	p.admin, err = proxmox.New(proxmox.Config{Endpoints: p.settings.Endpoints, Fingerprints: p.settings.Fingerprints, Username: "root@pam", Password: creds.RootPassword})
	p.must(err)
	t.Cleanup(p.admin.Close)
	return p
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (p *patient) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// examine connects as the settings say now, and examines.
func (p *patient) examine() []doctor.Check {
	p.Helper()
	conn, err := cluster.Dialer{Installation: "i"}.Dial("default", p.settings)
	p.must(err)
	defer conn.Close()
	s := doctor.Subject{
		API: conn.API.(doctor.API), Endpoint: conn.Endpoint, Identity: conn.Identity, Want: p.want,
		Access: doctor.Access{Mode: conn.Mode, Host: conn.NodeHost},
	}
	if conn.Host != nil {
		s.Access.Probe = conn.ProbeNode
	}
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	return doctor.Examine(ctx, s)
}

// grant replaces what the daemon's user and token may do by these privileges on /.
func (p *patient) grant(privileges []string) {
	p.Helper()
	store := p.node.Access()
	for _, a := range store.ACLs() {
		p.must(store.SetACL(a, true))
	}
	if len(privileges) == 0 {
		return
	}
	p.must(store.SetRole("Test", privileges))
	for _, subject := range []string{user, user + "!daemon"} {
		p.must(store.SetACL(access.ACL{Path: "/", Subject: subject, Role: "Test", Propagate: true}, false))
	}
}

func find(checks []doctor.Check, name string) doctor.Check {
	i := slices.IndexFunc(checks, func(c doctor.Check) bool { return c.Name == name })
	if i < 0 {
		return doctor.Check{}
	}
	return checks[i]
}

func problems(checks []doctor.Check) []doctor.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c doctor.Check) bool { return c.Status == doctor.Pass })
}

func TestHealthy(t *testing.T) {
	p := newPatient(t, nil)
	first := p.examine()
	if bad := problems(first); len(bad) > 0 {
		t.Errorf("%+v", bad)
	}
	if doctor.Worst(first) != doctor.Pass {
		t.Error(doctor.Worst(first))
	}
	if second := p.examine(); !slices.EqualFunc(first, second, func(a, b doctor.Check) bool {
		return a.Name == b.Name && a.Status == b.Status && a.Message == b.Message && slices.Equal(a.Fix, b.Fix)
	}) {
		t.Errorf("two examinations of the same differ:\n%+v\n%+v", first, second)
	}
}

// TestBrokenSetUps: each mistake is named by its own check with the command that puts it
// right, and by no other check that has nothing to do with it.
func TestBrokenSetUps(t *testing.T) {
	otherHostKey := func(p *patient) {
		other := newPatient(p.T, nil)
		p.settings.Access.HostKeys = []string{other.node.Credentials().SSHHostKey}
	}
	for _, tt := range []struct {
		name   string
		config func(*pvesim.Config)
		spoil  func(*patient)
		check  string
		status doctor.Status
		says   string
		fix    string
		// also are checks that suffer from the same mistake.
		also []string
	}{
		{name: "wrong fingerprint", spoil: func(p *patient) { p.settings.Fingerprints = []string{strings.Repeat("AB:", 31) + "AB"} },
			check: doctor.CheckAPI, status: doctor.Fail, says: "not the expected one", fix: "pvenode cert info", also: []string{"*"}},
		{name: "expired token", spoil: func(p *patient) {
			creds := p.node.Credentials()
			p.must(p.node.Access().SetToken(user, "daemon", creds.TokenSecret, access.Token{PrivSep: true, Expire: 1}))
		}, check: doctor.CheckAPI, status: doctor.Fail, says: "the token has expired", fix: "pveum user token modify proximity@pve daemon --expire 0", also: []string{"*"}},
		{name: "wrong secret", spoil: func(p *patient) { p.settings.TokenSecret = "12345678-1234-1234-1234-123456789abc" },
			check: doctor.CheckAPI, status: doctor.Fail, says: "the secret is not the token's", fix: "pveum user token add proximity@pve daemon", also: []string{"*"}},
		{name: "unreachable", spoil: func(p *patient) { p.settings.Endpoints = []string{"https://127.0.0.1:1"} },
			check: doctor.CheckAPI, status: doctor.Fail, says: "cannot be reached", fix: "systemctl status pveproxy", also: []string{"*"}},
		{name: "no quorum", config: func(c *pvesim.Config) { c.Peers = []pvesim.Peer{{NodeName: "pve2"}, {NodeName: "pve3"}} },
			spoil: func(p *patient) {
				for _, n := range p.node.Nodes()[1:] {
					n.SetOnline(false)
				}
			}, check: doctor.CheckQuorum, status: doctor.Fail, says: "no quorum", fix: "pvecm status", also: []string{doctor.CheckNodes}},
		{name: "missing content type", config: func(c *pvesim.Config) {
			c.Storages = []pvesim.Storage{{ID: "local", Type: "dir", Content: []string{"iso", "backup"}, Bytes: 1 << 40}, {ID: "local-lvm", Type: "lvmthin", Content: []string{"rootdir", "images"}, Bytes: 1 << 40}}
		}, check: doctor.CheckTemplates, status: doctor.Fail, says: "vztmpl is missing", fix: "pvesm set local --content backup,iso,vztmpl"},
		{name: "storage without guests", config: func(c *pvesim.Config) {
			c.Storages = []pvesim.Storage{{ID: "local", Type: "dir", Content: []string{"iso", "vztmpl", "backup"}, Bytes: 1 << 40}, {ID: "local-lvm", Type: "lvmthin", Content: []string{"images"}, Bytes: 1 << 40}}
		}, check: doctor.CheckGuestStorage, status: doctor.Fail, says: "rootdir is missing", fix: "pvesm set local-lvm --content images,rootdir"},
		{name: "no such storage", spoil: func(p *patient) { p.want.Storage = "tank" },
			check: doctor.CheckGuestStorage, status: doctor.Fail, says: "no storage tank", fix: "pvesm status"},
		{name: "no template", spoil: func(p *patient) { p.want.Templates = []string{"gentoo-99"} },
			check: doctor.CheckTemplates, status: doctor.Fail, says: "gentoo-99 is neither on node pve nor in its index", fix: "pveam download local"},
		{name: "VMID range taken", spoil: func(p *patient) {
			p.want.VMIDStart, p.want.VMIDEnd = 200, 200
			upid, err := p.admin.CreateLXC(p.Context(), "pve", proxmox.LXCCreate{
				VMID: 200, Template: "local:vztmpl/" + templateFile, Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1),
			})
			p.must(err)
			_, err = p.admin.WaitTask(p.Context(), "pve", upid)
			p.must(err)
		}, check: doctor.CheckVMIDRange, status: doctor.Fail, says: "all VMIDs from 200 to 200 are taken", fix: "vmidStart: 1000 and vmidEnd: 1000"},
		{name: "token without ACL", spoil: func(p *patient) { p.grant(nil) },
			check: doctor.CheckPrivileges, status: doctor.Fail, says: "may do nothing at all: with privilege separation",
			fix: "pveum acl modify / --tokens 'proximity@pve!daemon' --roles Proximity", also: []string{"*"}},
		{name: "nesting", spoil: func(p *patient) {
			p.grant(slices.DeleteFunc(doctor.RolePrivileges(doctor.Want{Downloads: true}, "console"), func(s string) bool { return s == "VM.Allocate" }))
		}, check: doctor.CheckPrivileges, status: doctor.Fail, says: "VM.Allocate on /vms (cannot create or destroy guests, or let them nest",
			fix: `pveum role modify Proximity --append 1 --privs "VM.Allocate"`},
		{name: "ssh does not listen", spoil: func(p *patient) { p.settings.Access.Addresses = map[string]string{"": "127.0.0.1:1"} },
			check: doctor.CheckGuestAccess, status: doctor.Fail, says: "cannot be reached by ssh at 127.0.0.1", fix: "systemctl enable --now ssh"},
		{name: "changed host key", spoil: otherHostKey,
			check: doctor.CheckGuestAccess, status: doctor.Fail, says: "another ssh host key", fix: "ssh-keygen -lf"},
		{name: "clock skew", config: func(c *pvesim.Config) { c.ClockOffset = -10 * time.Minute },
			check: doctor.CheckClock, status: doctor.Fail, says: "behind this machine's", fix: "timedatectl set-ntp true"},
		{name: "foreign pending changes", spoil: func(p *patient) {
			p.must(p.admin.CreateNetwork(p.Context(), "pve", proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge", Autostart: true}))
		}, check: doctor.CheckNetworkStaged, status: doctor.Fail, says: "+auto vmbr7", fix: "pvesh set /nodes/pve/network"},
		{name: "foreign pending SDN changes", spoil: func(p *patient) {
			p.want.Networks = []string{"lan"}
			p.must(p.admin.CreateSDNZone(p.Context(), proxmox.SDNZone{Zone: "theirs", Type: "simple"}))
			p.must(p.admin.CreateSDNZone(p.Context(), proxmox.SDNZone{Zone: "lan", Type: "simple"}))
		}, check: doctor.CheckSDN, status: doctor.Fail, says: "Bridges wait for that: zone theirs (new)", fix: "pvesh set /cluster/sdn"},
		{name: "no SDN", config: func(c *pvesim.Config) { c.Version = "7.4" }, spoil: func(p *patient) {
			p.want.Networks = []string{"lan"}
			p.node.Faults().Add(pvesim.Fault{Path: "/cluster/sdn", Status: 501, Text: "Method 'GET /cluster/sdn/zones' not implemented"}) // without libpve-network-perl
		},
			check: doctor.CheckSDN, status: doctor.Fail, says: "has no software-defined network", fix: "libpve-network-perl", also: []string{doctor.CheckVersion, doctor.CheckPrivileges}},
		{name: "no uplink", spoil: func(p *patient) { p.want.Uplink = "vmbr3" },
			check: doctor.CheckUplink, status: doctor.Fail, says: "no bridge vmbr3", fix: "pvesh get /nodes/pve/network"},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, tt.config)
			if tt.spoil != nil {
				tt.spoil(p)
			}
			checks := p.examine()
			got := find(checks, tt.check)
			if got.Status != tt.status || !strings.Contains(got.Message, tt.says) || !strings.Contains(strings.Join(got.Fix, "\n"), tt.fix) {
				t.Errorf("got %+v, want %s with %q and the fix %q", got, tt.status, tt.says, tt.fix)
			}
			for _, c := range problems(checks) {
				if c.Name != tt.check && !slices.Contains(tt.also, c.Name) && !slices.Contains(tt.also, "*") {
					t.Errorf("also %+v", c)
				}
				if c.Name != tt.check && slices.Contains(tt.also, "*") && tt.check == doctor.CheckAPI && c.Status != doctor.Skip {
					t.Errorf("without an API %+v", c)
				}
			}
		})
	}
}

// TestEveryPrivilegeIsNamed: with one privilege of the role missing, the check says which, and
// nothing else is called missing.
func TestEveryPrivilegeIsNamed(t *testing.T) {
	p := newPatient(t, nil)
	p.want.Downloads, p.want.Networks = true, []string{"lan"}
	p.grant(doctor.RolePrivileges(p.want, "console"))
	if c := find(p.examine(), doctor.CheckPrivileges); c.Status != doctor.Pass {
		t.Fatalf("with the whole role: %+v", c)
	}
	for _, missing := range doctor.Role {
		if missing.Name == "VM.Console" {
			continue // not needed with ssh
		}
		p.grant(slices.DeleteFunc(doctor.RolePrivileges(p.want, "console"), func(s string) bool { return s == missing.Name }))
		c := find(p.examine(), doctor.CheckPrivileges)
		if c.Status != doctor.Fail || !strings.Contains(c.Message, missing.Name+" on ") || !strings.Contains(c.Message, missing.For) {
			t.Errorf("without %s: %+v", missing.Name, c)
		}
		for _, other := range doctor.Role {
			if other.Name != missing.Name && strings.Contains(c.Message, other.Name+" on ") {
				t.Errorf("without %s also %s: %s", missing.Name, other.Name, c.Message)
			}
		}
	}
}

// TestDeadline: what was not reached in time is said to be so.
func TestDeadline(t *testing.T) {
	p := newPatient(t, nil)
	conn, err := cluster.Dialer{}.Dial("default", p.settings)
	p.must(err)
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range doctor.Examine(ctx, doctor.Subject{API: conn.API.(doctor.API)}) {
		if c.Status != doctor.Skip {
			t.Errorf("%+v", c)
		}
	}
}
