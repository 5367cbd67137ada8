package pvesim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// haConfig is what the high availability manages: resources by sid (ct:100) and rules.
// ha.json keeps it. Nothing restarts guests on other nodes here.
type haConfig struct {
	file string
	mu   sync.Mutex
	data struct {
		Resources map[string]map[string]string `json:"resources"`
		Rules     map[string]map[string]string `json:"rules"`
	}
}

func (h *haConfig) open(file string) error {
	h.file = file
	_, err := readJSON(file, &h.data)
	if h.data.Resources == nil {
		h.data.Resources = map[string]map[string]string{}
	}
	if h.data.Rules == nil {
		h.data.Rules = map[string]map[string]string{}
	}
	return err
}

// change runs fn on copies of the tables and keeps them if it returns no error.
func (h *haConfig) change(fn func(resources, rules map[string]map[string]string) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.data
	h.data.Resources, h.data.Rules = cloneTable(old.Resources), cloneTable(old.Rules)
	err := fn(h.data.Resources, h.data.Rules)
	if err == nil {
		err = writeJSON(h.file, h.data)
	}
	if err != nil {
		h.data = old
	}
	return err
}

func cloneTable(t map[string]map[string]string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for key, v := range t {
		out[key] = maps.Clone(v)
	}
	return out
}

func (h *haConfig) view() (resources, rules map[string]map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return cloneTable(h.data.Resources), cloneTable(h.data.Rules)
}

// state is the requested state of a guest, "" if it is not managed.
func (h *haConfig) state(vmid int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.data.Resources["ct:"+strconv.Itoa(vmid)]
	if !ok {
		return ""
	}
	if r["state"] == "" {
		return "started"
	}
	return r["state"]
}

// haSID makes ct:100 of 100; the second result is the VMID.
func haSID(text string) (string, int) {
	kind, name, ok := strings.Cut(text, ":")
	if !ok {
		kind, name = "ct", text
	}
	vmid, _ := strconv.Atoi(name) // 0 is no guest
	return kind + ":" + name, vmid
}

var haNumbers = []string{"max_restart", "max_relocate", "failback", "strict", "disable"}

func haRow(key, id string, o map[string]string) map[string]any {
	row := map[string]any{key: id}
	for name, v := range o {
		row[name] = v
		if n, err := strconv.Atoi(v); err == nil && slices.Contains(haNumbers, name) {
			row[name] = n
		}
	}
	return row
}

