package pvesim

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// documentedRole reads the privileges that the sample configuration tells to give the
// daemon's token.
func documentedRole(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("../../manifests/config/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`pveum role add \S+ --privs "([^"]+)"`).FindSubmatch(raw)
	if m == nil {
		t.Fatal("the sample configuration names no role")
	}
	return strings.Fields(string(m[1]))
}

// quickstart sends what the platform sends for its quickstart with a bridge that the API
// can make and consoles as the way into guests, until one request is refused, and returns
// what the refusal says.
func (r *rig) quickstart() string {
	r.t.Helper()
	template := "local:vztmpl/" + testTemplate
	guest := []string{
		"vmid", "200", "ostemplate", template, "rootfs", "local-lvm:4", "mp0", "local-lvm:1,mp=/data,backup=1", "hostname", "app", "memory", "256", "cores", "1",
		"unprivileged", "1", "features", "nesting=1", "net0", "name=eth0,bridge=proxlan,ip=dhcp", "tags", "proximity", "onboot", "1", "description", "mark",
	}
	for _, step := range []struct {
		task         bool
		method, path string
		kv           []string
	}{
		{false, "GET", "/cluster/status", nil},
		{false, "GET", "/nodes/pve/status", nil},
		{false, "GET", "/nodes/pve/network/vmbr0", nil},
		{false, "POST", "/nodes/pve/network", []string{"iface", "proxlan", "type", "bridge", "autostart", "1"}},
		{true, "PUT", "/nodes/pve/network", nil},
		{false, "POST", "/cluster/sdn/zones", []string{"zone", "lan", "type", "vxlan", "peers", "192.168.50.2"}},
		{false, "POST", "/cluster/sdn/vnets", []string{"vnet", "lan", "zone", "lan", "tag", "7", "alias", "mark"}},
		{true, "PUT", "/cluster/sdn", nil},
		{false, "GET", "/nodes/pve/sdn/zones/lan/content", nil},
		{false, "GET", "/nodes/pve/storage/local-lvm/status", nil},
		{false, "GET", "/nodes/pve/storage/local/content", []string{"content", "vztmpl"}},
		{false, "POST", "/nodes/pve/storage/local/download-url", []string{"url", "http://127.0.0.1:1/x.tar.zst", "filename", "x.tar.zst", "content", "vztmpl"}},
		{true, "POST", "/nodes/pve/lxc", guest},
		{false, "GET", "/nodes/pve/lxc/200/config", nil},
		{true, "POST", "/nodes/pve/lxc/200/status/start", nil},
		{false, "PUT", "/nodes/pve/lxc/200/config", []string{"cores", "2"}},
		{false, "PUT", "/nodes/pve/lxc/200/config", []string{"memory", "512"}},
		{false, "PUT", "/nodes/pve/lxc/200/config", []string{"net1", "name=eth1,bridge=vmbr0,ip=dhcp"}},
		{false, "PUT", "/nodes/pve/lxc/200/config", []string{"description", "other"}},
		{false, "POST", "/nodes/pve/lxc/200/termproxy", nil},
		{true, "POST", "/nodes/pve/lxc/200/status/stop", nil},
		{true, "DELETE", "/nodes/pve/lxc/200", []string{"purge", "1"}},
	} {
		a := r.do(step.method, step.path, step.kv...)
		if a.code != 200 {
			return fmt.Sprintf("%s %s: %s", step.method, step.path, a.reason)
		}
		if step.task {
			r.wait(a.body.Data.(string))
		}
	}
	return ""
}

// asRole makes a rig whose token has exactly these privileges on everything, as has its
// user.
func asRole(t *testing.T, privileges []string) *rig {
	r := newRig(t, func(c *Config) { c.Packages = map[string]string{"pve-container": "6.1.3"} })
	s := r.node.Access()
	err := s.SetRole("Minimal", privileges)
	if err == nil {
		err = s.SetUser("min@pve", "", "", true)
	}
	if err == nil {
		err = s.SetToken("min@pve", "t", "secret", access.Token{PrivSep: true})
	}
	for _, subject := range []string{"min@pve", "min@pve!t"} {
		if err == nil {
			err = s.SetACL(access.ACL{Path: "/", Subject: subject, Role: "Minimal", Propagate: true}, false)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.token = "PVEAPIToken=min@pve!t=secret"
	// The reader of tasks in this test is the token itself: it may see what it started.
	return r
}

// spare are privileges whose place another one of the role takes: who may allocate or use
// a thing may look at it, too.
var spare = []string{"Datastore.Audit"}

// TestDocumentedRoleSuffices, and each of its privileges that is missing is named.
func TestDocumentedRoleSuffices(t *testing.T) {
	role := documentedRole(t)
	if refusal := asRole(t, role).quickstart(); refusal != "" {
		t.Fatalf("the documented role does not suffice: %s", refusal)
	}
	for _, missing := range role {
		t.Run(missing, func(t *testing.T) {
			rest := slices.DeleteFunc(slices.Clone(role), func(p string) bool { return p == missing })
			refusal := asRole(t, rest).quickstart()
			if slices.Contains(spare, missing) {
				if refusal != "" {
					t.Errorf("without %s, which is not needed: %s", missing, refusal)
				}
				return
			}
			// VM.Allocate at create is the one refusal that Proxmox words without a name.
			if !strings.Contains(refusal, missing) && !(missing == "VM.Allocate" && strings.HasSuffix(refusal, "Permission check failed")) {
				t.Errorf("without %s: %q", missing, refusal)
			}
		})
	}
}
