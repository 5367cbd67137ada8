package controllers_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// What administrators of Proxmox do in a soup, past the daemon and at any moment.

// soupGuest is a guest as Proxmox has it.
type soupGuest struct {
	vmid    int
	node    string
	running bool
	mark    *ownership.Mark
	config  proxmox.LXCConfig
}

// guests are all that there are, on all nodes.
func (s *soup) guests() []soupGuest {
	s.Helper()
	rows, err := s.admin.ClusterResources(s.Context(), proxmox.GuestResources)
	s.must(err)
	var all []soupGuest
	for _, r := range rows {
		cfg, err := s.admin.LXCConfig(s.Context(), r.Node, int(r.VMID))
		if proxmox.IsNotExist(err) {
			continue
		}
		if err != nil { // its node is away
			all = append(all, soupGuest{vmid: int(r.VMID), node: r.Node})
			continue
		}
		all = append(all, soupGuest{
			vmid: int(r.VMID), node: r.Node, running: r.Status == proxmox.StatusRunning, config: cfg, mark: ownership.FromDescription(cfg.Description()),
		})
	}
	return all
}

// ours are the guests that carry a mark of ours and are no copies.
func (s *soup) ours() []soupGuest {
	return slices.DeleteFunc(s.guests(), func(g soupGuest) bool {
		return g.mark == nil || g.mark.VMID != g.vmid || g.mark.Installation != installation || s.foreign[g.vmid] != nil
	})
}

// keepOff notes that nothing of ours may touch a guest from now on.
func (s *soup) keepOff(vmid int) {
	s.Helper()
	node, config, running := s.lookAt(vmid)
	if node == "" {
		return
	}
	calls, reboots := len(s.ledger.all()), s.did["nodes rebooted"]
	s.foreign[vmid] = func() {
		s.Helper()
		at, now, runs := s.lookAt(vmid)
		if s.did["nodes rebooted"] > reboots {
			runs = running // it may start with its node
		}
		if now != config || runs != running || at != node {
			s.Errorf("guest %d, which is not ours, was touched (on %s, running %v):\n%s", vmid, at, runs, diffLines(now, config))
		}
		all := s.ledger.all()
		for _, c := range all[min(calls, len(all)):] {
			if strings.Contains(c.what, fmt.Sprintf("/lxc/%d", vmid)) || strings.Contains(c.what, fmt.Sprintf("guest %d:", vmid)) {
				s.Errorf("guest %d, which is not ours: %s", vmid, c.what)
			}
		}
	}
}

// lookAt is a guest's configuration as one text, and the node that it is on, "" for none.
func (s *soup) lookAt(vmid int) (node, config string, running bool) {
	s.Helper()
	for _, g := range s.guests() {
		if g.vmid == vmid {
			return g.node, fmt.Sprint(g.config.Raw, g.config.Description(), g.config.Tags(), g.config.Hostname(), g.config.Value("memory"), g.config.Value("net0"), g.config.Value("rootfs")), g.running
		}
	}
	return "", "", false
}

func (s *soup) adminSteps() []weighted {
	return []weighted{
		{3, s.stopGuest}, {3, s.destroyGuest}, {4, s.editGuest}, {1, s.takeMarkOff}, {2, s.copyGuest}, {1, s.restoreGuest}, {1, s.otherInstallation},
		{1, s.protectGuest}, {2, s.cutBridge}, {1, s.stageChanges}, {3, s.migrateGuest}, {2, s.harmAppliance}, {2, s.rebootNode}, {2, s.takeNodeAway},
		{2, s.takeRightsAway}, {1, s.loseQuorum},
	}
}

// done waits a while for what an administrator asked for, who may be refused.
func (s *soup) waited(node string, upid proxmox.UPID, err error) bool {
	if err == nil {
		_, err = s.admin.WaitTask(s.Context(), node, upid)
	}
	if err != nil {
		s.note("", "the administrator failed: %v", err)
	}
	return err == nil
}

// victim is one of our guests on a node that is there.
func (s *soup) victim() (soupGuest, bool) {
	all := slices.DeleteFunc(s.ours(), func(g soupGuest) bool { return !s.nodeOf(g.node) })
	if len(all) == 0 {
		return soupGuest{}, false
	}
	return pick(s, all), true
}

func (s *soup) nodeOf(name string) (online bool) {
	for _, n := range s.node.Nodes() {
		if n.Name() == name {
			return n.Online()
		}
	}
	return false
}

func (s *soup) stopGuest() {
	if g, ok := s.victim(); ok {
		s.note("guests stopped", "%d", g.vmid)
		upid, err := s.admin.StopLXC(s.Context(), g.node, g.vmid)
		s.waited(g.node, upid, err)
	}
}

