package pvesim

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

func (n *Node) storageRow(s Storage) map[string]any {
	used := n.usage(s)
	enabled := number(!s.Disabled && s.on(n.name))
	if n.fillOf(s).down || enabled == 0 { // nobody looks then
		return map[string]any{"type": s.Type, "content": strings.Join(s.Content, ","), "enabled": enabled, "active": 0, "shared": number(s.Shared), "total": 0, "used": 0, "avail": 0}
	}
	return map[string]any{
		"type": s.Type, "content": strings.Join(s.Content, ","), "enabled": enabled, "active": 1, "shared": number(s.Shared),
		"total": s.Bytes, "used": used, "avail": s.Bytes - used,
	}
}

func storageACL(id string) string { return "/storage/" + id }

func listStorage(c *call) (result, error) {
	rows := []map[string]any{}
	for _, s := range c.node.storages.all() {
		if !c.may(storageACL(s.ID), "Datastore.Audit", "Datastore.AllocateSpace") ||
			c.has("storage") && c.params["storage"] != s.ID ||
			c.has("content") && !slices.ContainsFunc(pveschema.SplitList(c.params["content"]), func(k string) bool { return slices.Contains(s.Content, k) }) {
			continue
		}
		row := c.node.storageRow(s)
		if row["enabled"] == 0 && (c.has("content") || c.params["enabled"] == "1") {
			continue
		}
		row["storage"] = s.ID
		if used, ok := row["used"].(int64); ok {
			row["used_fraction"] = float64(used) / float64(s.Bytes)
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

func storageStatus(c *call) (result, error) {
	s, ok := c.node.storageByID(c.params["storage"])
	if !ok {
		return result{}, paramError("storage", "No such storage.")
	}
	return result{data: c.node.storageRow(s)}, nil
}

func storageContent(c *call) (result, error) {
	s, err := c.node.findStorage(c.params["storage"])
	if err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	if want := c.params["content"]; (want == "" || want == "vztmpl") && slices.Contains(s.Content, "vztmpl") && !c.has("vmid") {
		for _, t := range c.node.templates() {
			rows = append(rows, map[string]any{"volid": s.ID + ":vztmpl/" + t.name, "content": "vztmpl", "format": t.format, "size": t.bytes, "ctime": t.ctime})
		}
	}
	if want := c.params["content"]; (want == "" || want == "backup") && slices.Contains(s.Content, "backup") {
		rows = append(rows, c.backupRows(s)...)
	}
	if want := c.params["content"]; want == "" || want == "rootdir" {
		rows = append(rows, c.volumeRows(s)...)
	}
	return result{data: rows}, nil
}

func (c *call) volumeRows(s Storage) []map[string]any {
	st := c.node.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	var rows []map[string]any
	for _, id := range slices.Sorted(maps.Keys(st.Volumes)) {
		v := st.Volumes[id]
		if !strings.HasPrefix(id, s.ID+":") || c.has("vmid") && c.number("vmid", 0) != v.VMID {
			continue
		}
		if !c.may("/vms/"+vmidText(v.VMID), "VM.Audit", "VM.Config.Disk") && !c.may(storageACL(s.ID), "Datastore.Allocate") {
			continue
		}
		rows = append(rows, map[string]any{"volid": id, "content": "rootdir", "format": "raw", "size": v.Bytes, "used": v.Bytes / 4, "vmid": v.VMID, "ctime": v.CTime, "parent": nil})
	}
	return rows
}

// deleteVolume removes a template (from the list, the file stays) or a guest's disk. As
// on a real node a disk of a stopped guest goes without a question.
func deleteVolume(c *call) (result, error) {
	n := c.node
	s, err := n.findStorage(c.params["storage"])
	if err != nil {
		return result{}, err
	}
	id := c.params["volume"]
	if !strings.Contains(id, ":") {
		id = s.ID + ":" + id
	}
	if b, ok := n.backup(id); ok {
		return c.deleteBackup(id, b)
	}
	st := n.stateOf(id)
	st.mu.Lock()
	v, isDisk := st.Volumes[id]
	st.mu.Unlock()
	if !isDisk {
		return c.deleteTemplate(s, id)
	}
	if err := c.need("/vms/"+vmidText(v.VMID), "VM.Config.Disk"); err != nil {
		return result{}, err
	}
	if n.running(c.ctx, v.VMID) {
		return result{}, die("volume '%s' is in use by CT %d", id, v.VMID)
	}
	return c.startTask("imgdel", vmidText(v.VMID)+"@"+s.ID, func(t *tasks.Task) error {
		if g, err := n.guests.load(n, v.VMID); err == nil && strings.HasPrefix(g.conf.Values["rootfs"], id+",") {
			if err := n.engine.Destroy(t.Context(), v.VMID); err != nil {
				return err
			}
		}
		if err := n.freeVolumes(t.Context(), id); err != nil {
			return err
		}
		t.Logf("Removed volume '%s'", id)
		return nil
	})
}

func (c *call) deleteTemplate(s Storage, id string) (result, error) {
	if err := c.need(storageACL(s.ID), "Datastore.Allocate"); err != nil {
		return result{}, err
	}
	n := c.node
	name := strings.TrimPrefix(id, s.ID+":vztmpl/")
	return c.startTask("imgdel", s.ID, func(t *tasks.Task) error {
		if !n.hasTemplate(name) {
			t.Logf("Volume '%s' already removed", id)
			return nil
		}
		if file := n.templateArchive(name); file != "" {
			if err := os.Remove(file); err != nil {
				return err
			}
			t.Logf("Removed volume '%s'", id)
			return nil
		}
		n.storage.mu.Lock()
		defer n.storage.mu.Unlock()
		n.storage.Hidden = append(n.storage.Hidden, name)
		if err := n.storage.save(); err != nil {
			return err
		}
		t.Logf("Removed volume '%s'", id)
		return nil
	})
}

// listAplinfo is the index of downloadable templates, which a node without internet
// never fetched.
func listAplinfo(*call) (result, error) { return result{data: []any{}}, nil }
