package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func (a *app) eventsCommand() *cobra.Command {
	var all bool
	var about string
	cmd := &cobra.Command{
		Use:   "events [--for KIND/NAME]",
		Short: "Show what happened, the newest last",
		Long: "Show what happened, the newest last. Events of cluster-scoped resources (Bridge, Appliance)\n" +
			"are in the namespace " + resource.SystemNamespace + ".",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.events(cmd.Context(), all, about) },
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "in all namespaces")
	cmd.Flags().StringVar(&about, "for", "", "only those about this `KIND/NAME`, whether it still exists or not")
	return cmd
}

func (a *app) events(ctx context.Context, all bool, about string) error {
	if all && (a.flags.namespace != "" || about != "") {
		return usagef("-A together with -n or --for: allowed is one of them")
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	namespace, matches := conn.namespace, func(*v1alpha1.Event) bool { return true }
	if all {
		namespace = ""
	}
	if about != "" {
		if !strings.Contains(about, "/") {
			return usagef("--for %q: allowed is KIND/NAME", about)
		}
		keys, err := conn.refs([]string{about})
		if err != nil {
			return err
		}
		namespace = keys[0].EventNamespace()
		matches = func(e *v1alpha1.Event) bool { return isAbout(e, keys[0], "") }
	}
	found, err := conn.events(ctx, namespace, matches)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		hint := ""
		if !all && about == "" && namespace != resource.SystemNamespace {
			hint = fmt.Sprintf(" in namespace %s; those of bridges and appliances are in -n %s, all of them in -A", namespace, resource.SystemNamespace)
		}
		fmt.Fprintf(a.Err, "No events found%s.\n", hint)
		return nil
	}
	headings := []string{"LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"}
	var rows [][]string
	now := time.Now()
	for _, e := range found {
		row := eventRow(e, now)
		if all {
			row = slices.Insert(row, 0, e.GetMetadata().GetNamespace())
		}
		rows = append(rows, row)
	}
	if all {
		headings = slices.Insert(headings, 0, "NAMESPACE")
	}
	return writeTable(a.Out, headings, rows)
}

// eventRow is LAST, TYPE, REASON, OBJECT, COUNT, MESSAGE.
func eventRow(e *v1alpha1.Event, now time.Time) []string {
	key := resource.Key{Kind: e.GetRegarding().GetKind(), Name: e.GetRegarding().GetName()}
	return []string{
		cellOr(age(e.GetLastTimestamp(), now)), cellOr(e.GetType()), cellOr(term.Clean(e.GetReason())), term.Clean(key.Short()),
		strconv.Itoa(int(e.GetCount())), term.Clean(e.GetMessage()),
	}
}

// events returns the matching events of a namespace ("": all), the newest last.
func (c *connection) events(ctx context.Context, namespace string, matches func(*v1alpha1.Event) bool) ([]*v1alpha1.Event, error) {
	list, err := c.List(ctx, "Event", client.ListOptions{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	var found []*v1alpha1.Event
	for _, obj := range list.Items {
		e, ok := obj.(*v1alpha1.Event)
		if !ok {
			return nil, errors.New("the list of events has something else in it")
		}
		if matches(e) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(x, y *v1alpha1.Event) int {
		return cmp.Or(eventTime(x).Compare(eventTime(y)), cmp.Compare(revision(x), revision(y)))
	})
	return found, nil
}

// revision orders events of the same second. Our daemon's revisions are numbers.
func revision(e *v1alpha1.Event) uint64 {
	n, err := strconv.ParseUint(e.GetMetadata().GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func eventTime(e *v1alpha1.Event) time.Time {
	t, err := time.Parse(time.RFC3339, e.GetLastTimestamp())
	if err != nil {
		return time.Time{}
	}
	return t
}

// eventsAbout returns the events about an object, not those of an earlier one of its name.
func (c *connection) eventsAbout(ctx context.Context, obj resource.Object) ([]*v1alpha1.Event, error) {
	key, uid := resource.KeyOf(obj), obj.GetMetadata().GetUid()
	return c.events(ctx, key.EventNamespace(), func(e *v1alpha1.Event) bool { return isAbout(e, key, uid) })
}

func isAbout(e *v1alpha1.Event, key resource.Key, uid string) bool {
	r := e.GetRegarding()
	return r.GetKind() == key.Kind && r.GetName() == key.Name && r.GetNamespace() == key.Namespace &&
		(uid == "" || r.GetUid() == "" || r.GetUid() == uid)
}
