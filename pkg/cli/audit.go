package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// auditPage is how many records one request asks for.
const auditPage = 1000

type auditOptions struct {
	limit    int
	after    string
	identity string
	object   string
	output   string
}

func (a *app) auditCommand() *cobra.Command {
	audit := &cobra.Command{Use: "audit", Short: "Look at who changed what", Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var o auditOptions
	list := &cobra.Command{
		Use:   "list",
		Short: "List who changed what, the newest last",
		Long: "List who changed what, the newest last. Every change by a user has a record, and what the\n" +
			"daemon changes by itself, but for what it observes (statuses, events). Records tell what\n" +
			"fields were and are (-o wide), but for secrets. Without --after the newest are listed, with\n" +
			"it the oldest after that revision.",
		Example: "  proxctl admin audit list --object app/nginx-01\n  proxctl admin audit list --after 1200 --limit 5000 -o json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listAudit(cmd.Context(), o) },
	}
	f := list.Flags()
	f.IntVar(&o.limit, "limit", 50, "`number` of records; 0: all there are")
	f.StringVar(&o.after, "after", "", "`revision` after which changes are listed")
	f.StringVar(&o.identity, "identity", "", "`name` of who made the changes")
	f.StringVar(&o.object, "object", "", "`KIND/NAME` of the object")
	f.StringVarP(&o.output, "output", "o", "", "`format`: wide, or json, a line for each record")
	audit.AddCommand(list)
	return audit
}

func (a *app) listAudit(ctx context.Context, o auditOptions) error {
	switch {
	case o.output != "" && o.output != formatWide && o.output != formatJSON:
		return usagef("-o %q: allowed are wide and json", o.output)
	case o.limit < 0:
		return usagef("--limit %d: allowed is 0 or more", o.limit)
	}
	if _, err := strconv.ParseUint(cmp.Or(o.after, "0"), 10, 64); err != nil {
		return usagef("--after %q: allowed is a revision, such as 1200", o.after)
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	req := &v1alpha1.AuditRequest{AfterRevision: o.after, Identity: o.identity}
	if o.object != "" {
		keys, err := conn.refs([]string{o.object})
		if err != nil {
			return err
		}
		if len(keys) != 1 || keys[0].Name == "" {
			return usagef("--object takes KIND/NAME")
		}
		req.Kind, req.Namespace, req.Name = keys[0].Kind, keys[0].Namespace, keys[0].Name
	}
	records, err := conn.auditRecords(ctx, req, o.limit)
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		return a.writeAuditJSON(records)
	}
	return a.writeAuditTable(records, o.output == formatWide)
}

// auditRecords asks page by page. The newest, when they are fewer than a page, are one.
func (c *connection) auditRecords(ctx context.Context, req *v1alpha1.AuditRequest, limit int) ([]*v1alpha1.AuditRecord, error) {
	if req.AfterRevision == "" && limit > 0 && limit <= auditPage {
		req.Newest, req.Limit = true, int32(limit)
		return c.Audit(ctx, req)
	}
	var all []*v1alpha1.AuditRecord
	newest := req.AfterRevision == ""
	for {
		req.Limit = auditPage
		page, err := c.Audit(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < auditPage || !newest && limit > 0 && len(all) >= limit {
			break
		}
		req.AfterRevision = page[len(page)-1].GetRevision()
	}
	switch {
	case limit == 0 || len(all) <= limit:
		return all, nil
	case newest:
		return all[len(all)-limit:], nil
	}
	return all[:limit], nil
}

func (a *app) writeAuditJSON(records []*v1alpha1.AuditRecord) error {
	out := json.NewEncoder(a.Out)
	out.SetEscapeHTML(false)
	for _, r := range records {
		k := r.GetKey()
		err := out.Encode(struct {
			Revision     string   `json:"revision"`
			Time         string   `json:"time"`
			Effect       string   `json:"effect"`
			Kind         string   `json:"kind"`
			Namespace    string   `json:"namespace,omitempty"`
			Name         string   `json:"name"`
			UID          string   `json:"uid"`
			IdentityType string   `json:"identityType"`
			Identity     string   `json:"identity"`
			Surface      string   `json:"surface,omitempty"`
			Peer         string   `json:"peer,omitempty"`
			RequestID    string   `json:"requestID,omitempty"`
			Verb         string   `json:"verb,omitempty"`
			FieldManager string   `json:"fieldManager,omitempty"`
			Fields       []string `json:"fields,omitempty"`

			Before      map[string]string `json:"before,omitempty"`
			After       map[string]string `json:"after,omitempty"`
			GitRevision string            `json:"gitRevision,omitempty"`
		}{r.GetRevision(), r.GetTime(), r.GetEffect(), k.GetKind(), k.GetNamespace(), k.GetName(), r.GetUid(), r.GetIdentityType(), r.GetIdentity(),
			r.GetSurface(), r.GetPeer(), r.GetRequestId(), r.GetVerb(), r.GetFieldManager(), r.GetFields(),
			valuesOf(r, func(v *v1alpha1.AuditValue) *string { return v.Before }),
			valuesOf(r, func(v *v1alpha1.AuditValue) *string { return v.After }), r.GetGitRevision()})
		if err != nil {
			return err
		}
	}
	return nil
}

// valuesOf are the values of one side, by the paths of their fields.
func valuesOf(r *v1alpha1.AuditRecord, side func(*v1alpha1.AuditValue) *string) map[string]string {
	values := map[string]string{}
	for _, v := range r.GetValues() {
		if text := side(v); text != nil {
			values[v.GetPath()] = *text
		}
	}
	return values
}

// changesText tells fields with what they were and are, as far as that is known.
func changesText(fields []string, before, after map[string]string) string {
	if len(fields) == 0 { // of an object that is new or gone
		fields = slices.Sorted(maps.Keys(after))
		if len(fields) == 0 {
			fields = slices.Sorted(maps.Keys(before))
		}
	}
	texts := make([]string, len(fields))
	for i, f := range fields {
		was, had := before[f]
		is, has := after[f]
		switch {
		case had && has:
			texts[i] = f + ": " + was + " -> " + is
		case has:
			texts[i] = f + ": " + is
		case had:
			texts[i] = f + ": " + was + " -> unset"
		default:
			texts[i] = f
		}
	}
	return strings.Join(texts, "; ")
}

func (a *app) writeAuditTable(records []*v1alpha1.AuditRecord, wide bool) error {
	head := []string{"REVISION", "TIME", "WHO", "EFFECT", "OBJECT", "FIELDS"}
	if wide {
		head = append(head[:len(head)-1], "VERB", "MANAGER", "SURFACE", "FROM", "REQUEST", "GIT", "CHANGES")
	}
	var rows [][]string
	for _, r := range records {
		row := []string{r.GetRevision(), auditTime(r.GetTime()), r.GetIdentity(), r.GetEffect(), objectText(r.GetKey()), strings.Join(r.GetFields(), ",")}
		if wide {
			row = append(row[:len(row)-1], r.GetVerb(), r.GetFieldManager(), r.GetSurface(), r.GetPeer(), r.GetRequestId(), r.GetGitRevision(),
				changesText(r.GetFields(), valuesOf(r, func(v *v1alpha1.AuditValue) *string { return v.Before }),
					valuesOf(r, func(v *v1alpha1.AuditValue) *string { return v.After })))
		}
		for i := range row {
			row[i] = cellOr(term.Clean(row[i]))
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		fmt.Fprintln(a.Err, "No records found.")
		return nil
	}
	return writeTable(a.Out, head, rows)
}

// auditTime leaves the fractions of seconds out.
func auditTime(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.Format(time.RFC3339)
}

func objectText(k *v1alpha1.ObjectKey) string {
	text := resource.Key{Kind: k.GetKind(), Name: k.GetName()}.Short()
	if k.GetNamespace() != "" {
		text = k.GetNamespace() + "/" + text
	}
	return text
}
