package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
)

type trailOptions struct {
	limit          int
	kind, identity string
	output         string
}

// trailCommand is about the audit trail; `admin audit` lists the records of the database.
func (a *app) trailCommand() *cobra.Command {
	audit := &cobra.Command{Use: "audit", Short: "Look at the audit trail: who did what, and who was refused", Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var o trailOptions
	list := &cobra.Command{
		Use:   "list",
		Short: "List what happened, the newest last",
		Long: "List what happened, the newest last: changes, logins, refusals, secrets that were read,\n" +
			"consoles. Entries hold no secrets. With -o wide changes are told with what fields were and\n" +
			"are, and with the commit that a Sync made them from. The tasks that the daemon began at\n" +
			"Proxmox for an object are changes of its status.task, to their UPID.",
		Example: "  proxctl audit list --type refused\n  proxctl audit list --identity alice --limit 200 -o json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listTrail(cmd.Context(), o) },
	}
	f := list.Flags()
	f.IntVar(&o.limit, "limit", 50, "`number` of entries, at most 1000")
	f.StringVar(&o.kind, "type", "", "`type`: change, login, refused, secrets-read, console, exec")
	f.StringVar(&o.identity, "identity", "", "`name` of who did it")
	f.StringVarP(&o.output, "output", "o", "", "`format`: wide, or json, lines as they are in the trail")
	var head string
	verify := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that nothing in the trail was changed, left out or put in",
		Long: "Check that nothing in the trail was changed, left out or put in: each entry has the hash of the\n" +
			"one before, and every change of the database must be in it. FILE is one that export wrote; it\n" +
			"is checked here, without the daemon. The head that is printed is the hash of the newest entry:\n" +
			"kept elsewhere, and given with --head later, it shows a trail that was made anew.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.verifyTrail(cmd.Context(), args, head) },
	}
	verify.Flags().StringVar(&head, "head", "", "`hash` that must be in the trail")
	var after string
	export := &cobra.Command{
		Use:     "export",
		Short:   "Write the trail to the standard output, as lines of JSON",
		Example: "  proxctl audit export > trail.jsonl && proxctl audit verify trail.jsonl",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.exportTrail(cmd.Context(), after) },
	}
	export.Flags().StringVar(&after, "after", "", "sequence `number` after which entries are written")
	audit.AddCommand(list, verify, export)
	return audit
}

// trailLine is what is shown of an entry.
type trailLine struct {
	Seq       uint64 `json:"seq"`
	Time      string `json:"time"`
	Type      string `json:"type"`
	Identity  string `json:"identity"`
	Peer      string `json:"peer"`
	Route     string `json:"route"`
	Verb      string `json:"verb"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Effect    string `json:"effect"`
	Result    string `json:"result"`
	Reason    string `json:"reason"`
	Count     uint64 `json:"count"`

	Request     string            `json:"requestID"`
	Manager     string            `json:"fieldManager"`
	GitRevision string            `json:"gitRevision"`
	Fields      []string          `json:"fields"`
	Before      map[string]string `json:"before"`
	After       map[string]string `json:"after"`
}

func (a *app) listTrail(ctx context.Context, o trailOptions) error {
	switch {
	case o.output != "" && o.output != formatWide && o.output != formatJSON:
		return usagef("-o %q: allowed are wide and json", o.output)
	case o.limit < 1 || o.limit > auditPage:
		return usagef("--limit %d: allowed is 1 to %d", o.limit, auditPage)
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	lines, err := conn.AuditTrail(ctx, &v1alpha1.AuditTrailRequest{Newest: true, Limit: int32(o.limit), Type: o.kind, Identity: o.identity})
	if err != nil {
		return err
	}
	if o.output == formatJSON {
		for _, l := range lines {
			fmt.Fprintln(a.Out, l)
		}
		return nil
	}
	var rows [][]string
	for _, l := range lines {
		var e trailLine
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			return fmt.Errorf("the daemon sent an entry that is no JSON: %w", err)
		}
		what := e.Route
		if e.Name != "" || e.Kind != "" && what == "" {
			what = resource.Key{Kind: e.Kind, Name: e.Name}.Short()
			if e.Namespace != "" {
				what = e.Namespace + "/" + what
			}
		}
		result := e.Result
		if e.Effect != "" {
			result = e.Effect
		}
		if e.Count > 0 {
			what = counted(int(e.Count), "event")
		}
		row := []string{strconv.FormatUint(e.Seq, 10), auditTime(e.Time), e.Type, e.Identity, e.Peer, e.Verb, what, result, e.Reason}
		if o.output == formatWide {
			row = append(row, e.Request, e.Manager, e.GitRevision, changesText(e.Fields, e.Before, e.After))
		}
		for i := range row {
			row[i] = cellOr(term.Clean(row[i]))
		}
		rows = append(rows, row)
	}
	head := []string{"SEQ", "TIME", "TYPE", "WHO", "FROM", "VERB", "WHAT", "RESULT", "REASON"}
	if o.output == formatWide {
		head = append(head, "REQUEST", "MANAGER", "GIT", "CHANGES")
	}
	return writeTable(a.Out, head, rows)
}

func (a *app) verifyTrail(ctx context.Context, args []string, head string) error {
	var problems []string
	var text string
	if len(args) == 1 {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		r, err := trail.VerifyReader(bufio.NewReader(f), head)
		if err != nil {
			return err
		}
		problems, text = r.Problems, fmt.Sprintf("%d entries, %d to %d\nhead %s", r.Entries, r.First, r.Last, r.Head)
	} else {
		conn, err := a.connect(ctx)
		if err != nil {
			return err
		}
		r, err := conn.VerifyAudit(ctx, head)
		if err != nil {
			return err
		}
		problems, text = r.GetProblems(), fmt.Sprintf("%s entries, %s to %s\nhead %s", r.GetEntries(), r.GetFirst(), r.GetLast(), r.GetHead())
	}
	fmt.Fprintln(a.Out, text)
	for _, p := range problems {
		fmt.Fprintln(a.Err, term.Clean(p))
	}
	if len(problems) > 0 {
		return fmt.Errorf("the trail is not whole: %s", counted(len(problems), "problem"))
	}
	fmt.Fprintln(a.Out, "nothing was changed, left out or put in")
	return nil
}

func (a *app) exportTrail(ctx context.Context, after string) error {
	if after != "" {
		if _, err := strconv.ParseUint(after, 10, 64); err != nil {
			return usagef("--after %q: allowed is the sequence number of an entry", after)
		}
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.Out)
	for {
		lines, err := conn.AuditTrail(ctx, &v1alpha1.AuditTrailRequest{After: after, Limit: auditPage})
		if err != nil {
			return err
		}
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
		if len(lines) < auditPage {
			return out.Flush()
		}
		var last trailLine
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			return fmt.Errorf("the daemon sent an entry that is no JSON: %w", err)
		}
		after = strconv.FormatUint(last.Seq, 10)
	}
}
