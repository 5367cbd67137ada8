package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// labelWidth is the width of the labels on the left.
const labelWidth = 14

func (a *app) describeCommand() *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:     "describe KIND/NAME... | KIND NAME... | KIND | -f FILE",
		Short:   "Show everything about resources, with their conditions and events",
		Example: "  proxctl describe app nginx-01\n  proxctl describe appliance/proximity\n  proxctl describe apps -l tier=web",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.describe(cmd.Context(), args, s) },
	}
	s.addFlags(cmd)
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) describe(ctx context.Context, args []string, s selection) error {
	if len(args) == 1 && !strings.Contains(args[0], "/") {
		s.all = true
	}
	conn, keys, byName, err := a.chosen(ctx, args, s, "describe")
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		fmt.Fprintln(a.Err, "No resources found.")
	}
	var errs []error
	for i, key := range keys {
		switch err := a.describeOne(ctx, conn, key, i > 0); {
		case errors.Is(err, client.ErrNotFound) && !byName: // gone since it was listed
		case err != nil:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *app) describeOne(ctx context.Context, conn *connection, key resource.Key, more bool) error {
	obj, err := conn.Get(ctx, key)
	if errors.Is(err, client.ErrNotFound) {
		return missing(key)
	}
	if err != nil {
		return err
	}
	events, err := conn.eventsAbout(ctx, obj)
	if err != nil {
		return err
	}
	if more {
		fmt.Fprintln(a.Out)
	}
	return writeDescription(a.Out, conn.kinds.byName(key.Kind), obj, events, time.Now())
}

// writeDescription writes what is known of an object: metadata, the columns that its kind
// puts first (addresses, VMID, node), spec and status as YAML, conditions, events.
func writeDescription(w io.Writer, k *kind, obj resource.Object, events []*v1alpha1.Event, now time.Time) error {
	var out strings.Builder
	describeMetadata(&out, obj, now)
	for _, c := range k.Columns {
		if text := columnText(obj, c.GetPath(), now); text != "" && c.GetName() != "NAME" { // the object's own stands above
			label(&out, title(c.GetName()), text)
		}
	}
	shown := resource.Clone(obj)
	var applied []inventory.Entry
	if s, ok := shown.(*v1alpha1.Sync); ok && s.GetStatus().GetInventory().GetEntries() != "" {
		list, err := inventory.Decode(s.GetStatus().GetInventory())
		if err != nil {
			return err
		}
		applied, s.Status.Inventory.Entries = list, nil // it is told below
	}
	for _, c := range resource.Conditions(obj) {
		resource.RemoveCondition(shown, c.GetType()) // they have a table of their own
	}
	data, err := resource.EncodeYAML(shown)
	if err != nil {
		return err
	}
	for _, name := range []string{"spec", "status"} {
		if text := section(string(data), name); text != "" {
			out.WriteString(title(name) + ":\n" + cleanLines(text))
		}
	}
	describeInventory(&out, applied)
	describeConditions(&out, obj, now)
	describeEvents(&out, events, now)
	_, err = io.WriteString(w, out.String())
	return err
}

// label writes a line; without a name it belongs to the one before.
func label(out *strings.Builder, name, text string) {
	if name != "" {
		name += ":"
	}
	out.WriteString(strings.TrimRight(term.Pad(name, labelWidth)+" "+term.Clean(text), " ") + "\n")
}

// title is VMID for VMID, Node for NODE, Spec for spec.
func title(s string) string {
	if s == "VMID" || s == "TLS" || s == "LAN" || s == "WAN" {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.ToLower(s[1:])
}

func describeMetadata(out *strings.Builder, obj resource.Object, now time.Time) {
	m := obj.GetMetadata()
	label(out, "Name", m.GetName())
	if m.GetNamespace() != "" {
		label(out, "Namespace", m.GetNamespace())
	}
	label(out, "Kind", obj.GetKind())
	describeMap(out, "Labels", m.GetLabels())
	describeMap(out, "Annotations", m.GetAnnotations())
	label(out, "Created", fmt.Sprintf("%s (%s ago)", m.GetCreationTimestamp(), age(m.GetCreationTimestamp(), now)))
	if t := m.GetDeletionTimestamp(); t != "" {
		label(out, "Deleting", fmt.Sprintf("since %s (%s), waiting for %s", t, age(t, now), strings.Join(m.GetFinalizers(), ", ")))
	}
	for _, o := range m.GetOwnerReferences() {
		label(out, "Owner", resource.Key{Kind: o.GetKind(), Name: o.GetName()}.Short())
	}
	label(out, "UID", m.GetUid())
	label(out, "Generation", fmt.Sprint(m.GetGeneration()))
}

func describeMap(out *strings.Builder, name string, values map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		label(out, name, key+"="+values[key])
		name = ""
	}
}

// section returns the lines of one top-level field of a YAML mapping, without its key.
func section(text, name string) string {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "-") && strings.TrimSpace(line) != "" {
			inside = strings.TrimRight(line, "\n") == name+":"
			continue
		}
		if inside {
			out.WriteString(line)
		}
	}
	return out.String()
}

// cleanLines is term.CleanLog for each line.
func cleanLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(term.CleanLog(strings.TrimRight(line, "\n")) + "\n")
	}
	return out.String()
}

// maxInventoryLines bounds the objects of a Sync that are listed.
const maxInventoryLines = 200

// describeInventory lists what a Sync has applied, and the files.
func describeInventory(out *strings.Builder, entries []inventory.Entry) {
	if len(entries) == 0 {
		return
	}
	var rows [][]string
	for _, e := range entries[:min(len(entries), maxInventoryLines)] {
		rows = append(rows, []string{"  " + e.Key.Kind, cellOr(e.Key.Namespace), e.Key.Name, cellOr(term.Clean(e.File))})
	}
	out.WriteString("Applied:\n")
	_ = writeTable(out, []string{"  KIND", "NAMESPACE", "NAME", "FILE"}, rows)
	if more := len(entries) - len(rows); more > 0 {
		fmt.Fprintf(out, "  and %d more\n", more)
	}
}

func describeConditions(out *strings.Builder, obj resource.Object, now time.Time) {
	conditions := resource.Conditions(obj)
	if len(conditions) == 0 {
		return
	}
	var rows [][]string
	for _, c := range conditions {
		status := c.GetStatus()
		if c.GetObservedGeneration() != obj.GetMetadata().GetGeneration() {
			status += " (of an older spec)"
		}
		rows = append(rows, []string{"  " + c.GetType(), status, cellOr(age(c.GetLastTransitionTime(), now)),
			cellOr(term.Clean(c.GetReason())), term.Clean(c.GetMessage())})
	}
	out.WriteString("Conditions:\n")
	_ = writeTable(out, []string{"  TYPE", "STATUS", "AGE", "REASON", "MESSAGE"}, rows) // a strings.Builder takes everything
}

func describeEvents(out *strings.Builder, events []*v1alpha1.Event, now time.Time) {
	if len(events) == 0 {
		out.WriteString("Events:        none\n")
		return
	}
	var rows [][]string
	for _, e := range events {
		row := eventRow(e, now)
		row[0] = "  " + row[0]
		rows = append(rows, slices.Delete(row, 3, 4)) // without the object
	}
	out.WriteString("Events:\n")
	_ = writeTable(out, []string{"  LAST", "TYPE", "REASON", "COUNT", "MESSAGE"}, rows)
}