func (s *soup) destroyGuest() {
	if g, ok := s.victim(); ok {
		s.note("guests destroyed", "%d", g.vmid)
		upid, err := s.admin.DeleteLXC(s.Context(), g.node, g.vmid, proxmox.LXCDelete{Purge: true, Force: true})
		s.waited(g.node, upid, err)
	}
}

func (s *soup) editGuest() {
	g, ok := s.victim()
	if !ok {
		return
	}
	edit := pick(s, []map[string]string{
		{"memory": "77"}, {"tags": "x;y"}, {"tags": ""}, {"hostname": "other"}, {"onboot": "0"}, {"cores": "3"},
		{"net0": "name=eth0,bridge=vmbr0,ip=dhcp,hwaddr=BC:24:11:00:00:01"},
	})
	if edit["tags"] == "" && len(edit) == 1 && edit["memory"]+edit["hostname"]+edit["onboot"]+edit["net0"]+edit["cores"] == "" {
		edit = map[string]string{"tags": "none"}
	}
	s.note("guests edited", "%d %v", g.vmid, edit)
	if err := s.admin.UpdateLXC(s.Context(), g.node, g.vmid, proxmox.LXCUpdate{Set: edit}); err != nil {
		s.note("", "the administrator failed: %v", err)
	}
}

// takeMarkOff makes a guest of ours nobody's.
func (s *soup) takeMarkOff() {
	g, ok := s.victim()
	if !ok || g.mark.Kind != "App" {
		return
	}
	s.note("marks taken off", "%d", g.vmid)
	err := s.admin.UpdateLXC(s.Context(), g.node, g.vmid, proxmox.LXCUpdate{Set: map[string]string{"description": "mine now", "tags": "mine"}})
	if err == nil {
		s.left[g.vmid] = true
	}
}

// newVMID is one that nobody has.
func (s *soup) newVMID() int { s.next++; return 700 + s.next }

// made notes what an administrator made, which is nobody's of ours.
func (s *soup) made(vmid int, ok bool) {
	if ok {
		s.keepOff(vmid)
		s.did["copies made"]++
	} else {
		s.left[vmid] = true // there may be a part of it
	}
}

// copyGuest clones one of our guests.
func (s *soup) copyGuest() {
	g, ok := s.victim()
	if !ok {
		return
	}
	id := s.newVMID()
	s.note("", "guest %d is cloned as %d", g.vmid, id)
	ctx := s.Context()
	name := fmt.Sprintf("s%d", id)
	if up, err := s.admin.CreateSnapshot(ctx, g.node, g.vmid, name, ""); s.waited(g.node, up, err) {
		up, err := s.admin.CloneLXC(ctx, g.node, g.vmid, proxmox.LXCClone{NewID: id, Snapshot: name, Full: true})
		s.made(id, s.waited(g.node, up, err))
		up, err = s.admin.DeleteSnapshot(ctx, g.node, g.vmid, name, true)
		s.waited(g.node, up, err)
	}
}

// restoreGuest restores a backup of one of our guests beside it.
func (s *soup) restoreGuest() {
	g, ok := s.victim()
	if !ok {
		return
	}
	id := s.newVMID()
	s.note("", "a backup of guest %d is restored as %d", g.vmid, id)
	ctx := s.Context()
	if up, err := s.admin.Vzdump(ctx, g.node, proxmox.Vzdump{VMIDs: []int{g.vmid}, Storage: "local", Mode: "snapshot", Compress: "zstd"}); !s.waited(g.node, up, err) {
		return
	}
	backups, err := s.admin.Backups(ctx, g.node, "local", g.vmid)
	if err != nil || len(backups) == 0 {
		return
	}
	up, err := s.admin.RestoreLXC(ctx, g.node, proxmox.LXCRestore{VMID: id, Backup: string(backups[0].Volid), Storage: "local-lvm", Unprivileged: true})
	s.made(id, s.waited(g.node, up, err))
}

// make makes a guest by hand.
func (s *soup) make(vmid int) bool {
	up, err := s.admin.CreateLXC(s.Context(), nodeName, proxmox.LXCCreate{
		VMID: vmid, Template: "local:vztmpl/" + templates[1], Hostname: "theirs", Unprivileged: true, Description: "somebody's",
		RootFS: proxmox.NewVolume("local-lvm", 1), NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", IP: "dhcp"}},
	})
	ok := s.waited(nodeName, up, err)
	s.left[vmid] = true
	return ok
}

// otherInstallation makes a guest that another daemon on the same cluster made for an object
// of the same name.
func (s *soup) otherInstallation() {
	id := s.newVMID()
	if !s.make(id) {
		return
	}
	name := "nginx-01"
	if a := s.someApp(); a != nil {
		name = a.name
	}
	m := ownership.Mark{Installation: "installation-2", Kind: "App", Namespace: "default", Name: name, UID: "11111111-2222-3333-4444-555555555555", VMID: id}
	s.note("", "guest %d is another installation's %s", id, name)
	err := s.admin.UpdateLXC(s.Context(), nodeName, id, proxmox.LXCUpdate{Set: map[string]string{"description": m.Describe(""), "tags": strings.Join(ownership.Tags(nil, m.UID), ";")}})
	s.made(id, err == nil)
}

