package pvesim

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestGuestLifeCycle(t *testing.T) {
	r := newRig(t, nil)
	r.create("100", "net0", "ip=dhcp,bridge=vmbr0,name=eth0", "tags", "b;a,B", "description", "mine: yes\nüber", "onboot", "1")
	const guest = "/nodes/pve/lxc/100"

	c := r.data("GET", guest+"/config")
	if !regexp.MustCompile(`^name=eth0,bridge=vmbr0,hwaddr=BC:24:11(:[0-9A-F]{2}){3},ip=dhcp,type=veth$`).MatchString(c["net0"].(string)) {
		t.Errorf("net0 %v", c["net0"])
	}
	for key, want := range map[string]any{
		"tags": "a;b", "description": "mine: yes\nüber\n", "memory": 256.0, "rootfs": "local-lvm:vm-100-disk-0,size=4G",
		"unprivileged": 1.0, "ostype": "debian", "arch": "amd64", "features": "nesting=1",
	} {
		if c[key] != want {
			t.Errorf("%s is %v, want %v", key, c[key], want)
		}
	}
	file, err := os.ReadFile(r.node.confFile(100))
	if err != nil || !strings.HasPrefix(string(file), "#mine%3A yes\n#%C3%BCber\narch: amd64\n") {
		t.Errorf("file %q, %v", file, err)
	}

	r.refused(500, "CT 100 not running", "POST", guest+"/status/stop")
	if a := r.ok("GET", guest+"/interfaces"); a.body.Data != nil {
		t.Errorf("interfaces of a stopped guest: %v", a.body.Data)
	}
	r.done("POST", guest+"/status/start")
	r.refused(500, "CT 100 already running", "POST", guest+"/status/start")
	st := r.data("GET", guest+"/status/current")
	if st["status"] != "running" || st["name"] != "g100" || st["maxmem"] != float64(256<<20) || st["tags"] != "a;b" {
		t.Errorf("status %v", st)
	}
	ifs := r.list("GET", guest+"/interfaces")
	if len(ifs) != 2 || ifs[0]["name"] != "lo" || !strings.HasPrefix(ifs[1]["inet"].(string), "192.168.50.") {
		t.Errorf("interfaces %v", ifs)
	}
	res := r.list("GET", "/cluster/resources", "type", "vm")
	if len(res) != 1 || res[0]["id"] != "lxc/100" || res[0]["tags"] != "a;b" || res[0]["status"] != "running" {
		t.Errorf("resources %v", res)
	}
	r.refused(500, "unable to destroy CT 100 - container is running", "DELETE", guest)
	r.done("POST", guest+"/status/reboot")
	r.done("POST", guest+"/status/shutdown")
	r.done("PUT", guest+"/resize", "disk", "rootfs", "size", "+2G")
	r.refused(500, "unable to shrink disk size", "PUT", guest+"/resize", "disk", "rootfs", "size", "1G")
	if c := r.data("GET", guest+"/config"); c["rootfs"] != "local-lvm:vm-100-disk-0,size=6G" {
		t.Errorf("rootfs %v", c["rootfs"])
	}
	r.done("DELETE", guest, "purge", "1")
	r.refused(500, "Configuration file 'nodes/pve/lxc/100.conf' does not exist", "GET", guest+"/config")
	if rows := r.list("GET", "/nodes/pve/storage/local-lvm/content"); len(rows) != 0 {
		t.Errorf("volumes left: %v", rows)
	}
}

