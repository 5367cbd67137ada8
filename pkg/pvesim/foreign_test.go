package pvesim

import "testing"

// What others do to a node shows where the real one shows it.
func TestWhatOthersDoToANode(t *testing.T) {
	r := newRig(t, nil)
	find := func(rows []map[string]any, key, value string) map[string]any {
		for _, row := range rows {
			if row[key] == value {
				return row
			}
		}
		t.Fatalf("no row has %s %s: %v", key, value, rows)
		return nil
	}
	row := func(id string) map[string]any { return find(r.list("GET", "/cluster/resources"), "id", id) }
	r.node.SetMemory(8<<30, 7<<30)
	if n := row("node/pve"); n["mem"] != float64(7<<30) || n["maxmem"] != float64(8<<30) || n["hastate"] != nil {
		t.Errorf("node: %v", n)
	}
	r.node.SetMaintenance(true)
	if n := row("node/pve"); n["hastate"] != "maintenance" || n["status"] != "online" {
		t.Errorf("node: %v", n)
	}
	before := row("storage/pve/local-lvm")["disk"].(float64)
	r.node.FillStorage("local-lvm", 100<<30, 0.93)
	if s := row("storage/pve/local-lvm"); s["disk"] != before+float64(100<<30) {
		t.Errorf("storage: %v", s)
	}
	pool := find(r.list("GET", "/nodes/pve/disks/lvmthin"), "lv", "data")
	if share := pool["metadata_used"].(float64) / pool["metadata_size"].(float64); share < 0.92 || share > 0.94 {
		t.Errorf("pool: %v", pool)
	}
	r.node.SetStorageDown("local-lvm", true)
	if s := row("storage/pve/local-lvm"); s["status"] != "unknown" || s["disk"] != nil {
		t.Errorf("storage: %v", s)
	}
	if s := find(r.list("GET", "/nodes/pve/storage", "enabled", "1"), "storage", "local-lvm"); s["active"] != float64(0) || s["total"] != float64(0) {
		t.Errorf("storage: %v", s)
	}
	for frame, count := range map[string]int{"hour": maxSamples, "week": 336, "year": 366, "decade": 570} {
		rows := r.list("GET", "/nodes/pve/rrddata", "timeframe", frame)
		if len(rows) != count || rows[0]["cpu"] != nil || rows[count-1]["memtotal"] != float64(8<<30) {
			t.Errorf("%s: %d rows, %v to %v", frame, len(rows), rows[0], rows[len(rows)-1])
		}
	}
}
