package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/cli/progress"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// manager owns the fields that proxctl applies when no other is named.
const manager = "proxctl"

// defaultApplyTimeout is how long --wait waits: a first deployment installs packages.
const defaultApplyTimeout = 5 * time.Minute

type applyOptions struct {
	sources
	writeFlags
	server  bool // --server-side, for those who are used to it
	wait    bool
	timeout time.Duration
	each    bool // --keep-going
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR|-",
		Short: "Create or change resources from documents, all of them or none",
		Long: "Create or change resources from documents, all of them or none.\n\n" +
			"With --keep-going each document is applied by itself: one that is refused keeps no other from\n" +
			"being applied, all that was refused is told at the end, and the exit code is not 0.",
		Example: "  proxctl apply -f manifests/quickstart/ --wait\n" +
			"  proxctl get app nginx-01 -o yaml | proxctl apply -f -",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), o) },
	}
	o.sources.addFlags(cmd)
	o.writeFlags.addFlags(cmd, manager)
	cmd.Flags().Lookup("force").Usage = "take fields over that other managers set to other values, and change what a Sync keeps"
	cmd.Flags().BoolVar(&o.force, "force-conflicts", false, "the same as --force")
	cmd.Flags().BoolVar(&o.server, "server-side", true, "every apply is")
	_ = cmd.Flags().MarkHidden("force-conflicts") // they are there: hiding cannot fail
	_ = cmd.Flags().MarkHidden("server-side")
	cmd.Flags().BoolVarP(&o.each, "keep-going", "k", false, "apply each document by itself, and go on when one is refused")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until everything that was applied is Ready")
	cmd.Flags().DurationVar(&o.timeout, "timeout", defaultApplyTimeout, "how long --wait waits")
	return cmd
}

func (a *app) apply(ctx context.Context, o applyOptions) error {
	if len(o.files) == 0 {
		return usagef("apply needs -f FILE, -f DIR or -f -")
	}
	if !o.server {
		return usagef("--server-side=false: every apply is done by the daemon, which knows who owns which field; leave it out")
	}
	if err := positive("timeout", o.timeout); err != nil {
		return err
	}
	out, err := a.writes(o.writeFlags)
	if err != nil {
		return err
	}
	var docs []resource.Document
	var unread []resource.FieldErrors
	if o.each {
		docs, unread, err = o.readEach(a.registry, a.In)
	} else {
		docs, err = o.read(a.registry, a.In)
	}
	if err != nil {
		return err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if err := a.intoNamespace(docs, conn.namespace); err != nil {
		return err
	}
	start := time.Now()
	results, err := conn.ApplySet(ctx, docs, client.ApplyOptions{Manager: o.manager, DryRun: o.dryRun.on(), Force: o.force, PerObject: o.each})
	if errors.Is(err, client.ErrInvalid) {
		// What the daemon saw were single lines of JSON. The same checks here can name the
		// lines of both documents where two contradict each other.
		if better := checkOffline(ctx, a.registry, docs); better != nil {
			return better
		}
	}
	if err != nil {
		return err
	}
	applied, refused := a.tell(out, results, unread)
	if err := out.end(); err != nil {
		return err
	}
	if !o.wait || o.dryRun.on() {
		return refused
	}
	return errors.Join(a.awaitReady(ctx, conn, applied, o, start), refused)
}

// tell prints the results, why documents were refused on standard error, and returns those
// that were applied and an error that counts the others. unread are documents that were
// not sent, because they mean nothing.
func (a *app) tell(out *written, results []client.ApplyResult, unread []resource.FieldErrors) (applied []client.ApplyResult, err error) {
	failed := 0
	for _, wrong := range unread {
		if failed++; failed <= maxShownErrors {
			for _, f := range wrong.Bounded() {
				fmt.Fprintln(a.Err, term.Clean(f.Error()))
			}
		}
	}
	for _, r := range results {
		if r.Err == nil {
			out.add(r.Key, r.Object, r.Outcome)
			applied = append(applied, r)
			continue
		}
		if out.flags.output == "" { // what programs read has only what was applied
			out.add(r.Key, nil, r.Outcome)
		}
		if failed++; failed <= maxShownErrors {
			reportDocument(a.Err, r)
		}
	}
	if failed == 0 {
		return applied, nil
	}
	if failed > maxShownErrors {
		fmt.Fprintf(a.Err, "and %s\n", counted(failed-maxShownErrors, "more document"))
	}
	return applied, fmt.Errorf("%d of %s failed", failed, counted(len(results)+len(unread), "document"))
}

// reportDocument prints why a document was refused, a line for each cause.
func reportDocument(w io.Writer, r client.ApplyResult) {
	var answer *client.Error
	if !errors.As(r.Err, &answer) || len(answer.Causes) == 0 {
		fmt.Fprintf(w, "%s: %s\n", r.Key.Short(), term.Clean(r.Err.Error()))
		return
	}
	for _, c := range answer.Causes {
		fmt.Fprintf(w, "%s: %s\n", r.Key.Short(), term.Clean(c.String()))
	}
}

// awaitReady waits until all applied objects are Ready, and ends with the addresses, for people.
func (a *app) awaitReady(ctx context.Context, conn *connection, results []client.ApplyResult, o applyOptions, start time.Time) error {
	var keys []resource.Key
	for _, r := range results {
		if k := conn.kinds.byName(r.Key.Kind); k != nil && k.hasReady() {
			keys = append(keys, r.Key)
		}
	}
	if len(keys) == 0 {
		return nil // Namespaces and the like are done when they are stored
	}
	board, err := a.await(ctx, conn, wish{
		targets: targetsOf(keys), goal: isReady, word: "Ready", timeout: max(time.Second, o.timeout-time.Since(start)),
	})
	if errors.Is(err, errInterrupted) {
		return fmt.Errorf("%w: nothing was undone, the daemon goes on; `proxctl get all` shows the state, "+
			"the same command with --wait waits again", err)
	}
	if err != nil || o.output != "" { // what programs read has nothing after it
		return err
	}
	fmt.Fprintln(a.Out)
	progress.Summary(a.Out, board, time.Now(), "Ready")
	return a.addresses(ctx, conn, results)
}

func isReady(obj resource.Object) bool { return obj != nil && resource.IsReady(obj) }

// hasReady tells whether objects of the kind ever become Ready: those that show it.
func (k *kind) hasReady() bool {
	return slices.ContainsFunc(k.Columns, func(c *columnOption) bool { return c.GetPath() == "condition:Ready" })
}