func TestConfigChanges(t *testing.T) {
	r := newRig(t, nil)
	r.create("100", "net0", "name=eth0,bridge=vmbr0,ip=dhcp")
	const config = "/nodes/pve/lxc/100/config"
	digest := r.data("GET", config)["digest"].(string)
	r.ok("PUT", config, "cores", "2", "digest", digest)
	const modified = "detected modified configuration - file changed by other user? Try again."
	r.refused(500, modified, "PUT", config, "cores", "1", "digest", digest)
	r.refused(500, "no options specified", "PUT", config)
	r.refused(500, "unable to modify read-only option: 'unprivileged'", "PUT", config, "unprivileged", "0")
	if a := r.refused(400, "Parameter verification failed.", "PUT", config, "delete", "foo"); a.body.Errors["delete"] != "unknown option 'foo'" {
		t.Errorf("%v", a.body.Errors)
	}
	r.done("POST", "/nodes/pve/lxc/100/status/start")

	r.ok("PUT", config, "memory", "512", "nameserver", "1.1.1.1", "hostname", "renamed", "delete", "features")
	now, next := r.data("GET", config, "current", "1"), r.data("GET", config)
	if now["memory"] != 512.0 || now["nameserver"] != nil || now["hostname"] != "renamed" || now["features"] != "nesting=1" {
		t.Errorf("in force: %v", now)
	}
	if next["nameserver"] != "1.1.1.1" || next["features"] != nil {
		t.Errorf("after the next start: %v", next)
	}
	pending := map[string]map[string]any{}
	for _, row := range r.list("GET", "/nodes/pve/lxc/100/pending") {
		pending[row["key"].(string)] = row
	}
	if p := pending["features"]; p["delete"] != 1.0 || p["pending"] != " " {
		t.Errorf("pending features: %v", p)
	}
	if p := pending["nameserver"]; p["pending"] != "1.1.1.1" || p["value"] != nil {
		t.Errorf("pending nameserver: %v", p)
	}
	g, _ := r.engine.Guest(100)
	if s := g.Spec(); s.MemoryMiB != 512 || s.Hostname != "g100" {
		t.Errorf("engine has %+v", s)
	}
	r.ok("PUT", config, "revert", "features")
	if c := r.data("GET", config); c["features"] != "nesting=1" {
		t.Errorf("revert: %v", c)
	}
	r.ok("PUT", config, "net1", "name=eth1,bridge=vmbr0,ip=10.9.0.2/24")
	if a := g.Address("eth1"); a != "10.9.0.2/24" {
		t.Errorf("hot-plugged NIC has %q", a)
	}
	a := r.refused(400, "Parameter verification failed.", "PUT", config, "net2", "name=eth2,bridge=nope")
	if a.body.Errors["net2"] != "unable to hotplug net2: bridge 'nope' does not exist" {
		t.Errorf("%v", a.body.Errors)
	}
	r.ok("PUT", config, "delete", "net1")
	if a := g.Address("eth1"); a != "" {
		t.Errorf("unplugged NIC has %q", a)
	}
	r.done("POST", "/nodes/pve/lxc/100/status/reboot")
	if now := r.data("GET", config, "current", "1"); now["nameserver"] != "1.1.1.1" || now["features"] != "nesting=1" {
		t.Errorf("after a reboot: %v", now)
	}
	r.ok("PUT", config, "lock", "backup")
	r.refused(500, "CT is locked (backup)", "PUT", config, "cores", "1")
	r.refused(500, "CT is locked (backup)", "DELETE", "/nodes/pve/lxc/100", "force", "1")
	if exit, _ := r.task("POST", "/nodes/pve/lxc/100/status/stop"); exit != "CT is locked (backup)" {
		t.Errorf("stop of a locked guest: %s", exit)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	r := newRig(t, nil)
	exit, log := r.task("POST", "/nodes/pve/lxc", "vmid", "100", "ostemplate", "local:vztmpl/nope.tar.zst", "rootfs", "local-lvm:1")
	if exit != "unable to create CT 100 - volume 'local:vztmpl/nope.tar.zst' does not exist" || log[len(log)-1] != "TASK ERROR: "+exit {
		t.Errorf("exit %q, log %q", exit, log)
	}
	exit, _ = r.task("POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:100000")
	if !strings.HasPrefix(exit, "unable to create CT 101 - unable to create image") {
		t.Errorf("exit %q", exit)
	}
	if ids := r.node.guests.ids(r.node); len(ids) != 0 || len(r.engine.Guests()) != 0 || len(r.node.storage.Volumes) != 0 {
		t.Errorf("left: %v, %v, %v", ids, r.engine.Guests(), r.node.storage.Volumes)
	}
	// A guest that was to be started and cannot be is there, and its create ended well.
	r.create("102", "net0", "name=eth0,bridge=nope0,ip=manual", "start", "1")
	if exit, _ := r.task("POST", "/nodes/pve/lxc/102/status/start"); exit != "bridge 'nope0' does not exist" {
		t.Errorf("start: %q", exit)
	}
	if exit, _ := r.task("POST", "/nodes/pve/lxc", "vmid", "103", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:1"); exit != "WARNINGS: 1" {
		t.Errorf("systemd without nesting: %q", exit)
	}
}

// TestClaimIsSeenWhole: who finds the configuration of a guest that is being made finds its
// lock too. Without it the guest looked like one that was destroyed by hand, its claim was
// forgotten, and a second create could take the VMID.
func TestClaimIsSeenWhole(t *testing.T) {
	r := newRig(t, nil)
	n := r.node
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		bad := 0
		defer func() { done <- bad }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if g, err := n.guests.load(n, 300); err == nil && g.conf.Values["lock"] != "create" {
				bad++
			}
		}
	}()
	for range 2000 {
		if err := n.guests.claim(n, 300); err != nil {
			t.Error(err)
		}
		if err := n.guests.remove(n, 300); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if bad := <-done; bad > 0 {
		t.Errorf("a claim was seen without its lock %d times", bad)
	}
}
