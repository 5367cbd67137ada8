package pvesim

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestGroupsAndPools: rights by groups and by the pool of a guest.
func TestGroupsAndPools(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	r.asRoot()
	root := r.token
	r.ok("POST", "/access/groups", "groupid", "ops")
	r.refused(500, "create group failed: group 'ops' already exists", "POST", "/access/groups", "groupid", "ops")
	r.refused(500, "create user failed: no such group 'none'", "POST", "/access/users", "userid", "a@pve", "groups", "none")
	r.ok("POST", "/access/users", "userid", "a@pve", "groups", "ops", "password", "password1")
	r.refused(500, "create user failed: auth domain 'nope' does not exist", "POST", "/access/users", "userid", "b@nope", "password", "password1")
	r.ok("POST", "/pools", "poolid", "p")
	r.refused(500, "create pool failed: parent 'q' of pool 'q/r' does not exist", "POST", "/pools", "poolid", "q/r")
	r.refused(500, "create pool failed: pool name must start with a letter", "POST", "/pools", "poolid", "1p")
	r.ok("PUT", "/access/acl", "path", "/pool/p", "groups", "ops", "roles", "PVEVMAdmin")
	token := r.data("POST", "/access/users/a@pve/token/tk", "privsep", "0")["value"].(string)

	r.token = "PVEAPIToken=a@pve!tk=" + token
	r.refused(403, "Permission check failed (/vms/100, VM.Audit)", "GET", "/nodes/pve/lxc/100/config")
	r.token = root
	r.ok("PUT", "/pools", "poolid", "p", "vms", "100")
	r.token = "PVEAPIToken=a@pve!tk=" + token
	r.ok("GET", "/nodes/pve/lxc/100/config")
	r.refused(403, "Permission check failed (/pool/none, Pool.Allocate)", "PUT", "/pools", "poolid", "none", "comment", "x")
	r.token = root
	r.refused(500, "update pools failed: pool 'none' does not exist", "PUT", "/pools", "poolid", "none", "comment", "x")
	r.refused(500, "delete pool failed: pool 'p' is not empty (contains VM 100)", "DELETE", "/pools", "poolid", "p")
	r.ok("POST", "/pools", "poolid", "q")
	r.refused(500, "update pools failed: VM 100 belongs already to pool 'p' and 'allow-move' is not set", "PUT", "/pools", "poolid", "q", "vms", "100")
	r.ok("PUT", "/pools", "poolid", "q", "vms", "100", "allow-move", "1")
	r.done("DELETE", "/nodes/pve/lxc/100")
	r.ok("DELETE", "/pools", "poolid", "q")
	r.ok("DELETE", "/access/groups/ops")
	if acl := r.list("GET", "/access/acl"); strings.Contains(strings.ToLower(http.StatusText(200)+acl[0]["ugid"].(string)), "ops") {
		t.Errorf("the group's entry stayed: %v", acl)
	}
	r.param("roleid", "cannot use role ID starting with the (case-insensitive) 'PVE' namespace", "POST", "/access/roles", "roleid", "pveX")
	r.refused(500, "auto-generated role 'PVEAdmin' cannot be modified", "PUT", "/access/roles/PVEAdmin", "privs", "VM.Audit")
	r.refused(403, "Permission check failed (URI '/access/password' not available with API token, need proper ticket.)", "PUT", "/access/password", "userid", "a@pve", "password", "password2")
}

// TestNobodyHandsOutMoreThanHeHas: VM.Allocate on a guest lets grant there, but only what
// one has oneself.
func TestNobodyHandsOutMoreThanHeHas(t *testing.T) {
	r := newRig(t, nil)
	a := r.refused(500, "ACL update failed: 400 Parameter verification failed.", "PUT", "/access/acl", "path", "/vms/100", "users", seedUser, "roles", "Administrator")
	if !strings.Contains(a.body.Message, "Cannot add role 'Administrator' - requires 'Permissions.Modify' or superset of privileges.") {
		t.Errorf("%q", a.body.Message)
	}
	r.ok("PUT", "/access/acl", "path", "/vms/100", "users", seedUser, "roles", "PVETemplateUser")
	r.refused(403, "Permission check failed (/nodes, Permissions.Modify)", "PUT", "/access/acl", "path", "/nodes", "users", seedUser, "roles", "PVEAuditor")
}

