package pvesim

import (
	"strings"
	"testing"
	"time"
)

func TestGraphs(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	rows := r.list("GET", "/nodes/pve/lxc/100/rrddata", "timeframe", "hour")
	last := rows[len(rows)-1]
	if len(rows) != maxSamples || len(rows[0]) != 1 || last["maxmem"] != float64(256<<20) && rows[len(rows)-2]["maxmem"] != float64(256<<20) {
		t.Errorf("%d rows, first %v, last %v", len(rows), rows[0], last)
	}
	var s guestStore
	s.init()
	start := time.Unix(60_000, 0)
	for i := range 200 {
		s.remember(100, vmStats{NetIn: int64(i) * 600}, start.Add(time.Duration(i)*30*time.Second))
	}
	if list := s.history[100]; len(list) != maxSamples || list[maxSamples-1].minute != 1099 {
		t.Errorf("%d samples, last %+v", len(list), list[len(list)-1])
	}
	row := map[string]any{}
	fillRRD(row, sample{2, vmStats{Status: "running", NetIn: 1200}}, sample{1, vmStats{}})
	if row["netin"] != 20.0 {
		t.Errorf("row %v", row)
	}
}

func TestBulkActions(t *testing.T) {
	r := newRig(t, nil)
	r.asRoot()
	r.create("100", "onboot", "1", "startup", "order=2")
	r.create("101", "onboot", "1", "startup", "order=1")
	r.create("102")
	r.done("POST", "/nodes/pve/startall")
	if log := strings.Join(r.log(r.lastTask("startall")), "|"); log != "Starting CT 101|Starting CT 100|TASK OK" {
		t.Errorf("log %s", log)
	}
	r.done("POST", "/nodes/pve/startall", "force", "1", "vms", "102")
	g, _ := r.engine.Guest(102)
	g.HangOnShutdown(true)
	r.done("POST", "/nodes/pve/stopall", "timeout", "1", "max-workers", "1")
	log := strings.Join(r.log(r.lastTask("stopall")), "|")
	if log != "Stopping CT 102 (timeout = 1 seconds)|Stopping CT 100 (timeout = 1 seconds)|Stopping CT 101 (timeout = 1 seconds)|TASK OK" {
		t.Errorf("log %s", log)
	}
	for _, g := range r.engine.Guests() {
		if g.Running() {
			t.Errorf("guest %d runs", g.VMID())
		}
	}
	r.token = "PVEAPIToken=" + r.node.Credentials().TokenID + "=" + r.node.Credentials().TokenSecret
	r.refused(403, "Permission check failed (/, VM.PowerMgmt)", "POST", "/nodes/pve/startall")
	r.done("POST", "/nodes/pve/startall", "vms", "101") // named, so the right on it is enough
}
