package pvesim

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/sdn"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// sdnError words what package sdn refuses.
func sdnError(what string, err error) error {
	var r *sdn.Refusal
	if errors.As(err, &r) {
		err = paramError(r.Param, r.Text)
	}
	return failing(what, err)
}

// sdnChange runs a change of the declared configuration.
func (c *call) sdnChange(what string, fn func(*sdn.State) error) (result, error) {
	if err := c.node.needQuorum(); err != nil {
		return result{}, err
	}
	return result{}, sdnError(what, c.node.sdn.Change(c.params["lock-token"], fn))
}

// sdnNumbers are properties that are shown as numbers.
var sdnNumbers = []string{"tag", "mtu", "vlanaware", "isolate-ports", "snat", "vxlan-port", "vrf-vxlan", "bridge-disable-mac-learning", "exitnodes-local-routing", "advertise-subnets", "disable-arp-nd-suppression"}

func sdnValue(key, v string) any {
	if n, err := strconv.Atoi(v); err == nil && slices.Contains(sdnNumbers, key) {
		return n
	}
	return v
}

// sdnRow is one object with its id and what follows from it.
func sdnRow(kind sdn.Kind, id string, o sdn.Object) map[string]any {
	row := map[string]any{}
	for key, v := range o {
		row[key] = sdnValue(key, v)
	}
	switch kind {
	case sdn.Zones:
		row["zone"] = id
	case sdn.VNets:
		row["vnet"] = id
	case sdn.Subnets:
		parts := strings.SplitN(id, "-", 3)
		row["id"], row["subnet"], row["cidr"], row["zone"], row["network"], row["mask"] = id, id, sdn.CIDR(id), parts[0], parts[1], parts[2]
		row["dhcp-range"] = sdn.Ranges(o["dhcp-range"])
		if o["dhcp-range"] == "" {
			row["dhcp-range"] = []any{}
		}
	}
	return row
}

// sdnRows lists the objects of a kind: as declared, or with pending=1 what runs and what
// will change, or with running=1 what runs.
func (c *call) sdnRows(kind sdn.Kind) map[string]map[string]any {
	declared, running := c.node.sdn.View()
	out := map[string]map[string]any{}
	if c.flag("pending") {
		for _, p := range sdn.Compare(running.Of(kind), declared.Of(kind), false) {
			row := sdnRow(kind, p.ID, p.Current)
			row["digest"] = nil // of a configuration that is in no file
			if p.State != "" {
				changes := map[string]any{}
				for key, v := range p.Changes {
					changes[key] = sdnValue(key, v)
				}
				row["state"], row["pending"] = p.State, changes
			}
			out[p.ID] = row
		}
		return out
	}
	objects := declared.Of(kind)
	if c.flag("running") {
		objects = running.Of(kind)
	}
	digest := sdn.Digest(objects)
	for id, o := range objects {
		out[id] = sdnRow(kind, id, o)
		out[id]["digest"] = digest
		if c.flag("running") {
			out[id]["digest"] = nil
		}
	}
	return out
}

// sdnParent is a property of a row, or of what is pending for it.
func sdnParent(row map[string]any, key string) string {
	if v, ok := row[key].(string); ok {
		return v
	}
	pending, _ := row["pending"].(map[string]any)
	v, _ := pending[key].(string)
	return v
}

func sdnIndex(*call) (result, error) {
	rows := []map[string]any{}
	for _, id := range []string{"vnets", "zones", "controllers", "ipams", "dns", "fabrics"} {
		rows = append(rows, map[string]any{"id": id})
	}
	return result{data: rows}, nil
}

// applySDN makes the declared configuration run and reloads the network of every node, in
// a task each, without waiting for them or reporting their failures.
func applySDN(c *call) (result, error) {
	token := c.params["lock-token"]
	err := c.node.sdn.Change(token, func(st *sdn.State) error {
		st.Apply()
		if token != "" && (!c.has("release-lock") || c.flag("release-lock")) {
			st.Lock = ""
		}
		return nil
	})
	if err != nil {
		return result{}, failing("could not commit SDN config", err)
	}
	user := c.who.id
	return c.startTask("reloadnetworkall", "", func(t *tasks.Task) error {
		for _, n := range c.node.nodes {
			t.Logf("%s: reloading network config", n.name)
			if !n.Online() {
				t.Logf("%s: %v", n.name, die595())
				continue
			}
			if err := n.reloadFor(user); err != nil {
				t.Logf("%s: %v", n.name, err)
			}
		}
		return nil
	})
}

