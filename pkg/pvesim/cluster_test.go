package pvesim

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

func TestClusterOfThree(t *testing.T) {
	r := newCluster(t, 3, nil)
	rows := r.list("GET", "/cluster/status")
	if len(rows) != 4 || rows[0]["type"] != "cluster" || rows[0]["quorate"] != 1.0 || rows[3]["name"] != "pve3" || rows[3]["nodeid"] != 3.0 || rows[3]["local"] != 0.0 || rows[3]["ip"] != "192.168.50.4" {
		t.Errorf("status %v", rows)
	}
	fingerprints := map[any]bool{}
	for _, row := range r.list("GET", "/nodes") {
		fingerprints[row["ssl_fingerprint"]] = true
	}
	if len(fingerprints) != 3 {
		t.Errorf("fingerprints %v", fingerprints)
	}

	r.createOn("pve2", "100")
	r.create("101")
	r.done("POST", "/nodes/pve2/lxc/100/status/start")
	r.refused(500, "CT 100 already exists on node 'pve2'", "POST", "/nodes/pve3/lxc", "vmid", "100", "ostemplate", "local:vztmpl/"+testTemplate)
	r.refused(500, "Configuration file 'nodes/pve/lxc/100.conf' does not exist", "GET", "/nodes/pve/lxc/100/config")
	if got := r.ok("GET", "/cluster/nextid").body.Data; got != "102" {
		t.Errorf("nextid %v", got)
	}
	var where []string
	for _, row := range r.list("GET", "/cluster/resources", "type", "vm") {
		where = append(where, fmt.Sprintf("%v@%v=%v", row["id"], row["node"], row["status"]))
	}
	if strings.Join(where, " ") != "lxc/100@pve2=running lxc/101@pve=stopped" {
		t.Errorf("resources %v", where)
	}
	var types []string
	for _, row := range r.list("GET", "/cluster/tasks") {
		types = append(types, fmt.Sprintf("%v:%v:%v", row["node"], row["type"], row["status"]))
	}
	slices.Sort(types)
	if strings.Join(types, " ") != "pve2:vzcreate:OK pve2:vzstart:OK pve:vzcreate:OK" {
		t.Errorf("tasks %v", types)
	}
	// The storage of the same name is another disk on another node.
	if rows := r.list("GET", "/nodes/pve3/storage/local-lvm/content"); len(rows) != 0 {
		t.Errorf("volumes on pve3: %v", rows)
	}
}

func TestNodeGoesAway(t *testing.T) {
	r := newCluster(t, 3, nil)
	r.createOn("pve2", "100")
	r.done("POST", "/nodes/pve2/lxc/100/status/start")
	second := r.node.Nodes()[1]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- second.ServeAPI(l) }()
	defer func() { _ = r.node.Close(); <-served }()

	second.SetOnline(false)
	if a := r.do("GET", "/nodes/pve2/lxc/100/status/current"); a.code != 595 || a.reason != "No route to host" || a.raw != "" {
		t.Errorf("%d %s %q", a.code, a.reason, a.raw)
	}
	r.refused(595, "No route to host", "POST", "/nodes/pve2/lxc/100/status/stop")
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a node that is away answers")
		}
		_ = conn.Close()
	}
	for _, row := range r.list("GET", "/cluster/resources", "type", "node") {
		want := "online"
		if row["node"] == "pve2" {
			want = "offline"
		}
		if row["status"] != want || (row["uptime"] != nil) != (want == "online") {
			t.Errorf("node %v", row)
		}
	}
	r.create("101") // two of three are enough
	r.node.Nodes()[2].SetOnline(false)
	if rows := r.list("GET", "/cluster/status"); rows[0]["quorate"] != 0.0 {
		t.Errorf("status %v", rows[0])
	}
	r.refused(500, "cluster not ready - no quorum?", "POST", "/nodes/pve/lxc", "vmid", "102", "ostemplate", "local:vztmpl/"+testTemplate)
	r.ok("GET", "/nodes/pve/lxc/101/config")
	if a := r.do("PUT", "/nodes/pve/lxc/101/config", "cores", "2"); a.code != 500 || !strings.HasSuffix(a.reason, " - Permission denied") {
		t.Errorf("a write without quorum: %d %s", a.code, a.reason)
	}

	second.SetOnline(true)
	if row := r.data("GET", "/nodes/pve2/lxc/100/status/current"); row["status"] != "running" {
		t.Errorf("behind the pulled cable the guest is %v", row["status"])
	}
}

// TestResourcesLag looks at the list with a node's own eyes, in virtual time.
func TestResourcesLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, _ := mem.New(mem.Config{})
		other, _ := mem.New(mem.Config{})
		n, err := New(Config{Dir: t.TempDir(), Engine: first, Peers: []Peer{{NodeName: "pve2", Engine: other}}, ResourceLag: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		second := n.Nodes()[1]
		synctest.Wait()
		if err := second.guests.claim(second, 100); err != nil {
			t.Fatal(err)
		}
		status := func() string {
			c := &call{node: n, ctx: t.Context(), who: identity{id: "root@pam"}, params: map[string]string{"type": "vm"}}
			row := resourceRows(t, c)[0]
			return fmt.Sprintf("%v %v %v", row["status"], row["name"], row["lock"])
		}
		if got := status(); got != "unknown <nil> create" {
			t.Errorf("a new guest shows as %q", got)
		}
		time.Sleep(11 * time.Second)
		if got := status(); got != "stopped CT100 create" {
			t.Errorf("after a cycle it shows as %q", got)
		}
		second.SetOnline(false)
		time.Sleep(4 * time.Minute)
		if got := status(); got != "stopped CT100 create" {
			t.Errorf("what a silent node told is %q", got)
		}
		time.Sleep(2 * time.Minute)
		if got := status(); got != "unknown <nil> create" {
			t.Errorf("what a node told long ago is %q", got)
		}
	})
}

// resourceRows is what /cluster/resources would send.
func resourceRows(t *testing.T, c *call) []map[string]any {
	t.Helper()
	res, err := clusterResources(c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(res.data)
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(raw, &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}