func (s *soup) protectGuest() {
	if g, ok := s.victim(); ok {
		s.note("guests protected", "%d", g.vmid)
		_ = s.admin.UpdateLXC(s.Context(), g.node, g.vmid, proxmox.LXCUpdate{Set: map[string]string{"protection": "1"}})
	}
}

func (s *soup) cutBridge() {
	if s.sdn {
		s.cutSDN()
		return
	}
	if at := bytes.Index([]byte(s.interfaces()), []byte("# proximity:begin")); at >= 0 {
		s.note("bridges cut", "")
		s.editInterfaces(func(was []byte) []byte {
			if at := bytes.Index(was, []byte("# proximity:begin")); at >= 0 {
				return append(bytes.TrimSpace(was[:at]), '\n')
			}
			return was
		})
		return
	}
	net, err := s.admin.ListNetwork(s.Context(), nodeName)
	s.must(err)
	if _, ok := net.Find("proxlan"); !ok || net.Changes != "" {
		return
	}
	s.note("bridges cut", "")
	if err := s.admin.DeleteNetwork(s.Context(), nodeName, "proxlan"); err == nil {
		up, err := s.admin.ReloadNetwork(s.Context(), nodeName)
		s.waited(nodeName, up, err)
	}
}

// stageChanges leaves changes of a network pending, until the trouble ends or for good.
func (s *soup) stageChanges() {
	if s.giveBack["staged"] != nil {
		return
	}
	s.note("changes staged", "")
	if s.sdn && s.rand.IntN(2) == 0 {
		s.stageZone()
		return
	}
	if err := s.admin.CreateNetwork(s.Context(), nodeName, proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge", Comments: "somebody's"}); err == nil {
		s.giveBack["staged"] = func() { s.must(s.admin.RevertNetwork(s.Context(), nodeName)) }
	}
}

func (s *soup) migrateGuest() {
	if len(s.peers) == 0 {
		return
	}
	g, ok := s.victim()
	to := pick(s, s.node.Nodes())
	if !ok || to.Name() == g.node || !to.Online() {
		return
	}
	s.note("guests migrated", "%d from %s to %s", g.vmid, g.node, to.Name())
	up, err := s.admin.MigrateLXC(s.Context(), g.node, g.vmid, proxmox.LXCMigrate{Target: to.Name(), Restart: g.running})
	s.waited(g.node, up, err)
}

func (s *soup) harmAppliance() {
	var g *mem.Guest
	for _, e := range s.engines() {
		if found, ok := e.Guest(applianceID); ok {
			g = found
		}
	}
	if g == nil {
		return
	}
	s.note("appliances harmed", "")
	switch s.rand.IntN(3) {
	case 0:
		s.sim.FlushRules(g)
	case 1:
		g.KillUnit(appliance.UnitDNSMasq)
	case 2:
		g.KillUnit(appliance.UnitCaddy)
	}
}

func (s *soup) engines() []*mem.Engine {
	all := []*mem.Engine{s.engine}
	for _, p := range s.peers {
		all = append(all, p.engine)
	}
	return all
}

func (s *soup) rebootNode() {
	n := pick(s, s.node.Nodes())
	s.note("nodes rebooted", "%s", n.Name())
	s.must(n.Shutdown(s.Context()))
	s.must(n.Boot(s.Context()))
}

// takeNodeAway takes a node off the network until the trouble ends. The first one has the API.
func (s *soup) takeNodeAway() {
	if len(s.peers) == 0 {
		return
	}
	n := pick(s, s.peers).node
	s.note("nodes taken away", "%s", n.Name())
	n.SetOnline(false)
	s.giveBack["node "+n.Name()] = func() { n.SetOnline(true) }
	if s.rand.IntN(2) == 0 {
		time.AfterFunc(time.Duration(s.rand.Int64N(int64(20*time.Second))), func() { n.SetOnline(true) })
	}
}

// takeRightsAway lets the token see nothing of the guests, or nothing at all.
func (s *soup) takeRightsAway() {
	if s.giveBack["rights"] != nil {
		return
	}
	below := pick(s, []string{"/", "/vms"})
	s.note("rights taken", "%s", below)
	s.giveBack["rights"] = s.takeRights(below)
}

func (s *soup) loseQuorum() {
	s.note("quorum lost", "")
	s.node.SetQuorate(false)
	s.giveBack["quorum"] = func() { s.node.SetQuorate(true) }
}