// TestTemplatesOfOthers: upload, download from this machine, overwriting, checksums.
func TestTemplatesOfOthers(t *testing.T) {
	r := newRig(t, nil)
	r.asRoot()
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("archive")) }))
	defer files.Close()
	const path = "/nodes/pve/storage/local/download-url"
	get := func(name string, kv ...string) string {
		t.Helper()
		exit, _ := r.task("POST", path, append([]string{"url", files.URL + "/x", "filename", name, "content", "vztmpl"}, kv...)...)
		return exit
	}
	if exit := get("debian-12-own_1.tar.xz"); exit != "OK" {
		t.Fatal(exit)
	}
	if exit := get("debian-12-own_1.tar.xz"); exit != "refusing to override existing file '/var/lib/vz/template/cache/debian-12-own_1.tar.xz'" {
		t.Error(exit)
	}
	if exit := get("b.tar.xz", "checksum", "00", "checksum-algorithm", "md5"); !strings.HasPrefix(exit, "checksum mismatch: got ") {
		t.Error(exit)
	}
	if exit, _ := r.task("POST", path, "url", "http://example.org/x.tar.xz", "filename", "x.tar.xz", "content", "vztmpl"); !strings.Contains(exit, "unable to resolve host address 'example.org'") {
		t.Error(exit)
	}
	r.refused(500, "can't upload to storage type 'lvmthin', not a file based storage!", "POST", "/nodes/pve/storage/local-lvm/download-url",
		"url", files.URL, "filename", "x.tar.xz", "content", "vztmpl")
	r.done("POST", "/nodes/pve/lxc", "vmid", "100", "ostemplate", "local:vztmpl/debian-12-own_1.tar.xz", "rootfs", "local-lvm:1", "features", "nesting=1")
	r.done("DELETE", "/nodes/pve/storage/local/content/local:vztmpl/debian-12-own_1.tar.xz")
	if list := r.list("GET", "/nodes/pve/storage/local/content", "content", "vztmpl"); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

// TestStorageDefinitions: required, fixed and unknown options, use by a guest.
func TestStorageDefinitions(t *testing.T) {
	r := newRig(t, nil)
	r.asRoot()
	r.refused(500, "missing value for required option 'thinpool'", "POST", "/storage", "storage", "s1", "type", "lvmthin", "vgname", "pve")
	r.refused(500, "unexpected property 'vgname'", "POST", "/storage", "storage", "s1", "type", "dir", "path", "/x", "vgname", "pve")
	r.ok("POST", "/storage", "storage", "s1", "type", "dir", "path", "/x", "content", "rootdir")
	r.refused(500, "update storage failed: unable to delete required option 'path'", "PUT", "/storage/s1", "delete", "path")
	r.done("POST", "/nodes/pve/lxc", "vmid", "100", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "s1:1", "features", "nesting=1")
	r.ok("PUT", "/storage/s1", "disable", "1")
	r.refused(500, "storage 's1' is disabled", "POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "s1:1")
	r.ok("PUT", "/storage/s1", "delete", "disable", "nodes", "other")
	r.refused(500, "storage 's1' is not available on node 'pve'", "POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "s1:1")
	r.ok("DELETE", "/storage/s1")
	r.refused(500, "delete storage failed: storage 's1' does not exist", "DELETE", "/storage/s1")
}

// TestHAResources: a managed guest shows it.
func TestHAResources(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	r.asRoot()
	r.ok("POST", "/cluster/ha/resources", "sid", "ct:100", "state", "stopped")
	r.refused(500, "create resource failed: resource ID 'ct:100' already defined", "POST", "/cluster/ha/resources", "sid", "100")
	if ha := r.data("GET", "/nodes/pve/lxc/100/status/current")["ha"].(map[string]any); ha["managed"] != 1.0 || ha["state"] != "stopped" {
		t.Errorf("%v", ha)
	}
	if vms := r.list("GET", "/cluster/resources", "type", "vm"); vms[0]["hastate"] != "stopped" {
		t.Errorf("%v", vms)
	}
	r.ok("DELETE", "/cluster/ha/resources/ct:100")
	if ha := r.data("GET", "/nodes/pve/lxc/100/status/current")["ha"].(map[string]any); ha["managed"] != 0.0 {
		t.Errorf("%v", ha)
	}
}
