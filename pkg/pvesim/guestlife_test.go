package pvesim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// write puts a file into a guest in memory.
func write(t *testing.T, e *mem.Engine, vmid int, name, text string) {
	t.Helper()
	g, ok := e.Guest(vmid)
	if !ok {
		t.Fatalf("no guest %d", vmid)
	}
	if err := g.FS().WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read is what a file in a guest holds, "" if there is none.
func read(t *testing.T, e *mem.Engine, vmid int, name string) string {
	t.Helper()
	g, ok := e.Guest(vmid)
	if !ok {
		t.Fatalf("no guest %d", vmid)
	}
	raw, _ := g.FS().ReadFile(name)
	return string(raw)
}

func memOf(n *Node) *mem.Engine { return n.engine.(*mem.Engine) }

func TestSnapshots(t *testing.T) {
	r := newRig(t, nil)
	r.create("100", "net0", "name=eth0,bridge=vmbr0", "mp0", "local-lvm:1,mp=/data", "description", "mine")
	const guest = "/nodes/pve/lxc/100"
	r.done("POST", guest+"/status/start")
	write(t, r.engine, 100, "/root/a", "one")
	write(t, r.engine, 100, "/data/b", "one")
	r.done("POST", guest+"/snapshot", "snapname", "s1", "description", "first")
	write(t, r.engine, 100, "/root/a", "two")
	write(t, r.engine, 100, "/data/b", "two")
	r.done("POST", guest+"/snapshot", "snapname", "s2")
	r.ok("PUT", guest+"/config", "memory", "128")

	rows := r.list("GET", guest+"/snapshot")
	if len(rows) != 3 || rows[0]["name"] != "s1" || rows[0]["description"] != "first\n" || rows[1]["parent"] != "s1" || rows[2]["parent"] != "s2" || rows[2]["running"] != 1.0 {
		t.Errorf("snapshots %v", rows)
	}
	if c := r.data("GET", guest+"/config", "snapshot", "s1"); c["memory"] != 256.0 || c["snaptime"] == nil {
		t.Errorf("config of s1 %v", c)
	}
	r.ok("PUT", guest+"/snapshot/s1/config", "description", "changed")
	if c := r.data("GET", guest+"/snapshot/s1/config"); c["description"] != "changed\n" {
		t.Errorf("config of s1 %v", c)
	}
	for _, c := range []struct{ method, path, name, exit string }{
		{"POST", "/snapshot", "s1", "snapshot name 's1' already used"},
		{"DELETE", "/snapshot/nope", "", "snapshot 'nope' does not exist"},
		{"POST", "/snapshot/nope/rollback", "", "snapshot 'nope' does not exist"},
	} {
		var kv []string
		if c.name != "" {
			kv = []string{"snapname", c.name}
		}
		if exit, _ := r.task(c.method, guest+c.path, kv...); exit != c.exit {
			t.Errorf("%s %s: %s", c.method, c.path, exit)
		}
	}
	r.refused(500, "unable to use snapshot name 'current' (reserved name)", "POST", guest+"/snapshot", "snapname", "current")

	// A rollback kills the guest and brings back configuration and all volumes.
	r.done("POST", guest+"/snapshot/s1/rollback", "start", "1")
	r.idle()
	if got := read(t, r.engine, 100, "/root/a") + read(t, r.engine, 100, "/data/b"); got != "oneone" {
		t.Errorf("after the rollback %q", got)
	}
	c := r.data("GET", guest+"/config")
	if c["memory"] != 256.0 || c["parent"] != "s1" || c["description"] != "mine\n" || c["lock"] != nil {
		t.Errorf("after the rollback %v", c)
	}
	if s := r.data("GET", guest+"/status/current"); s["status"] != "running" {
		t.Errorf("status %v", s["status"])
	}
	r.done("DELETE", guest+"/snapshot/s1")
	if rows := r.list("GET", guest+"/snapshot"); len(rows) != 2 || rows[0]["parent"] != nil {
		t.Errorf("snapshots %v", rows)
	}
	r.refused(500, "unable to create template, because CT contains snapshots", "POST", guest+"/template")
	if d := r.data("GET", guest+"/feature", "feature", "snapshot"); d["hasFeature"] != 1.0 {
		t.Errorf("feature %v", d)
	}
}

// asRoot makes requests those of a token of root@pam with all its rights.
func (r *rig) asRoot() {
	r.t.Helper()
	if err := r.node.Access().SetToken(access.Root, "test", "secret", access.Token{}); err != nil {
		r.t.Fatal(err)
	}
	r.token = "PVEAPIToken=root@pam!test=secret"
}

// idle waits until no task runs.
func (r *rig) idle() {
	r.t.Helper()
	for _, n := range r.node.Nodes() {
		for active, _ := n.tasks.List(); len(active) > 0; active, _ = n.tasks.List() {
			if _, err := n.tasks.Wait(r.t.Context(), active[0].UPID.String()); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

func TestClonesAndTemplates(t *testing.T) {
	r := newRig(t, nil)
	const guest = "/nodes/pve/lxc/100"
	r.create("100", "net0", "name=eth0,bridge=vmbr0", "mp0", "local-lvm:1,mp=/data", "startup", "order=3")
	r.done("POST", guest+"/status/start")
	write(t, r.engine, 100, "/root/a", "one")
	write(t, r.engine, 100, "/data/b", "one")
	r.refused(500, "Full clone of a running container is only possible from a snapshot", "POST", guest+"/clone", "newid", "101")
	r.done("POST", guest+"/snapshot", "snapname", "s1")
	write(t, r.engine, 100, "/root/a", "two")
	r.done("POST", guest+"/clone", "newid", "101", "snapname", "s1", "hostname", "copy", "full", "1")
	r.done("POST", guest+"/status/stop")
	c, old := r.data("GET", "/nodes/pve/lxc/101/config"), r.data("GET", guest+"/config")
	mac := func(c map[string]any) string { return properties(c["net0"].(string), "")["hwaddr"] }
	if c["hostname"] != "copy" || c["lock"] != nil || c["parent"] != nil || c["startup"] != "order=3" || mac(c) == mac(old) || old["lock"] != nil ||
		c["rootfs"] != "local-lvm:vm-101-disk-0,size=4G" || c["mp0"] != "local-lvm:vm-101-disk-1,mp=/data,size=1G" {
		t.Errorf("clone %v of %v", c, old)
	}
	r.done("POST", "/nodes/pve/lxc/101/status/start")
	if got := read(t, r.engine, 101, "/root/a") + read(t, r.engine, 101, "/data/b") + read(t, r.engine, 101, "/etc/hostname"); got != "oneonecopy\n" {
		t.Errorf("the clone holds %q", got)
	}
	r.refused(500, "CT 101 already exists on node 'pve'", "POST", guest+"/clone", "newid", "101")
	if c := r.data("GET", guest+"/config"); c["lock"] != nil {
		t.Errorf("a refused clone left the lock %v", c["lock"])
	}
	r.refused(500, "Linked clone feature for 'local-lvm:vm-100-disk-0' is not available", "POST", guest+"/clone", "newid", "102", "full", "0")
	r.refused(500, "Configuration file 'nodes/pve/lxc/102.conf' does not exist", "GET", "/nodes/pve/lxc/102/config")

	r.done("DELETE", guest+"/snapshot/s1")
	if a := r.ok("POST", guest+"/template"); a.body.Data != nil {
		t.Errorf("template answers %v", a.body.Data)
	}
	r.idle()
	if c := r.data("GET", guest+"/config"); c["template"] != 1.0 || c["rootfs"] != "local-lvm:base-100-disk-0,size=4G" {
		t.Errorf("template %v", c)
	}
	r.refused(500, "you can't convert a template to a template", "POST", guest+"/template")
	r.done("POST", guest+"/clone", "newid", "103") // linked, the default for a template
	if log := strings.Join(r.log(r.lastTask("vzclone")), "\n"); !strings.Contains(log, "create linked clone of mount point rootfs (local-lvm:base-100-disk-0)") {
		t.Errorf("log %s", log)
	}
	if exit, _ := r.task("POST", guest+"/status/start"); exit != "you can't start a CT if it's a template" {
		t.Errorf("start of a template: %s", exit)
	}
}

func (r *rig) lastTask(typ string) string {
	r.t.Helper()
	return r.list("GET", "/nodes/pve/tasks", "typefilter", typ, "limit", "1")[0]["upid"].(string)
}

func TestBackupAndRestore(t *testing.T) {
	r := newRig(t, nil)
	const guest = "/nodes/pve/lxc/100"
	r.create("100", "net0", "name=eth0,bridge=vmbr0", "mp0", "local-lvm:1,mp=/data,backup=1", "mp1", "local-lvm:2,mp=/cache", "tags", "x")
	r.done("POST", guest+"/status/start")
	for _, name := range []string{"/root/a", "/data/b", "/cache/c"} {
		write(t, r.engine, 100, name, "kept")
	}
	exit, log := r.task("POST", "/nodes/pve/vzdump", "vmid", "100", "storage", "local", "compress", "zstd", "mode", "stop", "notes-template", "{{guestname}} on {{node}}", "protected", "1")
	text := strings.Join(log, "\n")
	if exit != "OK" || !strings.Contains(text, "INFO: excluding volume mount point mp1 ('/cache') from backup (disabled)") || !strings.Contains(text, "INFO: restarting vm") {
		t.Fatalf("%s\n%s", exit, text)
	}
	rows := r.list("GET", "/nodes/pve/storage/local/content", "content", "backup", "vmid", "100")
	if len(rows) != 1 || rows[0]["notes"] != "g100 on pve" || rows[0]["protected"] != 1.0 || rows[0]["format"] != "tar.zst" || rows[0]["size"].(float64) < 100 {
		t.Fatalf("backups %v", rows)
	}
	volid := rows[0]["volid"].(string)
	if conf := r.ok("GET", "/nodes/pve/vzdump/extractconfig", "volume", volid).body.Data.(string); !strings.Contains(conf, "\nmp1: local-lvm:vm-100-disk-2,mp=/cache,size=2G\n") {
		t.Errorf("configuration in the backup:\n%s", conf)
	}
	r.done("POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", volid, "restore", "1", "storage", "local-lvm", "unique", "1", "hostname", "again", "start", "1")
	r.idle()
	c, old := r.data("GET", "/nodes/pve/lxc/101/config"), r.data("GET", guest+"/config")
	if c["hostname"] != "again" || c["tags"] != "x" || c["net0"] == old["net0"] || c["unprivileged"] != 1.0 || c["mp0"] != "local-lvm:vm-101-disk-1,mp=/data,backup=1,size=1G" {
		t.Errorf("restored %v", c)
	}
	if got := read(t, r.engine, 101, "/root/a") + read(t, r.engine, 101, "/data/b") + read(t, r.engine, 101, "/cache/c") + read(t, r.engine, 101, "/etc/vzdump/pct.conf"); got != "keptkept" {
		t.Errorf("the restored guest holds %q", got)
	}
	r.refused(500, "CT 101 already exists on node 'pve'", "POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", volid, "restore", "1", "storage", "local-lvm")
	r.refused(500, "can't overwrite running container", "POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", volid, "restore", "1", "storage", "local-lvm", "force", "1")
	r.done("POST", "/nodes/pve/lxc/101/status/stop")
	write(t, r.engine, 101, "/root/new", "gone with it")
	r.done("POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", volid, "restore", "1", "storage", "local-lvm", "force", "1")
	if got := read(t, r.engine, 101, "/root/a") + read(t, r.engine, 101, "/root/new"); got != "kept" {
		t.Errorf("the overwritten guest holds %q", got)
	}
	if c := r.data("GET", "/nodes/pve/lxc/101/config"); c["hostname"] != "g100" || c["lock"] != nil {
		t.Errorf("overwritten %v", c)
	}
	// A restore that fails early leaves what was there.
	exit, _ = r.task("POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", "local:backup/vzdump-lxc-100-2020_01_01-00_00_00.tar", "restore", "1", "storage", "local-lvm", "force", "1")
	if exit != "unable to restore CT 101 - volume 'local:backup/vzdump-lxc-100-2020_01_01-00_00_00.tar' does not exist" {
		t.Errorf("exit %s", exit)
	}
	if c := r.data("GET", "/nodes/pve/lxc/101/config"); c["lock"] != nil || read(t, r.engine, 101, "/root/a") != "kept" {
		t.Errorf("after a failed restore %v", c)
	}
	if exit, _ := r.task("DELETE", "/nodes/pve/storage/local/content/"+volid); !strings.HasSuffix(exit, "- protected") {
		t.Errorf("a protected backup was deleted: %s", exit)
	}
}

func TestBackupModesAndPruning(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Storages = append(DefaultStorages(), Storage{ID: "raw", Type: "dir", Content: []string{"rootdir"}, Bytes: 1 << 40})
	})
	r.create("100")
	r.done("POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "raw:1", "features", "nesting=1")
	r.done("POST", "/nodes/pve/lxc/101/status/start")
	_, log := r.task("POST", "/nodes/pve/vzdump", "vmid", "100,101", "storage", "local")
	text := strings.Join(log, "\n")
	if !strings.Contains(text, "INFO: trying 'suspend' mode instead") || !strings.Contains(text, "INFO: status = stopped\nINFO: backup mode: stop") {
		t.Errorf("log:\n%s", text)
	}
	r.ok("PUT", "/nodes/pve/lxc/100/config", "lock", "backup")
	exit, log := r.task("POST", "/nodes/pve/vzdump", "vmid", "100", "storage", "local")
	if text := strings.Join(log, "\n"); exit != "job errors" || !strings.Contains(text, "ERROR: Backup of VM 100 failed - CT is locked (backup)") {
		t.Errorf("%s\n%s", exit, text)
	}
	if exit, _ := r.task("POST", "/nodes/pve/vzdump", "vmid", "101", "storage", "local-lvm"); exit != "could not get storage information for 'local-lvm': can't use storage 'local-lvm' for backups - wrong content type" {
		t.Errorf("exit %s", exit)
	}
	if a := r.refused(400, "Parameter verification failed.", "POST", "/nodes/pve/vzdump", "storage", "local"); a.body.Errors["vmid"] != "property is missing" {
		t.Errorf("%v", a.body.Errors)
	}
	r.refused(403, "Permission check failed (/storage/local, Datastore.Allocate)", "POST", "/nodes/pve/vzdump", "vmid", "101", "storage", "local", "prune-backups", "keep-last=1")

	all := []backupFile{}
	for i := range 10 {
		all = append(all, backupFile{name: fmt.Sprint(i), ctime: int64(i) * 12 * 3600})
	}
	var gone []string
	for _, b := range pruneList(all, map[string]int{"keep-last": 2, "keep-daily": 2}) {
		gone = append(gone, b.name)
	}
	// 9 and 8 are the last two, of one day; 7 and 5 are the newest of the two days before.
	if strings.Join(gone, " ") != "6 4 3 2 1 0" {
		t.Errorf("pruned %v", gone)
	}
}

func TestMigration(t *testing.T) {
	r := newCluster(t, 2, nil)
	r.asRoot()
	second := r.node.Nodes()[1]
	const guest = "/nodes/pve/lxc/100"
	r.create("100", "net0", "name=eth0,bridge=vmbr0", "mp0", "local-lvm:1,mp=/data")
	r.done("POST", guest+"/status/start")
	write(t, r.engine, 100, "/root/a", "kept")
	write(t, r.engine, 100, "/data/b", "kept")
	before := r.data("GET", guest+"/config")
	r.refused(500, "can't migrate running container without --online or --restart", "POST", guest+"/migrate", "target", "pve2")
	r.refused(500, "no such cluster node 'nope'", "POST", guest+"/migrate", "target", "nope")
	if exit, _ := r.task("POST", guest+"/migrate", "target", "pve2", "online", "1"); exit != "lxc live migration is currently not implemented" {
		t.Errorf("exit %s", exit)
	}
	if d := r.data("GET", guest+"/migrate"); fmt.Sprint(d["allowed-nodes"]) != "[pve2]" || d["running"] != 1.0 {
		t.Errorf("preconditions %v", d)
	}
	r.done("POST", guest+"/migrate", "target", "pve2", "restart", "1")
	r.idle()
	r.refused(500, "Configuration file 'nodes/pve/lxc/100.conf' does not exist", "GET", guest+"/config")
	after := r.data("GET", "/nodes/pve2/lxc/100/config")
	if after["net0"] != before["net0"] || after["mp0"] != before["mp0"] || after["lock"] != nil {
		t.Errorf("migrated %v\nfrom %v", after, before)
	}
	if s := r.data("GET", "/nodes/pve2/lxc/100/status/current"); s["status"] != "running" {
		t.Errorf("status %v", s["status"])
	}
	if got := read(t, memOf(second), 100, "/root/a") + read(t, memOf(second), 100, "/data/b"); got != "keptkept" {
		t.Errorf("the migrated guest holds %q", got)
	}
	if _, there := r.engine.Guest(100); there || len(r.node.ownedVolumes(100)) != 0 {
		t.Error("the source keeps something")
	}
	r.done("POST", "/nodes/pve2/lxc/100/status/stop")
	r.done("POST", "/nodes/pve2/lxc/100/snapshot", "snapname", "s1")
	if exit, _ := r.task("POST", "/nodes/pve2/lxc/100/migrate", "target", "pve"); exit != "migration aborted" {
		t.Errorf("a guest with snapshots on local disks: %s", exit)
	}
	if c := r.data("GET", "/nodes/pve2/lxc/100/config"); c["lock"] != nil {
		t.Errorf("a failed migration leaves the lock %v", c["lock"])
	}
}

func TestVolumesMove(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Storages = append(DefaultStorages(), Storage{ID: "other", Type: "lvmthin", Content: []string{"rootdir"}, Bytes: 1 << 40})
	})
	r.create("100", "mp0", "local-lvm:1,mp=/data,backup=1")
	r.create("101")
	const guest = "/nodes/pve/lxc/100"
	r.done("POST", guest+"/status/start")
	write(t, r.engine, 100, "/data/b", "kept")
	r.refused(500, "Cannot move in-use volume while the source CT is running - detach or shutdown first", "POST", guest+"/move_volume", "volume", "mp0", "target-vmid", "101")
	r.done("POST", guest+"/status/stop")
	r.refused(500, "Cannot move to/from 'rootfs'", "POST", guest+"/move_volume", "volume", "rootfs", "target-vmid", "101")
	r.refused(500, "volume 'mp1' for container '100' does not exist", "POST", guest+"/move_volume", "volume", "mp1", "target-vmid", "101")
	r.done("POST", guest+"/move_volume", "volume", "mp0", "target-vmid", "101", "target-volume", "mp3")
	if c := r.data("GET", guest+"/config"); c["mp0"] != nil {
		t.Errorf("source %v", c)
	}
	c := r.data("GET", "/nodes/pve/lxc/101/config")
	if !strings.HasPrefix(c["mp3"].(string), "local-lvm:vm-101-disk-1,") || !strings.Contains(c["mp3"].(string), "backup=1") {
		t.Errorf("target %v", c)
	}
	r.done("POST", "/nodes/pve/lxc/101/status/start")
	if got := read(t, r.engine, 101, "/data/b"); got != "kept" {
		t.Errorf("the new owner has %q", got)
	}
	if got := read(t, r.engine, 100, "/data/b"); got != "" {
		t.Errorf("the old owner has %q", got)
	}
	r.refused(500, "cannot move volumes of a running container", "POST", "/nodes/pve/lxc/101/move_volume", "volume", "mp3", "storage", "other")
	r.done("POST", "/nodes/pve/lxc/101/status/stop")
	r.done("POST", "/nodes/pve/lxc/101/move_volume", "volume", "mp3", "storage", "other")
	c = r.data("GET", "/nodes/pve/lxc/101/config")
	if !strings.HasPrefix(c["mp3"].(string), "other:vm-101-disk-0,") || c["unused0"] != "local-lvm:vm-101-disk-1" || c["lock"] != nil {
		t.Errorf("moved %v", c)
	}
	// A mount point that is taken away becomes unused; an unused one that is deleted is gone.
	r.ok("PUT", "/nodes/pve/lxc/101/config", "delete", "mp3")
	if c = r.data("GET", "/nodes/pve/lxc/101/config"); c["unused1"] != "other:vm-101-disk-0" || c["mp3"] != nil {
		t.Errorf("without mp3 %v", c)
	}
	r.ok("PUT", "/nodes/pve/lxc/101/config", "delete", "unused0,unused1")
	if left := r.node.ownedVolumes(101); len(left) != 1 {
		t.Errorf("volumes %v", left)
	}
}