func haStatus(c *call) (result, error) {
	rows := []map[string]any{}
	quorum := map[string]any{"id": "quorum", "type": "quorum", "node": c.node.name, "status": "OK", "quorate": 1}
	if !c.node.quorate() {
		quorum["status"], quorum["quorate"] = "No quorum on node '"+c.node.name+"'!", 0
	}
	rows = append(rows, quorum)
	resources, _ := c.node.ha.view()
	if len(resources) == 0 {
		return result{data: rows}, nil
	}
	rows = append(rows, map[string]any{"id": "master", "type": "master", "node": c.node.name, "status": c.node.name + " (active)"})
	for _, n := range c.node.nodes {
		rows = append(rows, map[string]any{"id": "lrm:" + n.name, "type": "lrm", "node": n.name, "status": n.name + " (active)"})
	}
	for _, sid := range slices.Sorted(maps.Keys(resources)) {
		_, vmid := haSID(sid)
		row := haRow("sid", sid, resources[sid])
		state := c.node.ha.state(vmid)
		row["id"], row["type"], row["state"], row["request_state"], row["crm_state"] = "service:"+sid, "service", state, state, state
		if owner := c.node.ownerOf(vmid); owner != nil {
			row["node"] = owner.name
			row["status"] = sid + " (" + owner.name + ", " + state + ")"
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

func listHAResources(c *call) (result, error) {
	rows := []map[string]any{}
	resources, _ := c.node.ha.view()
	for _, sid := range slices.Sorted(maps.Keys(resources)) {
		kind, _, _ := strings.Cut(sid, ":")
		if c.has("type") && c.params["type"] != kind {
			continue
		}
		row := haRow("sid", sid, resources[sid])
		row["type"] = kind
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

func getHAResource(c *call) (result, error) {
	sid, _ := haSID(c.params["sid"])
	resources, _ := c.node.ha.view()
	r, ok := resources[sid]
	if !ok {
		return result{}, errNoResource(sid)
	}
	row := haRow("sid", sid, r)
	row["type"], _, _ = strings.Cut(sid, ":")
	return result{data: row}, nil
}

func errNoResource(sid string) error { return die("no such resource '%s'", sid) }

func createHAResource(c *call) (result, error) {
	sid, vmid := haSID(c.params["sid"])
	kind, _, _ := strings.Cut(sid, ":")
	if c.has("type") && c.params["type"] != kind {
		return result{}, paramError("type", "resource ID does not match type")
	}
	if c.node.ownerOf(vmid) == nil {
		return result{}, die("unable to find configuration file for VM %d on node '%s'", vmid, c.node.name)
	}
	given := c.sectionParams("sid", "type")
	err := c.node.ha.change(func(resources, _ map[string]map[string]string) error {
		if resources[sid] != nil {
			return die("resource ID '%s' already defined", sid)
		}
		resources[sid] = given
		return nil
	})
	return result{}, failing("create resource failed", err)
}

func updateHAResource(c *call) (result, error) {
	sid, _ := haSID(c.params["sid"])
	err := c.node.ha.change(func(resources, _ map[string]map[string]string) error {
		r := resources[sid]
		if r == nil {
			return errNoResource(sid)
		}
		for _, key := range c.list("delete") {
			delete(r, key)
		}
		maps.Copy(r, c.sectionParams("sid", "digest", "delete"))
		return nil
	})
	return result{}, failing("update resource failed", err)
}

func deleteHAResource(c *call) (result, error) {
	sid, _ := haSID(c.params["sid"])
	err := c.node.ha.change(func(resources, _ map[string]map[string]string) error {
		if resources[sid] == nil {
			return errNoResource(sid)
		}
		delete(resources, sid)
		return nil
	})
	return result{}, failing("delete resource failed", err)
}

func listHARules(c *call) (result, error) {
	rows := []map[string]any{}
	_, rules := c.node.ha.view()
	for _, id := range slices.Sorted(maps.Keys(rules)) {
		if !c.has("type") || rules[id]["type"] == c.params["type"] {
			rows = append(rows, haRow("rule", id, rules[id]))
		}
	}
	return result{data: rows}, nil
}

func getHARule(c *call) (result, error) {
	_, rules := c.node.ha.view()
	r, ok := rules[c.params["rule"]]
	if !ok {
		return result{}, errNoRuleID(c.params["rule"])
	}
	return result{data: haRow("rule", c.params["rule"], r)}, nil
}

func errNoRuleID(id string) error { return die("no such ha rule '%s'", id) }

func createHARule(c *call) (result, error) {
	id := c.params["rule"]
	err := c.node.ha.change(func(_, rules map[string]map[string]string) error {
		if rules[id] != nil {
			return die("HA rule '%s' already exists", id)
		}
		rules[id] = c.sectionParams("rule")
		return nil
	})
	return result{}, failing("create HA rule failed", err)
}

func updateHARule(c *call) (result, error) {
	id := c.params["rule"]
	err := c.node.ha.change(func(_, rules map[string]map[string]string) error {
		r := rules[id]
		if r == nil {
			return die("HA rule '%s' does not exist", id)
		}
		for _, key := range c.list("delete") {
			delete(r, key)
		}
		maps.Copy(r, c.sectionParams("rule", "digest", "delete"))
		return nil
	})
	return result{}, failing("update HA rules failed", err)
}

func deleteHARule(c *call) (result, error) {
	err := c.node.ha.change(func(_, rules map[string]map[string]string) error {
		delete(rules, c.params["rule"])
		return nil
	})
	return result{}, failing("delete HA rule failed", err)
}

// listHAGroups: rules took the place of groups in Proxmox VE 9.
func listHAGroups(*call) (result, error) {
	return result{}, die("cannot index groups: ha groups have been migrated to rules")
}
