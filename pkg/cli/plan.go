package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/cli/planview"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// resultUnchanged is what the daemon calls a document that changes nothing.
const resultUnchanged = "unchanged"

type planOptions struct {
	selection
	force    bool
	manager  string
	delete   bool
	output   string
	detailed bool
}

func (a *app) planCommand() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan -f FILE|DIR|- | KIND NAME... | KIND/NAME... | KIND --all",
		Short: "Show what applying or deleting would do, step by step, and change nothing",
		Long: "Show which fields applying documents would change and what would then happen outside, step\n" +
			"by step, each with its effect: in place, restart, recreate or data loss. The steps are those\n" +
			"that the daemon would take from what it saw last; how old that is, is told. Nothing is\n" +
			"changed. Without -f: what there is to do for resources that exist. With --delete: what\n" +
			"deleting them would do.\n\n" +
			"Exit codes with --detailed-exitcode: 0 nothing to do, 1 changes or steps, above 1 as of every\n" +
			"command, 6 for other failures. Without it a plan with changes is a success, 0.",
		Example: "  proxctl plan -f manifests/quickstart/\n" +
			"  proxctl plan --delete app nginx-01\n" +
			"  proxctl plan -f . -o markdown --detailed-exitcode",
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.plan(cmd.Context(), args, o)
			if o.detailed {
				return comparing(err)
			}
			return err
		},
	}
	o.selection.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.force, "force", false, "take fields over that other managers set to other values")
	f.StringVar(&o.manager, "field-manager", manager, "`name` of who would own the fields that the documents set")
	f.BoolVar(&o.delete, "delete", false, "plan the deletion of the resources")
	f.StringVarP(&o.output, "output", "o", planview.Text, "text, markdown, json or yaml")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "exit with 1 when there is anything to do")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) plan(ctx context.Context, args []string, o planOptions) error {
	if err := o.check(args, "plan"); err != nil {
		return err
	}
	if !slices.Contains(planview.Formats, o.output) {
		return usagef("-o %q: allowed are text, markdown, json and yaml", o.output)
	}
	var planned []client.Planned
	var err error
	if len(o.files) > 0 && !o.delete {
		planned, err = a.planDocuments(ctx, "plan", o.sources, client.PlanOptions{Manager: o.manager, Force: o.force})
	} else {
		planned, err = a.planObjects(ctx, args, o)
	}
	if err != nil {
		return err
	}
	if err := planview.Write(a.Out, a.out, o.output, planned); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	if o.detailed && planview.Summarize(planned).Anything() {
		return changesError{}
	}
	return nil
}

// planObjects asks for the plan of resources that exist; those to be deleted in the order
// in which delete asks for it.
func (a *app) planObjects(ctx context.Context, args []string, o planOptions) ([]client.Planned, error) {
	conn, keys, _, err := a.chosen(ctx, args, o.selection, "plan")
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, nil
	}
	if o.delete {
		if len(o.files) > 0 {
			slices.Reverse(keys)
		}
		slices.SortStableFunc(keys, func(x, y resource.Key) int { return conn.order(y) - conn.order(x) })
	}
	planned, err := conn.PlanObjects(ctx, keys, o.delete)
	var answer *client.Error
	if errors.Is(err, client.ErrNotFound) && errors.As(err, &answer) && answer.Key.Name != "" {
		return nil, missing(answer.Key)
	}
	return planned, err
}
