package proxmox_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// A guest's later life: state kept and brought back, copied, backed up, restored.
func TestSnapshotsClonesAndBackups(t *testing.T) {
	_, c := startNode(t, false)
	ctx, task := t.Context(), done(t, c)
	task(c.CreateLXC(ctx, "pve", proxmox.LXCCreate{
		VMID: 200, Template: "local:vztmpl/" + templateFile, Hostname: "one", Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1),
		NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", IP: "dhcp"}},
	}))
	if can, err := c.HasFeature(ctx, "pve", 200, proxmox.FeatureSnapshot); err != nil || !can {
		t.Fatalf("snapshots on lvmthin: %v %v", can, err)
	}
	task(c.CreateSnapshot(ctx, "pve", 200, "before", "as it was"))
	if upid, err := c.CreateSnapshot(ctx, "pve", 200, "before", ""); err == nil {
		_, err = c.WaitTask(ctx, "pve", upid)
		if !proxmox.IsAlreadyExists(err) {
			t.Errorf("the same name again: %v", err)
		}
	} else if !proxmox.IsAlreadyExists(err) {
		t.Errorf("the same name again: %v", err)
	}
	if err := c.UpdateLXC(ctx, "pve", 200, proxmox.LXCUpdate{Set: map[string]string{"hostname": "two"}}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Snapshots(ctx, "pve", 200)
	if err != nil || !slices.ContainsFunc(list, func(s proxmox.Snapshot) bool { return s.Name == "before" && s.SnapTime > 0 }) ||
		!slices.ContainsFunc(list, func(s proxmox.Snapshot) bool { return s.Name == proxmox.CurrentSnapshot }) {
		t.Fatalf("%+v %v", list, err)
	}
	task(c.RollbackSnapshot(ctx, "pve", 200, "before", false))
	if config, err := c.LXCConfig(ctx, "pve", 200); err != nil || config.Hostname() != "one" {
		t.Errorf("after the rollback: %q %v", config.Hostname(), err)
	}
	task(c.DeleteSnapshot(ctx, "pve", 200, "before", false))

	task(c.CloneLXC(ctx, "pve", 200, proxmox.LXCClone{NewID: 201, Hostname: "copy", Full: true, Storage: "local-lvm"}))
	original, err1 := c.LXCConfig(ctx, "pve", 200)
	clone, err2 := c.LXCConfig(ctx, "pve", 201)
	a, _, _ := original.NIC(0)
	b, _, _ := clone.NIC(0)
	if err1 != nil || err2 != nil || clone.Hostname() != "copy" || a.HWAddr == b.HWAddr || b.HWAddr == "" {
		t.Errorf("clone %q with %s, original's %s: %v %v", clone.Hostname(), b.HWAddr, a.HWAddr, err1, err2)
	}

	task(c.Vzdump(ctx, "pve", proxmox.Vzdump{VMIDs: []int{200}, Storage: "local", Mode: proxmox.BackupStop, Compress: "zstd", Notes: "{{guestname}}"}))
	backups, err := c.Backups(ctx, "pve", "local", 200)
	if err != nil || len(backups) != 1 || backups[0].VMID != 200 {
		t.Fatalf("%+v %v", backups, err)
	}
	volid := backups[0].Volid
	if text, err := c.BackupConfig(ctx, "pve", volid); err != nil || !strings.Contains(text, "hostname: one") {
		t.Errorf("%q %v", text, err)
	}
	if _, err := c.RestoreLXC(ctx, "pve", proxmox.LXCRestore{VMID: 200, Backup: volid, Storage: "local-lvm", Unprivileged: true}); !proxmox.IsVMIDTaken(err) {
		t.Errorf("restore over a guest: %v", err)
	}
	task(c.RestoreLXC(ctx, "pve", proxmox.LXCRestore{VMID: 202, Backup: volid, Storage: "local-lvm", Unprivileged: true, Unique: true}))
	if config, err := c.LXCConfig(ctx, "pve", 202); err != nil || config.Hostname() != "one" {
		t.Errorf("restored: %q %v", config.Hostname(), err)
	}
	if upid, err := c.DeleteVolume(ctx, "pve", volid); err != nil {
		t.Error(err)
	} else if !upid.IsZero() {
		task(upid, nil)
	}
	if backups, err := c.Backups(ctx, "pve", "local", 200); err != nil || len(backups) != 0 {
		t.Errorf("%+v %v", backups, err)
	}
}

