package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// defaultDeleteTimeout is how long guests may take to shut down, one after the other.
const defaultDeleteTimeout = 2 * time.Minute

type deleteOptions struct {
	selection
	writeFlags
	timeout        time.Duration
	wait           bool
	ignoreNotFound bool
}

func (a *app) deleteCommand() *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete -f FILE|DIR|- | KIND NAME... | KIND/NAME... | KIND --all",
		Short: "Delete resources, with what they stand for, and wait until they are gone",
		Long: "Delete resources and wait until what they stand for is gone too. Deletion is asked for in\n" +
			"the reverse of the order in which apply creates; each resource waits for those that use it.",
		Example: "  proxctl delete -f manifests/quickstart/\n  proxctl delete app nginx-01",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.delete(cmd.Context(), args, o) },
	}
	o.selection.addFlags(cmd)
	o.writeFlags.addFlags(cmd, "")
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", defaultDeleteTimeout, "how long to wait until they are gone")
	f.BoolVar(&o.wait, "wait", true, "wait until they are gone")
	f.BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "what does not exist is no error")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) delete(ctx context.Context, args []string, o deleteOptions) error {
	if o.output != "" && o.output != formatName {
		return usagef("-o %q: allowed is name", o.output)
	}
	if err := positive("timeout", o.timeout); err != nil {
		return err
	}
	conn, keys, _, err := a.chosen(ctx, args, o.selection, "delete")
	if err != nil {
		return err
	}
	if len(o.files) > 0 {
		slices.Reverse(keys)
	}
	// The order is a courtesy (nothing has to wait for long); it is the controllers that
	// keep what is still used.
	slices.SortStableFunc(keys, func(x, y resource.Key) int { return conn.order(y) - conn.order(x) })
	if len(keys) == 0 {
		fmt.Fprintln(a.Err, "No resources found.")
	}
	// A namespace is refused as long as something is in it, so what else there is goes first.
	deadline := time.Now().Add(o.timeout)
	first := slices.DeleteFunc(slices.Clone(keys), isNamespace)
	last := slices.DeleteFunc(slices.Clone(keys), func(k resource.Key) bool { return !isNamespace(k) })
	err = a.deleteAll(ctx, conn, first, o)
	if len(last) == 0 || ctx.Err() != nil {
		return err
	}
	o.timeout = max(time.Second, time.Until(deadline))
	return errors.Join(err, a.deleteAll(ctx, conn, last, o))
}

func isNamespace(k resource.Key) bool { return k.Kind == "Namespace" }

// deleteAll asks for the deletion of all keys and then waits for all of them.
func (a *app) deleteAll(ctx context.Context, conn *connection, keys []resource.Key, o deleteOptions) error {
	var errs []error
	var pending []resource.Key
	uids := map[resource.Key]string{}
	for _, key := range keys {
		obj, err := conn.Delete(ctx, key, "", o.options()...)
		switch {
		case errors.Is(err, client.ErrNotFound):
			if !o.ignoreNotFound {
				errs = append(errs, missing(key))
			}
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		}
		pending = append(pending, key)
		uids[key] = obj.GetMetadata().GetUid()
		switch {
		case o.output == formatName:
			fmt.Fprintln(a.Out, key.Short())
		case o.dryRun.on():
			fmt.Fprintf(a.Out, "%s deleted (dry run)\n", key.Short())
		case !o.wait:
			fmt.Fprintf(a.Out, "%s deletion requested\n", key.Short())
		}
	}
	if o.wait && !o.dryRun.on() && len(pending) > 0 {
		errs = append(errs, a.awaitGone(ctx, conn, pending, uids, o))
	}
	return errors.Join(errs...)
}

// order is the place of a key's kind in the order of apply.
func (c *connection) order(key resource.Key) int {
	if k := c.kinds.byName(key.Kind); k != nil {
		return int(k.info.GetApplyOrder())
	}
	return 0
}

// awaitGone waits until the objects, and not others of their names, are gone.
func (a *app) awaitGone(ctx context.Context, conn *connection, keys []resource.Key, uids map[resource.Key]string, o deleteOptions) error {
	targets := targetsOf(keys)
	for i := range targets {
		targets[i].UID = uids[targets[i].Key]
	}
	board, err := a.await(ctx, conn, wish{targets: targets, goal: isGone, word: "deleted", timeout: o.timeout, quiet: true})
	for _, item := range board.Items() {
		if item.Done && o.output != formatName {
			fmt.Fprintf(a.Out, "%s deleted\n", item.Name)
		}
	}
	if errors.Is(err, errInterrupted) {
		return fmt.Errorf("%w: deletion goes on; `proxctl get all` shows what is left", err)
	}
	return err
}

func isGone(obj resource.Object) bool { return obj == nil }
