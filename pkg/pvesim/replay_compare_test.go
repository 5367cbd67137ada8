package pvesim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// compare says how the answers differ, "" if they do not.
func (p *replay) compare(rec record, got answer) string {
	want := rec.Response
	if got.code != want.Status || got.reason != want.Reason {
		return fmt.Sprintf("\n got %d %s %v\nwant %d %s %v", got.code, got.reason, got.body.Errors, want.Status, want.Reason, want.Body)
	}
	wantBody, _ := want.Body.(map[string]any)
	if (wantBody == nil) != (got.raw == "") {
		return fmt.Sprintf("body %q, want %v", got.raw, want.Body)
	}
	if wantBody == nil {
		return ""
	}
	var gotBody map[string]any
	if err := json.Unmarshal([]byte(got.raw), &gotBody); err != nil {
		return err.Error()
	}
	for _, key := range []string{"message", "errors"} {
		if fmt.Sprint(gotBody[key]) != fmt.Sprint(wantBody[key]) {
			return fmt.Sprintf("%s\n got %v\nwant %v", key, gotBody[key], wantBody[key])
		}
	}
	if (gotBody["changes"] == nil) != (wantBody["changes"] == nil) {
		return fmt.Sprintf("changes %v, want %v", gotBody["changes"], wantBody["changes"])
	}
	return p.compareData(rec.ID, gotBody["data"], wantBody["data"])
}

func (p *replay) compareData(id string, got, want any) string {
	switch want := want.(type) {
	case string:
		text, ok := got.(string)
		if ok && strings.HasPrefix(want, "UPID:") && strings.HasPrefix(text, "UPID:") {
			return p.upid(id, text, want)
		}
		if normal(text) != normal(want) {
			return fmt.Sprintf("data %v, want %v", got, want)
		}
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("data %v, want an object", got)
		}
		return p.compareObjects(object, want)
	case []any:
		list, ok := got.([]any)
		if !ok {
			return fmt.Sprintf("data %v, want a list", got)
		}
		if strings.HasSuffix(id, ".task-log") {
			return compareLast(list, want)
		}
		return p.compareLists(id, list, want)
	default:
		if got != want {
			return fmt.Sprintf("data %v, want %v", got, want)
		}
	}
	return ""
}

// upid compares type, id and user, and waits for the task unless the recording raced it.
func (p *replay) upid(id, got, want string) string {
	g, w := strings.Split(got, ":"), strings.Split(want, ":")
	if !slices.Equal(g[5:], w[5:]) {
		return fmt.Sprintf("UPID %s, want one like %s", got, want)
	}
	p.translate[want] = got
	if id == "lxc.parallel-stop" || g[5] == "vncproxy" { // which waits for a client that does not come
		return ""
	}
	p.wait(got)
	for { // a start that a create began
		active, _ := p.node.tasks.List()
		active = slices.DeleteFunc(active, func(i tasks.Info) bool { return i.UPID.Type == "vncproxy" })
		if len(active) == 0 {
			return ""
		}
		p.wait(active[0].UPID.String())
	}
}

func compareLast(got, want []any) string {
	last := func(l []any) any { return l[len(l)-1].(map[string]any)["t"] }
	if len(got) == 0 || normal(fmt.Sprint(last(got))) != normal(fmt.Sprint(last(want))) {
		return fmt.Sprintf("log %v, want it to end with %v", got, last(want))
	}
	return ""
}

// absentKeys are fields of the recorded node that this one does not have, and the
// reverse: pressure and network figures that exist only there, values of pools.
var absentKeys = []string{"pool", "cgroup-mode", "digest", "flags"}