func TestPoolsAndFirewall(t *testing.T) {
	_, c := startNode(t, true)
	ctx, task := t.Context(), done(t, c)
	task(c.CreateLXC(ctx, "pve", proxmox.LXCCreate{VMID: 200, Template: "local:vztmpl/" + templateFile, Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1)}))
	if err := c.CreatePool(ctx, "team", "ours"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreatePool(ctx, "team", ""); !proxmox.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	if err := c.UpdatePool(ctx, "team", proxmox.PoolUpdate{VMIDs: []int{200}}); err != nil {
		t.Fatal(err)
	}
	if err := c.UpdatePool(ctx, "team", proxmox.PoolUpdate{VMIDs: []int{200}}); !proxmox.IsAlreadyExists(err) {
		t.Errorf("a member again: %v", err)
	}
	if p, err := c.Pool(ctx, "team"); err != nil || len(p.Members) != 1 || p.Members[0].VMID != 200 || p.Comment != "ours" || p.ID != "team" {
		t.Errorf("%+v %v", p, err)
	}
	if err := c.UpdatePool(ctx, "team", proxmox.PoolUpdate{VMIDs: []int{200}, Remove: true}); err != nil {
		t.Error(err)
	}
	if err := c.DeletePool(ctx, "team"); err != nil {
		t.Error(err)
	}
	if _, err := c.Pool(ctx, "team"); !proxmox.IsNotExist(err) {
		t.Errorf("deleted: %v", err)
	}

	if err := c.SetGuestFirewall(ctx, "pve", 200, proxmox.GuestFirewall{Enable: true, PolicyIn: proxmox.FirewallDrop}); err != nil {
		t.Fatal(err)
	}
	if f, err := c.GuestFirewall(ctx, "pve", 200); err != nil || !bool(f.Enable) || f.PolicyIn != proxmox.FirewallDrop || f.Digest == "" {
		t.Errorf("%+v %v", f, err)
	}
	for _, port := range []proxmox.Text{"80", "443"} {
		if err := c.AddGuestRule(ctx, "pve", 200, proxmox.FirewallRule{Type: "in", Action: proxmox.FirewallAccept, Enable: true, Proto: "tcp", DPort: port, Comment: "ours"}); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := c.GuestRules(ctx, "pve", 200)
	if err != nil || len(rules) != 2 || rules[0].DPort != "443" || !bool(rules[0].Enable) {
		t.Fatalf("the last one comes first: %+v %v", rules, err)
	}
	if err := c.DeleteGuestRule(ctx, "pve", 200, 0, strings.Repeat("0", 40)); !proxmox.IsDigestConflict(err) {
		t.Errorf("a stale digest: %v", err)
	}
	if err := c.DeleteGuestRule(ctx, "pve", 200, 0, rules[0].Digest); err != nil {
		t.Error(err)
	}
	if f, err := c.ClusterFirewall(ctx); err != nil || bool(f.Enable) {
		t.Errorf("%+v %v", f, err)
	}
}

func TestSDN(t *testing.T) {
	_, c := startNode(t, true)
	ctx, task := t.Context(), done(t, c)
	if err := c.CreateSDNZone(ctx, proxmox.SDNZone{Zone: "prox", Type: "simple", IPAM: "pve"}); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateSDNZone(ctx, proxmox.SDNZone{Zone: "prox", Type: "simple"}); !proxmox.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	if err := c.CreateSDNVNet(ctx, proxmox.SDNVNet{VNet: "proxnet", Zone: "prox"}); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateSDNSubnet(ctx, proxmox.SDNSubnet{VNet: "proxnet", CIDR: "10.77.0.0/24", Gateway: "10.77.0.1", SNAT: true}); err != nil {
		t.Fatal(err)
	}
	if staged, err := c.SDNVNets(ctx, proxmox.SDNPending); err != nil || len(staged) != 1 || staged[0].State != "new" || staged[0].Pending["zone"] != "prox" {
		t.Errorf("%+v %v", staged, err)
	}
	task(c.ApplySDN(ctx))
	if zones, err := c.NodeSDNZones(ctx, "pve"); err != nil || len(zones) == 0 || !slices.ContainsFunc(zones, func(z proxmox.NodeSDNZone) bool { return z.Zone == "prox" && z.Status == "available" }) {
		t.Errorf("%+v %v", zones, err)
	}
	subnets, err := c.SDNSubnets(ctx, "proxnet", proxmox.SDNStaged)
	if err != nil || len(subnets) != 1 || !bool(subnets[0].SNAT) {
		t.Fatalf("%+v %v", subnets, err)
	}
	for _, err := range []error{
		c.DeleteSDNSubnet(ctx, "proxnet", subnets[0].ID), c.DeleteSDNVNet(ctx, "proxnet"), c.DeleteSDNZone(ctx, "prox"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	task(c.ApplySDN(ctx))
	if err := c.DeleteSDNZone(ctx, "prox"); !proxmox.IsNotExist(err) {
		t.Errorf("deleted: %v", err)
	}
}

// What diagnosis looks at.
func TestDiagnosis(t *testing.T) {
	_, c := startNode(t, true)
	ctx := t.Context()
	if can, err := c.Capabilities(ctx, "pve"); err != nil || !can.OCI || !can.SDN || can.ConsoleTokens == proxmox.Unknown {
		t.Errorf("%+v %v", can, err)
	}
	if certs, err := c.Certificates(ctx, "pve"); err != nil {
		t.Error(err)
	} else if cert, ok := proxmox.ServingCertificate(certs); !ok || cert.Fingerprint == "" || cert.NotAfter == 0 {
		t.Errorf("%+v", certs)
	}
	if now, err := c.NodeTime(ctx, "pve"); err != nil || now.Year() < 2020 {
		t.Errorf("%v %v", now, err)
	}
	if users, err := c.Users(ctx); err != nil || !slices.ContainsFunc(users, func(u proxmox.User) bool { return u.UserID == "root@pam" }) {
		t.Errorf("%+v %v", users, err)
	}
	if _, err := c.ACL(ctx); err != nil {
		t.Error(err)
	}
	if privs, err := c.RolePrivileges(ctx, "PVEVMUser"); err != nil || !slices.Contains(privs, "VM.Console") {
		t.Errorf("%v %v", privs, err)
	}
	if p, err := c.PermissionsOn(ctx, "/vms/200", ""); err != nil || !p.Has("/vms/200", "VM.Allocate") {
		t.Errorf("%v %v", p, err)
	}
	if s, err := c.StorageStatus(ctx, "pve", "local"); err != nil || s.Total == 0 || s.Storage != "local" {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := c.StorageStatus(ctx, "pve", "nope"); !proxmox.IsNotExist(err) {
		t.Errorf("no such storage: %v", err)
	}
	if list, err := c.StorageDefinitions(ctx); err != nil || len(list) < 2 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := c.HAStatus(ctx); err != nil || len(list) == 0 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := c.ClusterTasks(ctx); err != nil {
		t.Error(err)
	}
	if o, err := c.ClusterOptions(ctx); err != nil || o.MACPrefix == "" {
		t.Errorf("%+v %v", o, err)
	}
	if _, err := c.NodeSamples(ctx, "pve", proxmox.LastHour); err != nil {
		t.Error(err)
	}
}
