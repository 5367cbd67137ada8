package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// maxConflicts is how often a change is made again on what somebody else changed
// meanwhile: controllers write the status of an object several times while it comes up.
const maxConflicts = 10

// markOptions are those of label and annotate, which differ in what they write to.
type markOptions struct {
	selection
	writeFlags
	overwrite bool
	list      bool
	what      string // label
	done      string // labeled
	of        func(*v1alpha1.ObjectMeta) *map[string]string
}

func (a *app) labelCommand() *cobra.Command {
	return a.markCommand(markOptions{what: "label", done: "labeled",
		of: func(m *v1alpha1.ObjectMeta) *map[string]string { return &m.Labels }})
}

func (a *app) annotateCommand() *cobra.Command {
	return a.markCommand(markOptions{what: "annotation", done: "annotated",
		of: func(m *v1alpha1.ObjectMeta) *map[string]string { return &m.Annotations }})
}

func (a *app) markCommand(o markOptions) *cobra.Command {
	verb := map[string]string{"label": "label", "annotation": "annotate"}[o.what]
	cmd := &cobra.Command{
		Use:   verb + " KIND/NAME... | KIND NAME... | KIND --all  KEY=VALUE... KEY-...",
		Short: "Set and remove " + o.what + "s of resources",
		Long: "Set " + o.what + "s by KEY=VALUE and remove them by KEY-. Another value that is already\n" +
			"there is an error, and the resource stays as it is, unless --overwrite is given.",
		Example: "  proxctl " + verb + " app/nginx-01 tier=web old-",
		Args:    atLeast(1, "resources, and KEY=VALUE or KEY-"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.mark(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.overwrite, "overwrite", false, "replace values that are there")
	f.BoolVar(&o.list, "list", false, "show the "+o.what+"s that there are, after those that are changed")
	o.selection.addFlags(cmd)
	o.writeFlags.addFlags(cmd, "proxctl-"+verb)
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

// marks are the wanted changes: a value to set, nil to remove.
type marks map[string]*string

// parseMarks splits the arguments into resources and, after them, changes.
func parseMarks(args []string, o markOptions) (resources []string, m marks, err error) {
	isMark := func(arg string) bool { return strings.Contains(arg, "=") || strings.HasSuffix(arg, "-") }
	first := slices.IndexFunc(args, isMark)
	switch {
	case first < 0 && o.list:
		return args, marks{}, nil
	case first < 0 || first == 0 && len(o.files) == 0:
		return nil, nil, usagef("allowed are resources, and after them KEY=VALUE to set and KEY- to remove")
	}
	m = marks{}
	for _, arg := range args[first:] {
		key, value, set := strings.Cut(arg, "=")
		if !set {
			if key, set = strings.CutSuffix(arg, "-"); !set {
				return nil, nil, usagef("%q: resources stand before KEY=VALUE and KEY-", arg)
			}
			set = false
		}
		if _, twice := m[key]; twice || key == "" {
			return nil, nil, usagef("%q: every key can be given once", arg)
		}
		if m[key] = nil; set {
			m[key] = &value
		}
	}
	return args[:first], m, nil
}

func (a *app) mark(ctx context.Context, args []string, o markOptions) error {
	args, changes, err := parseMarks(args, o)
	if err != nil {
		return err
	}
	out, err := a.writes(o.writeFlags)
	if err != nil {
		return err
	}
	conn, keys, _, err := a.chosen(ctx, args, o.selection, "this")
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		fmt.Fprintln(a.Err, "No resources found.")
	}
	var errs []error
	for _, key := range keys {
		obj, changed, err := conn.modify(ctx, key, o.options(), func(obj resource.Object) error {
			return changes.apply(o.of(obj.GetMetadata()), key, o)
		})
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case o.list:
			a.listMarks(key, *o.of(obj.GetMetadata()), len(keys) > 1)
		case changed:
			out.add(key, obj, o.done)
		default:
			out.add(key, obj, "not "+o.done+": nothing to change")
		}
	}
	return errors.Join(append(errs, out.end())...)
}

// listMarks writes KEY=VALUE lines, under the object's name when there are several.
func (a *app) listMarks(key resource.Key, m map[string]string, several bool) {
	if several {
		fmt.Fprintf(a.Out, "# %s\n", key.Short())
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintln(a.Out, term.Clean(name+"="+m[name]))
	}
}

// apply makes the changes, all or none.
func (m marks) apply(to *map[string]string, key resource.Key, o markOptions) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		old, has := (*to)[name]
		if value := m[name]; value != nil && has && old != *value && !o.overwrite {
			return fmt.Errorf("%s has the %s %s=%s already; --overwrite replaces it", key.Short(), o.what, name, old)
		}
	}
	for name, value := range m {
		switch {
		case value == nil:
			delete(*to, name)
		case *to == nil:
			*to = map[string]string{name: *value}
		default:
			(*to)[name] = *value
		}
	}
	return nil
}

// modify changes an object as it is now; when somebody else was faster, it does so again
// on the result, at most maxConflicts times. It returns the object as it is then, and tells
// whether there was anything to change.
func (c *connection) modify(ctx context.Context, key resource.Key, opts []client.WriteOption, change func(resource.Object) error) (obj resource.Object, changed bool, err error) {
	for range maxConflicts {
		var cur resource.Object
		if cur, err = c.Get(ctx, key); errors.Is(err, client.ErrNotFound) {
			return nil, false, missing(key)
		} else if err != nil {
			return nil, false, err
		}
		obj = resource.Clone(cur)
		if err = change(obj); err != nil {
			return nil, false, err
		}
		if resource.EqualField(cur, obj, "metadata") && resource.EqualField(cur, obj, "spec") {
			return cur, false, nil
		}
		if obj, err = c.Update(ctx, obj, opts...); !outdated(err) {
			return obj, err == nil, err
		}
	}
	return nil, false, err
}
