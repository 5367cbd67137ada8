package pvesim

import (
	"net/http"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// param demands a 400 that says this of one parameter.
func (r *rig) param(name, text, method, path string, kv ...string) {
	r.t.Helper()
	a := r.refused(http.StatusBadRequest, "Parameter verification failed.", method, path, kv...)
	if a.body.Errors[name] != text {
		r.t.Errorf("%s %s %v: %v, want %s: %q", method, path, kv, a.body.Errors, name, text)
	}
}

// TestFirewall: rules by position, references, macros, digests.
func TestFirewall(t *testing.T) {
	r := newRig(t, nil)
	r.asRoot()
	const rules = "/nodes/pve/lxc/100/firewall/rules"
	r.ok("POST", "/cluster/firewall/aliases", "name", "Web", "cidr", "10.0.0.1/32")
	r.param("name", "alias 'web' already exists", "POST", "/cluster/firewall/aliases", "name", "web", "cidr", "10.0.0.2")
	r.ok("POST", "/cluster/firewall/ipset", "name", "apps")
	r.ok("POST", "/cluster/firewall/ipset/apps", "cidr", "10.20.0.0/24", "nomatch", "1")
	r.param("cidr", "address '10.20.0.0/24' already exists", "POST", "/cluster/firewall/ipset/apps", "cidr", "10.20.0.0/24")
	r.param("cidr", "a zero prefix is not allowed in ipset entries", "POST", "/cluster/firewall/ipset/apps", "cidr", "0.0.0.0/0")
	r.refused(500, "IPSet 'apps' is not empty", "DELETE", "/cluster/firewall/ipset/apps")
	r.refused(500, "no such IPSet 'none'", "GET", "/cluster/firewall/ipset/none")

	r.param("source", "no such alias 'nope'", "POST", rules, "type", "in", "action", "ACCEPT", "source", "nope")
	r.param("dest", "no such ipset 'nope'", "POST", rules, "type", "in", "action", "ACCEPT", "dest", "+nope")
	r.param("type", "invalid rule type 'forward' for rule_env 'ct'", "POST", rules, "type", "forward", "action", "ACCEPT")
	r.param("action", "unknown action 'ALLOW'", "POST", rules, "type", "in", "action", "ALLOW")
	r.param("macro", "unknown macro 'Nope'", "POST", rules, "type", "in", "action", "ACCEPT", "macro", "Nope")
	r.param("dport", "parameter 'dport' already define in macro (value = '80')", "POST", rules, "type", "in", "action", "ACCEPT", "macro", "http", "proto", "tcp", "dport", "81")
	r.param("dport", "protocol 'gre' does not support ports", "POST", rules, "type", "in", "action", "ACCEPT", "proto", "gre", "dport", "80")
	r.param("iface", "value does not match the regex pattern 'net\\d+'", "POST", rules, "type", "in", "action", "ACCEPT", "iface", "eth0")
	r.param("dest", "detected mixed ipv4/ipv6 addresses in rule", "POST", rules, "type", "in", "action", "ACCEPT", "source", "10.0.0.1", "dest", "fd00::1")

	r.ok("POST", rules, "type", "in", "action", "ACCEPT", "macro", "ssh", "source", "dc/web")
	r.ok("POST", rules, "type", "out", "action", "DROP", "dest", "+dc/apps", "enable", "1", "pos", "1")
	list := r.list("GET", rules)
	if len(list) != 2 || list[0]["action"] != "DROP" || list[1]["macro"] != "SSH" || list[1]["enable"] != 0.0 || list[1]["ipversion"] != 4.0 {
		t.Errorf("%v", list)
	}
	digest := list[0]["digest"].(string)
	r.ok("PUT", rules+"/0", "moveto", "2", "digest", digest)
	r.refused(500, "detected modified configuration - file changed by other user? Try again.", "DELETE", rules+"/0", "digest", digest)
	if list = r.list("GET", rules); list[1]["action"] != "DROP" {
		t.Errorf("not moved: %v", list)
	}
	r.refused(500, "no rule at position 7", "GET", rules+"/7")
	r.param("delete", "unable to delete required property 'action'", "PUT", rules+"/0", "delete", "action")

	r.ok("PUT", "/cluster/firewall/options", "enable", "1", "policy_in", "DROP")
	if o := r.data("GET", "/cluster/firewall/options"); o["enable"] != 1.0 || o["policy_in"] != "DROP" {
		t.Errorf("%v", o)
	}
	r.param("delete", "no such option 'x1'", "PUT", "/cluster/firewall/options", "delete", "x1")
	r.ok("POST", "/cluster/firewall/groups", "group", "web")
	r.param("type", "invalid rule type 'group' for rule_env 'group'", "POST", "/cluster/firewall/groups/web", "type", "group", "action", "other")
	r.refused(500, "no such security group 'none'", "GET", "/cluster/firewall/groups/none")
}

// TestSDN: what is declared runs only after it was applied, and is then a bridge.
func TestSDN(t *testing.T) {
	r := newRig(t, nil)
	r.asRoot()
	a := r.refused(500, "create sdn zone object failed: 400 Parameter verification failed.", "POST", "/cluster/sdn/zones", "zone", "z1", "type", "simple", "ipam", "none")
	if !strings.Contains(a.body.Message, "ipam: none not existing") {
		t.Errorf("%q", a.body.Message)
	}
	r.refused(500, "missing value for required option 'bridge'", "POST", "/cluster/sdn/zones", "zone", "z1", "type", "vlan")
	r.refused(500, "unexpected property 'bridge'", "POST", "/cluster/sdn/zones", "zone", "z1", "type", "simple", "bridge", "vmbr0")
	r.ok("POST", "/cluster/sdn/zones", "zone", "z1", "type", "simple", "ipam", "pve")
	r.ok("POST", "/cluster/sdn/zones", "zone", "vl", "type", "vlan", "bridge", "vmbr0")
	r.refused(500, "create sdn zone object failed: sdn zone object ID 'z1' already defined", "POST", "/cluster/sdn/zones", "zone", "z1", "type", "simple")
	a = r.refused(500, "create sdn vnet object failed: 400 Parameter verification failed.", "POST", "/cluster/sdn/vnets", "vnet", "v1", "zone", "z1", "tag", "7")
	if !strings.Contains(a.body.Message, "vlan tag is not allowed on simple zone") {
		t.Errorf("%q", a.body.Message)
	}
	a = r.refused(500, "create sdn vnet object failed: 400 Parameter verification failed.", "POST", "/cluster/sdn/vnets", "vnet", "v2", "zone", "vl")
	if !strings.Contains(a.body.Message, "tag: missing vlan tag") {
		t.Errorf("%q", a.body.Message)
	}
	r.ok("POST", "/cluster/sdn/vnets", "vnet", "v1", "zone", "z1")
	r.ok("POST", "/cluster/sdn/vnets", "vnet", "v2", "zone", "vl", "tag", "7")
	a = r.refused(500, "create sdn subnet object failed: 400 Parameter verification failed.", "POST", "/cluster/sdn/vnets/v1/subnets", "subnet", "10.7.0.0/24", "type", "subnet", "gateway", "10.8.0.1")
	if !strings.Contains(a.body.Message, "gateway: 10.8.0.1 is not in subnet 10.7.0.0/24") {
		t.Errorf("%q", a.body.Message)
	}
	r.ok("POST", "/cluster/sdn/vnets/v1/subnets", "subnet", "10.7.0.0/24", "type", "subnet", "gateway", "10.7.0.1", "dhcp-range", "start-address=10.7.0.10,end-address=10.7.0.20")
	if p := r.list("GET", "/cluster/sdn/zones", "pending", "1"); p[0]["state"] != "new" {
		t.Errorf("%v", p)
	}
	if got, _ := r.node.engine.Bridges(t.Context()); strings.Contains(strings.Join(got, " "), "v1") {
		t.Error("a network runs before it was applied")
	}
	r.done("PUT", "/cluster/sdn")
	waitFor(t, func() bool {
		got, _ := r.node.engine.Bridges(t.Context())
		return strings.Contains(strings.Join(got, " "), "v1")
	})
	if z := r.list("GET", "/nodes/pve/sdn/zones"); len(z) != 2 || z[1]["status"] != "available" {
		t.Errorf("%v", z)
	}
	r.create("100", "net0", "name=eth0,bridge=v1,ip=dhcp")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	a = r.refused(500, "delete sdn vnet object failed: 400 Parameter verification failed.", "DELETE", "/cluster/sdn/vnets/v1")
	if !strings.Contains(a.body.Message, "Can't delete vnet if subnets exists") {
		t.Errorf("%q", a.body.Message)
	}
	r.ok("DELETE", "/cluster/sdn/vnets/v1/subnets/z1-10.7.0.0-24")
	if s := r.list("GET", "/cluster/sdn/vnets/v1/subnets", "pending", "1"); s[0]["state"] != "deleted" {
		t.Errorf("%v", s)
	}
	r.ok("POST", "/cluster/sdn/rollback")
	if s := r.list("GET", "/cluster/sdn/vnets/v1/subnets"); len(s) != 1 || s[0]["cidr"] != "10.7.0.0/24" {
		t.Errorf("%v", s)
	}
	token := r.ok("POST", "/cluster/sdn/lock").body.Data.(string)
	r.refused(500, "delete sdn zone object failed: invalid lock token provided!", "DELETE", "/cluster/sdn/zones/vl")
	r.ok("DELETE", "/cluster/sdn/vnets/v2", "lock-token", token)
	r.ok("DELETE", "/cluster/sdn/zones/vl", "lock-token", token)
	r.ok("DELETE", "/cluster/sdn/lock", "lock-token", token)
}

// TestSDNUseIsGrantedOnTheZone: a guest on a network needs a right on its zone, not on
// localnetwork.
func TestSDNUseIsGrantedOnTheZone(t *testing.T) {
	r := newRig(t, nil)
	daemon := r.token
	r.asRoot()
	r.ok("POST", "/cluster/sdn/zones", "zone", "z1", "type", "simple")
	r.ok("POST", "/cluster/sdn/vnets", "vnet", "v1", "zone", "z1")
	r.done("PUT", "/cluster/sdn")
	for _, a := range r.node.Access().ACLs() {
		if a.Path == "/sdn" {
			if err := r.node.Access().SetACL(a, true); err != nil {
				t.Fatal(err)
			}
			a.Path = "/sdn/zones/localnetwork"
			if err := r.node.Access().SetACL(a, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.token = daemon
	r.refused(403, "Permission check failed (/sdn/zones/z1/v1, SDN.Use)", "POST", "/nodes/pve/lxc",
		"vmid", "100", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:1", "net0", "name=eth0,bridge=v1")
}

// TestSDNOnACluster: each node takes over what was applied by a reload of its own; one that
// was away, or whose reload failed, says that it has not, until it reloads. In a vxlan zone
// guests of all nodes are on one network, as long as the nodes reach each other.
func TestSDNOnACluster(t *testing.T) {
	fabric := &mem.Fabric{}
	engines := map[string]*mem.Engine{}
	r := newRig(t, func(c *Config) {
		for _, name := range []string{"pve", "pve2", "pve3"} {
			e, err := mem.New(mem.Config{Fabric: fabric, TemplateDir: c.TemplateDir})
			if err != nil {
				t.Fatal(err)
			}
			engines[name] = e
			t.Cleanup(func() { _ = e.Close() })
		}
		c.Engine = engines["pve"]
		c.Peers = []Peer{{NodeName: "pve2", Engine: engines["pve2"]}, {NodeName: "pve3", Engine: engines["pve3"]}}
	})
	r.asRoot()
	for _, n := range r.node.Nodes() {
		if err := n.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	status := func(node string) string {
		rows := r.list("GET", "/nodes/"+node+"/sdn/zones/z1/content")
		if len(rows) != 1 || rows[0]["vnet"] != "v1" {
			t.Fatalf("%s: %v", node, rows)
		}
		return rows[0]["status"].(string)
	}
	var peers []string
	for _, n := range r.node.Nodes() {
		peers = append(peers, n.ip())
	}
	r.ok("POST", "/cluster/sdn/zones", "zone", "z1", "type", "vxlan", "peers", strings.Join(peers, ","), "mtu", "1450")
	r.ok("POST", "/cluster/sdn/vnets", "vnet", "v1", "zone", "z1", "tag", "7")
	r.node.Nodes()[2].SetOnline(false)
	r.node.Faults().Add(Fault{Method: "PUT", Path: "/nodes/pve2/network", Nth: 1, Action: ActTaskFails, Text: "command 'ifreload -a' failed: exit code 1"})
	r.done("PUT", "/cluster/sdn")
	waitFor(t, func() bool { return status("pve") == "available" })
	r.node.Nodes()[2].SetOnline(true)
	for _, node := range []string{"pve2", "pve3"} {
		if got := status(node); got != "pending" {
			t.Errorf("%s: %s", node, got)
		}
		r.done("PUT", "/nodes/"+node+"/network")
		if got := status(node); got != "available" {
			t.Errorf("%s after its reload: %s", node, got)
		}
	}
	engines["pve"].SetDHCP("v1", func(mac, _ string) (string, string, bool) { return "10.7.0.9/24", "10.7.0.1", mac != "" })
	r.done("POST", "/nodes/pve3/lxc", "vmid", "100", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:1",
		"net0", "name=eth0,bridge=v1,ip=dhcp", "unprivileged", "1", "features", "nesting=1")
	r.done("POST", "/nodes/pve3/lxc/100/status/start")
	guest, ok := engines["pve3"].Guest(100)
	if !ok {
		t.Fatal("no guest")
	}
	r.node.Nodes()[0].SetOnline(false)
	engines["pve3"].RenewDHCP("v1")
	if got := guest.Address("eth0"); got != "" {
		t.Errorf("an address from a node that is away: %s", got)
	}
	r.node.Nodes()[0].SetOnline(true)
	if got := guest.Address("eth0"); got != "10.7.0.9/24" {
		t.Errorf("got %q over the tunnel", got)
	}
}
