package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/cli/progress"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const defaultWaitTimeout = time.Minute

type waitOptions struct {
	selection
	goal    string
	timeout time.Duration
}

func (a *app) waitCommand() *cobra.Command {
	var o waitOptions
	cmd := &cobra.Command{
		Use:   "wait --for=condition=TYPE[=VALUE]|delete KIND/NAME... | KIND NAME... | KIND --all",
		Short: "Wait until resources have a condition, or are gone",
		Example: "  proxctl wait --for=condition=Ready app/nginx-01 --timeout=60s\n" +
			"  proxctl wait --for=condition=Ready apps --all\n" +
			"  proxctl wait --for=delete app/nginx-01",
		Args: atLeast(1, "resources: KIND/NAME..., KIND NAME... or KIND --all"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.goal, "for", "condition=Ready", "`goal`: condition=TYPE, condition=TYPE=VALUE or delete")
	f.DurationVar(&o.timeout, "timeout", defaultWaitTimeout, "how long to wait")
	f.BoolVar(&o.all, "all", false, "all resources of the kind in the namespace")
	f.StringVarP(&o.labels, "selector", "l", "", "those with these labels")
	f.BoolVarP(&o.everyName, "all-namespaces", "A", false, "with --all or -l: in all namespaces")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) wait(ctx context.Context, args []string, o waitOptions) error {
	goal, word, err := parseGoal(o.goal)
	if err != nil {
		return err
	}
	if err := positive("timeout", o.timeout); err != nil {
		return err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	keys, byName, err := conn.choose(ctx, args, o.selection)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return &notFoundError{"there is nothing to wait for: no resources found" + hintScope(conn, o.selection)}
	}
	if byName && o.goal != "delete" {
		if err := conn.mustExist(ctx, keys); err != nil {
			return err
		}
	}
	board, err := a.await(ctx, conn, wish{targets: targetsOf(keys), goal: goal, word: word, timeout: o.timeout, quiet: true})
	for _, item := range board.Items() {
		switch {
		case item.Done && o.goal == "delete":
			fmt.Fprintf(a.Out, "%s deleted\n", item.Name)
		case item.Done:
			fmt.Fprintf(a.Out, "%s condition met\n", item.Name)
		}
	}
	return err
}

func hintScope(c *connection, s selection) string {
	if s.everyName {
		return ""
	}
	return " in namespace " + c.namespace + " (-A looks into all)"
}

// mustExist returns an error that names those that don't: waiting for a condition of
// something that does not exist is most likely a typing mistake.
func (c *connection) mustExist(ctx context.Context, keys []resource.Key) error {
	var errs []error
	for _, key := range keys {
		if _, err := c.Get(ctx, key); errors.Is(err, client.ErrNotFound) {
			errs = append(errs, missing(key))
		} else if err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// parseGoal reads --for. A condition counts when it speaks of the current generation.
func parseGoal(text string) (goal progress.Goal, word string, err error) {
	if text == "delete" {
		return isGone, "deleted", nil
	}
	rest, ok := strings.CutPrefix(text, "condition=")
	typ, value, hasValue := strings.Cut(rest, "=")
	if !ok || typ == "" || hasValue && value == "" {
		return nil, "", usagef("--for %q: allowed are condition=TYPE, condition=TYPE=VALUE (True, False, Unknown) and delete", text)
	}
	word = typ
	if !hasValue {
		value = "True"
	} else {
		word += "=" + value
	}
	return func(obj resource.Object) bool {
		if obj == nil {
			return false
		}
		for _, c := range resource.Conditions(obj) {
			if strings.EqualFold(c.GetType(), typ) {
				return strings.EqualFold(c.GetStatus(), value) && c.GetObservedGeneration() == obj.GetMetadata().GetGeneration()
			}
		}
		return false
	}, word, nil
}
