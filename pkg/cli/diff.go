package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// changesError ends a command that found changes and is asked to say so by its exit code.
// Nothing is printed for it.
type changesError struct{}

func (changesError) Error() string { return "there are changes" }

// comparingError is the failure of a command whose exit code 1 means changes.
type comparingError struct{ error }

func (e comparingError) Unwrap() error { return e.error }

// comparing keeps exit code 1 for changes: other failures that would have it get
// ExitNotCompared.
func comparing(err error) error {
	if err == nil || errors.As(err, new(changesError)) {
		return err
	}
	return comparingError{err}
}

type diffOptions struct {
	sources
	force   bool
	manager string
}

func (a *app) diffCommand() *cobra.Command {
	var o diffOptions
	var revision string
	cmd := &cobra.Command{
		Use:   "diff -f FILE|DIR|- | sync/NAME --revision COMMIT",
		Short: "Show what applying documents would change, as a unified diff",
		Long: "Show what applying documents would change, as a unified diff of the YAML of each resource as\n" +
			"it is and as the daemon would store it. Nothing is changed. `proxctl plan` shows what would\n" +
			"happen outside too. With --revision: what a Sync would do with another commit.\n\n" +
			"Exit codes: 0 no changes, 1 changes, above 1 as of every command, 6 for other failures.",
		Example: "  proxctl diff -f manifests/quickstart/\n  proxctl diff sync/main --revision latest",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case revision == "" && len(args) > 0:
				return noArgs(cmd, args)
			case revision == "":
				return comparing(a.diff(cmd.Context(), o))
			case len(o.files) > 0:
				return usagef("diff needs either -f or --revision, not both")
			}
			return comparing(a.diffRevision(cmd.Context(), args, revision, defaultOperationTimeout))
		},
	}
	cmd.Flags().StringVar(&revision, "revision", "", "`commit` of the repository of a Sync, previous or latest, in place of files")
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.force, "force", false, "take fields over that other managers set to other values")
	cmd.Flags().StringVar(&o.manager, "field-manager", manager, "`name` of who would own the fields that the documents set")
	return cmd
}

func (a *app) diff(ctx context.Context, o diffOptions) error {
	planned, err := a.planDocuments(ctx, "diff", o.sources, client.PlanOptions{Manager: o.manager, Force: o.force})
	if err != nil {
		return err
	}
	changed := false
	for _, p := range planned {
		text, err := unified(p)
		if err != nil {
			return err
		}
		changed = changed || len(text) > 0
		for line := range bytes.Lines(text) {
			if _, err := fmt.Fprintln(a.Out, a.paintDiff(term.CleanLog(strings.TrimSuffix(string(line), "\n")))); err != nil {
				return err
			}
		}
	}
	if changed {
		return changesError{}
	}
	return nil
}

// planDocuments reads documents and asks the daemon for their plan.
func (a *app) planDocuments(ctx context.Context, command string, s sources, opts client.PlanOptions) ([]client.Planned, error) {
	if len(s.files) == 0 {
		return nil, usagef("%s needs -f FILE, -f DIR or -f -", command)
	}
	docs, err := s.read(a.registry, a.In)
	if err != nil {
		return nil, err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.intoNamespace(docs, conn.namespace); err != nil {
		return nil, err
	}
	planned, err := conn.Plan(ctx, docs, opts)
	if errors.Is(err, client.ErrInvalid) {
		// As in apply: the same checks here can name the lines of both documents.
		if better := checkOffline(ctx, a.registry, docs); better != nil {
			return nil, better
		}
	}
	return planned, err
}

// unified is the diff of one object, nil when nothing changes.
func unified(p client.Planned) ([]byte, error) {
	if p.Result == resultUnchanged {
		return nil, nil
	}
	live, err := diffText(p.Live)
	if err != nil {
		return nil, err
	}
	next, err := diffText(p.Planned)
	if err != nil {
		return nil, err
	}
	name := p.Key.Short()
	if p.Key.Namespace != "" {
		name = p.Key.Namespace + "/" + name
	}
	text := diff.Diff("live/"+name, live, "planned/"+name, next)
	_, text, _ = bytes.Cut(text, []byte("\n")) // a line that repeats the two names
	return text, nil
}

// diffText is the YAML of what users can set.
func diffText(obj resource.Object) ([]byte, error) {
	if obj == nil {
		return nil, nil
	}
	text, err := editable(obj)
	return []byte(text), err
}

func (a *app) paintDiff(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return a.out.Paint(term.Green, line)
	case strings.HasPrefix(line, "-"):
		return a.out.Paint(term.Red, line)
	case strings.HasPrefix(line, "@@"):
		return a.out.Paint(term.Faint, line)
	}
	return line
}
