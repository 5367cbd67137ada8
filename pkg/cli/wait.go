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
		Use:   "wait --for=condition=TYPE[=VALUE]|jsonpath=PATH[=VALUE]|create|delete KIND/NAME... | KIND NAME... | KIND --all",
		Short: "Wait until resources have a condition or a value, or are gone",
		Example: "  proxctl wait --for=condition=Ready app/nginx-01 --timeout=60s\n" +
			"  proxctl wait --for=condition=Ready apps --all\n" +
			"  proxctl wait --for=jsonpath='{.status.state}'=Stopped app/nginx-01\n" +
			"  proxctl wait --for=delete app/nginx-01",
		RunE: func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.goal, "for", "condition=Ready", "`goal`: condition=TYPE[=VALUE], jsonpath=PATH[=VALUE], create or delete")
	f.DurationVar(&o.timeout, "timeout", defaultWaitTimeout, "how long to wait")
	o.selection.addFlags(cmd)
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
	conn, keys, byName, err := a.chosen(ctx, args, o.selection, "wait")
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return &notFoundError{"there is nothing to wait for: no resources found" + hintScope(conn, o.selection)}
	}
	if byName && o.goal != "delete" && o.goal != "create" {
		if err := conn.mustExist(ctx, keys); err != nil {
			return err
		}
	}
	board, err := a.await(ctx, conn, wish{targets: targetsOf(keys), goal: goal, word: word, timeout: o.timeout, quiet: true})
	for _, item := range board.Items() {
		switch {
		case item.Done && (o.goal == "delete" || o.goal == "create"):
			fmt.Fprintf(a.Out, "%s %s\n", item.Name, word)
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

// parseGoal reads --for; word is what reaching it is called.
func parseGoal(text string) (goal progress.Goal, word string, err error) {
	switch typ, rest, _ := strings.Cut(text, "="); {
	case text == "delete":
		return isGone, "deleted", nil
	case text == "create":
		return func(obj resource.Object) bool { return obj != nil }, "created", nil
	case typ == "condition":
		goal, word = conditionGoal(rest)
	case typ == "jsonpath":
		goal, word, err = pathGoal(rest)
	}
	if goal == nil && err == nil {
		err = usagef("--for %q: allowed are condition=TYPE, condition=TYPE=VALUE (True, False, Unknown), jsonpath=PATH, jsonpath=PATH=VALUE, create and delete", text)
	}
	return goal, word, err
}

// conditionGoal reads TYPE or TYPE=VALUE. A condition counts when it speaks of the current
// generation. nil: it is neither.
func conditionGoal(text string) (goal progress.Goal, word string) {
	typ, value, hasValue := strings.Cut(text, "=")
	if typ == "" || hasValue && value == "" {
		return nil, ""
	}
	if !hasValue {
		text, value = typ, "True"
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
	}, text
}

// pathGoal reads PATH, which must lead to something, or PATH=VALUE, which must lead to that
// only. An equals sign inside the braces belongs to the path.
func pathGoal(text string) (goal progress.Goal, word string, err error) {
	end := strings.LastIndexByte(text, '}') + 1
	tail, value, hasValue := strings.Cut(text[end:], "=")
	path, err := newPath("--for jsonpath", text[:end]+tail)
	if err != nil || hasValue && value == "" {
		return nil, "", err
	}
	return func(obj resource.Object) bool {
		if obj == nil {
			return false
		}
		data, err := objectValue(obj)
		if err != nil {
			return false
		}
		found, err := find(path, data)
		if err != nil || !hasValue {
			return err == nil && len(found) > 0
		}
		return len(found) == 1 && valueText(found[0]) == value
	}, text, nil
}
