package pvesim

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func bridges(t *testing.T, r *rig) []string {
	t.Helper()
	names, err := r.engine.Bridges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNetworkStaging(t *testing.T) {
	r := newRig(t, nil)
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	const net = "/nodes/pve/network"
	if a := r.ok("GET", net); a.body.Changes != "" {
		t.Errorf("changes without any: %s", a.body.Changes)
	}
	r.ok("POST", net, "iface", "proxlan", "type", "bridge", "autostart", "1", "comments", "managed\nline two")
	a := r.ok("GET", net)
	for _, want := range []string{"--- /etc/network/interfaces\t", "+++ /etc/network/interfaces.new\t", "\n+auto proxlan\n+iface proxlan inet manual\n", "\n+#managed\n+#line two\n"} {
		if !strings.Contains(a.body.Changes, want) {
			t.Errorf("changes lack %q:\n%s", want, a.body.Changes)
		}
	}
	if got := r.data("GET", net+"/proxlan"); got["comments"] != "managed\nline two\n" || got["active"] != nil || got["method"] != "manual" {
		t.Errorf("%v", got)
	}
	if slices.Contains(bridges(t, r), "proxlan") {
		t.Error("the bridge exists before the reload")
	}
	r.refused(400, "Parameter verification failed.", "POST", net, "iface", "proxlan", "type", "bridge")
	if a := r.refused(400, "Parameter verification failed.", "POST", net, "iface", "vmbr5", "type", "bridge", "cidr", "10.30.0.1/24", "gateway", "10.30.0.254"); a.body.Errors["gateway"] != "Default gateway already exists on interface 'vmbr0'." {
		t.Errorf("%v", a.body.Errors)
	}
	r.refused(500, "bridge 'vmbr6' - unable to find bridge port 'enp99s0'", "POST", net, "iface", "vmbr6", "type", "bridge", "bridge_ports", "enp99s0")
	if a := r.refused(400, "Parameter verification failed.", "POST", net, "iface", "proximity-lan", "type", "bridge"); a.body.Errors["iface"] != "invalid format - invalid network interface name 'proximity-lan'\n" {
		t.Errorf("%v", a.body.Errors)
	}
	r.done("PUT", net)
	if got := r.data("GET", net+"/proxlan"); got["active"] != 1.0 {
		t.Errorf("after the reload: %v", got)
	}
	if !slices.Contains(bridges(t, r), "proxlan") {
		t.Error("the bridge does not exist after the reload")
	}

	// PUT keeps what is not sent, except for the address.
	r.ok("PUT", net+"/proxlan", "type", "bridge", "cidr", "10.20.0.1/24")
	r.ok("PUT", net+"/proxlan", "type", "bridge", "mtu", "1400")
	if got := r.data("GET", net+"/proxlan"); got["cidr"] != nil || got["comments"] == nil || got["autostart"] != 1.0 || got["mtu"] != "1400" {
		t.Errorf("after a PUT: %v", got)
	}
	r.ok("DELETE", net)
	if a := r.ok("GET", net); a.body.Changes != "" {
		t.Errorf("changes after a revert: %s", a.body.Changes)
	}
	r.ok("DELETE", net+"/proxlan")
	r.done("PUT", net)
	if slices.Contains(bridges(t, r), "proxlan") {
		t.Error("the bridge exists after its removal")
	}
}

func TestTooLongNameIsLiveAfterAFailedReload(t *testing.T) {
	r := newRig(t, nil)
	const net = "/nodes/pve/network"
	r.ok("POST", net, "iface", "proximitylan0016", "type", "bridge", "autostart", "1")
	exit, log := r.task("PUT", net)
	if exit != "command 'ifreload -a' failed: exit code 1" || len(log) == 0 || !strings.Contains(log[0], "interface name too long") {
		t.Errorf("exit %q, log %q", exit, log)
	}
	live, _ := os.ReadFile(r.node.interfacesFile())
	if !strings.Contains(string(live), "proximitylan0016") {
		t.Error("the bad entry is not in the live file")
	}
	if a := r.ok("GET", net); a.body.Changes != "" {
		t.Error("something is staged after the reload")
	}
}

func TestHandWrittenBridgeIsListedAndKept(t *testing.T) {
	r := newRig(t, nil)
	live, err := os.ReadFile(r.node.interfacesFile())
	if err != nil {
		t.Fatal(err)
	}
	block := "\nauto proximity-lan\niface proximity-lan inet manual\n\tbridge-ports none\n\tbridge-stp off\n\tbridge-fd 0\n#managed by hand\n"
	if err := os.WriteFile(r.node.interfacesFile(), append(live, block...), 0o644); err != nil {
		t.Fatal(err)
	}
	const net = "/nodes/pve/network"
	r.ok("POST", net, "iface", "vmbr1", "type", "bridge", "autostart", "1")
	r.done("PUT", net)
	found := false
	for _, row := range r.list("GET", net, "type", "any_bridge") {
		if row["iface"] == "proximity-lan" {
			found = row["comments"] == "managed by hand\n" && row["active"] == 1.0
		}
	}
	if !found {
		t.Errorf("not listed: %v", r.list("GET", net))
	}
	if a := r.refused(400, "Parameter verification failed.", "GET", net+"/proximity-lan"); a.body.Errors["iface"] == "" {
		t.Errorf("%v", a.body.Errors)
	}
	r.create("100", "net0", "name=eth0,bridge=proximity-lan,ip=manual")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
}

// TestInterfaceTypes: bonds and VLANs keep their options through the file.
func TestInterfaceTypes(t *testing.T) {
	r := newRig(t, nil)
	r.asRoot()
	for _, nic := range []string{"eno1", "eno2"} {
		r.ok("POST", "/nodes/pve/network", "iface", nic, "type", "eth")
	}
	r.refused(500, "bond 'bond0' - unable to find slave 'eno9'", "POST", "/nodes/pve/network", "iface", "bond0", "type", "bond", "slaves", "eno9", "bond_mode", "active-backup")
	r.ok("POST", "/nodes/pve/network", "iface", "bond0", "type", "bond", "slaves", "eno2 eno1", "bond_mode", "active-backup", "bond-primary", "eno1", "autostart", "1")
	r.param("slaves", "eno1 is already used on interface 'bond0'.", "POST", "/nodes/pve/network", "iface", "bond1", "type", "bond", "slaves", "eno1", "bond_mode", "active-backup")
	r.ok("POST", "/nodes/pve/network", "iface", "vlan7", "type", "vlan", "vlan-raw-device", "vmbr0", "vlan-id", "7", "cidr", "10.7.0.1/24")
	r.ok("POST", "/nodes/pve/network", "iface", "ovs0", "type", "OVSBridge", "ovs_ports", "eno3")
	if b := r.data("GET", "/nodes/pve/network/bond0"); b["type"] != "bond" || b["slaves"] != "eno1 eno2" || b["bond_mode"] != "active-backup" || b["bond-primary"] != "eno1" {
		t.Errorf("%v", b)
	}
	if v := r.data("GET", "/nodes/pve/network/vlan7"); v["type"] != "vlan" || v["vlan-raw-device"] != "vmbr0" || v["vlan-id"] != "7" || v["cidr"] != "10.7.0.1/24" {
		t.Errorf("%v", v)
	}
	if v := r.data("GET", "/nodes/pve/network/ovs0"); v["type"] != "OVSBridge" || v["ovs_ports"] != "eno3" {
		t.Errorf("%v", v)
	}
	r.ok("PUT", "/nodes/pve/network/bond0", "type", "bond", "delete", "bond-primary")
	if b := r.data("GET", "/nodes/pve/network/bond0"); b["bond-primary"] != nil || b["slaves"] != "eno1 eno2" {
		t.Errorf("%v", b)
	}
}
