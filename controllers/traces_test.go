package controllers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// The node as it is, read past its API.

func (w *world) path(names ...string) string {
	return filepath.Join(append([]string{w.dir, "pve"}, names...)...)
}

func (w *world) file(names ...string) string {
	w.Helper()
	data, err := os.ReadFile(w.path(names...))
	w.must(err)
	return string(data)
}

// interfaces is the node's /etc/network/interfaces.
func (w *world) interfaces() string { w.Helper(); return w.file("etc", "network", "interfaces") }

// config is a guest's configuration file, "" for none.
func (w *world) config(vmid int) string {
	w.Helper()
	data, err := os.ReadFile(w.path("lxc", fmt.Sprintf("%d.conf", vmid)))
	if os.IsNotExist(err) {
		return ""
	}
	w.must(err)
	return string(data)
}

func (w *world) names(dir ...string) []string {
	w.Helper()
	entries, err := os.ReadDir(w.path(dir...))
	w.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// traces is everything on the node that a daemon may leave there: guests, volumes, bridges,
// files. Two equal texts are two equal nodes.
func (w *world) traces() string {
	w.Helper()
	var b strings.Builder
	for _, g := range w.engine.Guests() {
		fmt.Fprintf(&b, "root file system %d, running %v\n", g.VMID(), g.Running())
	}
	for _, name := range w.names("lxc") {
		fmt.Fprintf(&b, "--- %s\n%s\n", name, w.file("lxc", name))
	}
	bridges, err := w.engine.Bridges(w.Context())
	w.must(err)
	slices.Sort(bridges)
	fmt.Fprintf(&b, "bridges %v\n", bridges)
	for _, name := range w.names("etc", "network") {
		if strings.HasPrefix(name, ".proximity-") {
			continue // a writer that is killed leaves its temporary file, hidden and read by nobody
		}
		fmt.Fprintf(&b, "--- %s\n%s\n", name, w.file("etc", "network", name))
	}
	volumes, err := w.admin.StorageContent(w.Context(), nodeName, "local-lvm", "rootdir")
	w.must(err)
	for _, v := range volumes {
		fmt.Fprintf(&b, "volume %s\n", v.Volid)
	}
	return b.String()
}

// tasks counts the tasks of a type and VMID that ended well.
func (w *world) tasks(typ string, vmid int) int {
	w.Helper()
	n := 0
	for _, name := range w.names("tasks") {
		if strings.Contains(name, fmt.Sprintf(":%s:%d:", typ, vmid)) && strings.HasSuffix(w.file("tasks", name), "TASK OK\n") {
			n++
		}
	}
	return n
}

// inside lists what matters in a guest: which files of ours there are, with their content.
func (w *world) inside(vmid int) string {
	w.Helper()
	g, ok := w.engine.Guest(vmid)
	if !ok {
		return "no guest"
	}
	var b strings.Builder
	for _, file := range []string{appliance.ManifestPath, "/var/lib/proximity/provisioned"} {
		if data, err := g.FS().ReadFile(file); err == nil {
			fmt.Fprintf(&b, "--- %d %s\n%s\n", vmid, file, data)
		}
	}
	installed := g.Installed()
	for _, name := range slices.Sorted(mapKeys(installed)) {
		fmt.Fprintf(&b, "package %s %s\n", name, installed[name])
	}
	return b.String()
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

var (
	macAddress = regexp.MustCompile(`(?i)BC:24:11(:[0-9A-F]{2}){3}`)
	hexDigest  = regexp.MustCompile(`\b[0-9a-f]{32,}\b`)
	someUID    = regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bprx-[0-9a-f]{16}\b`)
	clockTime  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

// portrait is the whole state, here and on the node, with what is random in every run
// (uids and what is made from them) replaced by names.
func (w *world) portrait() string {
	w.Helper()
	var b strings.Builder
	var uids []string
	for _, kind := range []string{"Bridge", "Appliance", "App", "Vhost"} {
		for _, o := range w.list(kind) {
			m := o.GetMetadata()
			uids = append(uids, m.GetUid(), "<uid of "+resource.KeyOf(o).String()+">",
				"prx-"+strings.ReplaceAll(m.GetUid(), "-", "")[:16], "prx-<uid of "+resource.KeyOf(o).String()+">")
			fmt.Fprintf(&b, "%s finalizers %v\n", resource.KeyOf(o), m.GetFinalizers())
			for _, c := range sortedConditions(o) {
				fmt.Fprintf(&b, "    %s\n", c)
			}
		}
	}
	for _, g := range w.engine.Guests() {
		b.WriteString(w.inside(g.VMID()))
	}
	b.WriteString(w.traces())
	text := strings.NewReplacer(uids...).Replace(b.String())
	text = macAddress.ReplaceAllString(text, "<mac>")
	text = someUID.ReplaceAllString(text, "<uid of nobody>")
	text = hexDigest.ReplaceAllString(text, "<digest>")
	return clockTime.ReplaceAllString(text, "<time>")
}

func sortedConditions(o resource.Object) []string {
	var out []string
	for _, c := range resource.Conditions(o) {
		out = append(out, c.GetType()+" "+c.GetStatus()+" "+c.GetReason())
	}
	slices.Sort(out)
	return out
}

// diffLines shows the first lines in which two texts differ.
func diffLines(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	var out []string
	for i := 0; i < max(len(a), len(b)) && len(out) < 12; i++ {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			out = append(out, fmt.Sprintf("line %d: %q, want %q", i+1, x, y))
		}
	}
	return strings.Join(out, "\n")
}