// reloadFor is what the cluster's task has each node do: a request of its own to the node,
// which a fault may hit like any other.
func (n *Node) reloadFor(user string) error {
	f := n.faults.next(http.MethodPut, "/nodes/"+n.name+"/network")
	if f.answers() {
		return errors.New(cmp.Or(f.Text, defaultError))
	}
	_, err := n.startTask("srvreload", "networking", user, spoilTask(f, n.reloadTask))
	return err
}

// reloadTask is the body of a network reload: everybody's staged changes become the live
// file and the node takes over the networks that were applied before ifreload runs, so a
// configuration that fails is live nevertheless.
func (n *Node) reloadTask(t *tasks.Task) error {
	if err := n.commitNetwork(t.Context()); err != nil {
		return err
	}
	if err := n.adoptSDN(); err != nil {
		return err
	}
	return n.ifreload(t.Context(), func(line string) { t.Logf("%s", line) })
}

func lockSDN(c *call) (result, error) {
	token := newUUID()
	err := c.node.sdn.Change("", func(st *sdn.State) error {
		if !c.flag("allow-pending") && st.Pending() {
			return errors.New("configuration has pending changes")
		}
		st.Lock = token
		return nil
	})
	return result{data: token}, failing("could not acquire lock for SDN config", err)
}

func unlockSDN(c *call) (result, error) {
	token := c.params["lock-token"]
	if c.flag("force") {
		token = c.node.sdn.Token()
	}
	err := c.node.sdn.Change(token, func(st *sdn.State) error { st.Lock = ""; return nil })
	return result{}, failing("could not release lock", err)
}

func rollbackSDN(c *call) (result, error) {
	return c.sdnChange("could not rollback SDN configuration", func(st *sdn.State) error {
		st.Rollback()
		if c.has("lock-token") && (!c.has("release-lock") || c.flag("release-lock")) {
			st.Lock = ""
		}
		return nil
	})
}

// nodeZones lists the zones of this node with their state, without localnetwork, which is
// no object.
func nodeZones(c *call) (result, error) {
	active, err := c.node.engine.Bridges(c.ctx)
	if err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	declared, running := c.node.sdn.View()
	ids := maps.Clone(running.Of(sdn.Zones))
	if ids == nil {
		ids = map[string]sdn.Object{}
	}
	maps.Copy(ids, declared.Of(sdn.Zones))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		nodes := ids[id]["nodes"]
		if !c.may("/sdn/zones/"+id, "SDN.Audit") || nodes != "" && !slices.Contains(strings.Split(nodes, ","), c.node.name) {
			continue
		}
		status := statusPending
		if _, runs := running.Of(sdn.Zones)[id]; runs && c.node.sdnCurrent() {
			status = statusAvailable
			for _, vnet := range zoneVNets(running, id) {
				if !slices.Contains(active, vnet) {
					status = statusError
				}
			}
		}
		rows = append(rows, map[string]any{"zone": id, "status": status})
	}
	return result{data: rows}, nil
}

// zoneContent lists the networks of a zone on this node; one is an error if its bridge is
// not there.
func zoneContent(c *call) (result, error) {
	active, err := c.node.engine.Bridges(c.ctx)
	if err != nil {
		return result{}, err
	}
	zone := c.params["zone"]
	_, running := c.node.sdn.View()
	if _, ok := running.Of(sdn.Zones)[zone]; !ok {
		return result{}, die("sdn '%s' does not exist", zone)
	}
	rows := []map[string]any{}
	for _, id := range zoneVNets(running, zone) {
		row := map[string]any{"vnet": id, "status": statusAvailable}
		switch {
		case !c.node.sdnCurrent():
			row["status"], row["statusmsg"] = statusPending, "local sdn network configuration is too old, please reload"
		case !slices.Contains(active, id):
			row["status"], row["statusmsg"] = statusError, "error iface "+id
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// zoneVNets are the networks of a zone, sorted.
func zoneVNets(c sdn.Config, zone string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.Of(sdn.VNets))) {
		if c.Of(sdn.VNets)[id]["zone"] == zone {
			ids = append(ids, id)
		}
	}
	return ids
}

func zoneIndex(*call) (result, error) { return index("content") }