func (p *replay) compareObjects(got, want map[string]any) string {
	for key, w := range want {
		g, ok := got[key]
		if !ok && !slices.Contains(absentKeys, key) {
			return fmt.Sprintf("%s is missing in %v", key, got)
		}
		if ok && g != nil && w != nil && fmt.Sprintf("%T", g) != fmt.Sprintf("%T", w) {
			return fmt.Sprintf("%s is %T %v, want %T %v", key, g, g, w, w)
		}
		if s, isText := w.(string); isText && key == "digest" {
			if ours, isText := g.(string); isText {
				p.translate[s] = ours
			}
		}
		if text, ok := w.(string); ok && p.translate[text] != "" && key == "volid" {
			w = p.translate[text]
		}
		if key == "content" { // a list in any order
			g, w = sortedList(g), sortedList(w)
		}
		if key == "maxmem" && got["type"] == "node" {
			continue
		}
		if _, object := w.(map[string]any); !object && slices.Contains(comparedValues, key) && normal(fmt.Sprint(g)) != normal(fmt.Sprint(w)) {
			return fmt.Sprintf("%s is %v, want %v", key, g, w)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok && !slices.Contains(absentKeys, key) {
			return fmt.Sprintf("%s is there, but not in %v", key, want)
		}
	}
	return ""
}

func sortedList(v any) any {
	parts := strings.Split(fmt.Sprint(v), ",")
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// comparedValues are fields that do not depend on the machine.
var comparedValues = []string{
	"exitstatus", "status", "name", "hostname", "tags", "description", "memory", "swap", "cores", "features", "nameserver", "searchdomain", "onboot",
	"ostype", "arch", "unprivileged", "mp0", "startup", "lock", "maxmem", "maxswap", "vmid", "type", "iface", "method", "method6", "cidr",
	"address", "netmask", "gateway", "comments", "autostart", "active", "bridge_ports", "bridge_stp", "bridge_fd", "bridge_vids", "bridge_vlan_aware",
	"families", "priority", "version", "release", "volid", "content", "format", "cpus", "user", "tokenid",
}

// compareLists compares elements by their key, in any order.
func (p *replay) compareLists(id string, got, want []any) string {
	keyOf := func(v any) string {
		o, _ := v.(map[string]any)
		if o["ugid"] != nil {
			return fmt.Sprint(o["path"], o["ugid"], o["roleid"])
		}
		for _, key := range []string{"iface", "volid", "key", "vmid", "storage", "subdir", "roleid", "userid", "poolid", "id", "tokenid", "name"} {
			if k, ok := o[key]; ok {
				return fmt.Sprint(k)
			}
		}
		return fmt.Sprint(v)
	}
	seeded := id == "access.roles" || id == "cluster.resources-type-storage" // has what the test was seeded with, too
	if strings.HasPrefix(id, "task.list") && len(got) == len(want) {         // several are of one guest
		for i := range got {
			if diff := p.compareObjects(got[i].(map[string]any), want[i].(map[string]any)); diff != "" {
				return fmt.Sprintf("element %d: %s", i, diff)
			}
		}
		return ""
	}
	if id == "cluster.log" || id == "final.syslog" { // what is in a log varies, its shape does not
		if len(got) == 0 {
			return "the log is empty"
		}
		first, _ := got[0].(map[string]any)
		if g, w := slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(want[0].(map[string]any))); !slices.Equal(g, w) {
			return fmt.Sprintf("entries have %v, want %v", g, w)
		}
		return ""
	}
	index := map[string]map[string]any{}
	for _, g := range got {
		index[keyOf(g)], _ = g.(map[string]any)
	}
	for _, w := range want {
		key := keyOf(w)
		if ours, ok := p.translate[key]; ok {
			key = ours
		}
		g, ok := index[key]
		if !ok {
			return fmt.Sprintf("no element %s in %v", keyOf(w), got)
		}
		if diff := p.compareObjects(g, w.(map[string]any)); diff != "" {
			return keyOf(w) + ": " + diff
		}
	}
	if len(got) != len(want) && !seeded {
		return fmt.Sprintf("%d elements, want %d: %v", len(got), len(want), got)
	}
	return ""
}
