package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// columnOption is a column as a kind declares it.
type columnOption = v1alpha1.PrinterColumn

type getOptions struct {
	output     string
	selector   string
	fields     string
	sortBy     string
	all        bool
	watch      bool
	watchOnly  bool
	ignore     bool     // what does not exist
	columns    []string // of labels
	noHeaders  bool
	showLabels bool
	managed    bool
	chunk      int
	values     bool // of Secrets
}

// defaultChunk is how many objects get asks for at a time: an answer of 500 Apps has about
// 1 MB, so neither side holds much more than what is shown in the end.
const defaultChunk = 500

func (a *app) getCommand() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get KIND[,KIND...]|all [NAME...] | KIND/NAME...",
		Short: "Show resources",
		Example: "  proxctl get all\n" +
			"  proxctl get apps -A -o wide\n" +
			"  proxctl get app nginx-01 -o yaml\n" +
			"  proxctl get app/nginx-01 vhost/nginx-01\n" +
			"  proxctl get apps --sort-by .status.vmid -o custom-columns=NAME:.metadata.name,VMID:.status.vmid\n" +
			"  proxctl get apps -o jsonpath='{range .items[*]}{.metadata.name}{\"\\n\"}{end}'\n" +
			"  proxctl get events -A --field-selector type=Warning\n" +
			"  proxctl get apps -w",
		Args: atLeast(1, "a kind, for example `proxctl get apps` or `proxctl get all`"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.get(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "`format`: wide, yaml, json, name, jsonpath=TEMPLATE or custom-columns=HEADING:PATH,...")
	f.StringVarP(&o.selector, "selector", "l", "", "label `selector`, for example tier=web,env!=test")
	f.StringVar(&o.fields, "field-selector", "", "field `selector`, for example metadata.name=web or status.phase!=Succeeded")
	f.StringVar(&o.sortBy, "sort-by", "", "`path` of the field to sort by, for example .status.vmid")
	f.BoolVar(&o.showLabels, "show-labels", false, "in tables: the labels, as the last column")
	f.StringSliceVarP(&o.columns, "label-columns", "L", nil, "in tables: a column for each of these `labels`")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "in all namespaces")
	f.BoolVarP(&o.watch, "watch", "w", false, "then show changes until interrupted; -o json gives a line for each")
	f.BoolVar(&o.watchOnly, "watch-only", false, "show changes only, not what there is")
	f.BoolVar(&o.ignore, "ignore-not-found", false, "what does not exist is no error, and is not shown")
	f.BoolVar(&o.noHeaders, "no-headers", false, "no line of headings")
	f.BoolVar(&o.managed, "show-managed-fields", false, "with yaml and json: who set which field")
	f.BoolVar(&o.values, "show-values", false, "of named Secrets: the values; needs the right to secrets-read and is audited")
	f.IntVar(&o.chunk, "chunk-size", defaultChunk, "ask for this `number` of objects at a time; 0: for all at once")
	cmd.ValidArgsFunction = a.completeObjects
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"wide", "yaml", "json", "name", "jsonpath=", "custom-columns="}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) get(ctx context.Context, args []string, o getOptions) error {
	if args[0] == "leases" && o.output == "" && !o.watch { // no kind, and asked for like one
		return a.leases(ctx, args[1:])
	}
	out, err := newPrinter(a.Out, o)
	if err != nil {
		return err
	}
	if o.chunk < 0 {
		return usagef("--chunk-size %d: allowed is a positive number, or 0 for all at once", o.chunk)
	}
	if o.all && a.flags.namespace != "" {
		return usagef("--namespace and --all-namespaces contradict each other: give one")
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	named := strings.Contains(args[0], "/") || len(args) > 1
	if named && (o.selector != "" || o.fields != "" || o.all) {
		return usagef("names together with -l, --field-selector or -A: allowed is one of them")
	}
	if o.values {
		return a.showValues(ctx, conn, args)
	}
	if o.watch || o.watchOnly {
		return a.watch(ctx, conn, args, o, out)
	}
	if named {
		return a.getNamed(ctx, conn, args, o, out)
	}
	kinds, err := conn.kindList(args[0])
	if err != nil {
		return err
	}
	return a.getKinds(ctx, conn, kinds, o, out)
}

// kindList reads KIND[,KIND...].
func (c *connection) kindList(words string) ([]*kind, error) {
	var kinds []*kind
	seen := map[string]bool{}
	for word := range strings.SplitSeq(words, ",") {
		found, err := c.kinds.find(word)
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			if !seen[k.Name] {
				kinds = append(kinds, k)
			}
			seen[k.Name] = true
		}
	}
	return kinds, nil
}

// getNamed shows objects by name. Those that exist are shown even if others don't.
func (a *app) getNamed(ctx context.Context, conn *connection, args []string, o getOptions, out *printer) error {
	keys, err := conn.refs(args)
	if err != nil {
		return err
	}
	var errs []error
	var objs []resource.Object
	for _, key := range keys {
		obj, err := conn.Get(ctx, key)
		switch {
		case errors.Is(err, client.ErrNotFound):
			if !o.ignore {
				errs = append(errs, missing(key))
			}
		case err != nil:
			return err
		default:
			objs = append(objs, obj)
		}
	}
	if len(objs) > 0 {
		if err := sorted(objs, o); err != nil {
			return err
		}
		if err := out.objects(conn.kinds, objs, len(keys) == 1, time.Now()); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func (a *app) getKinds(ctx context.Context, conn *connection, kinds []*kind, o getOptions, out *printer) error {
	var objs []resource.Object
	for _, k := range kinds {
		list, err := conn.ListAll(ctx, k.Name, client.ListOptions{Namespace: conn.scope(k, o.all), LabelSelector: o.selector, FieldSelector: o.fields, Limit: o.chunk})
		if err != nil {
			return err
		}
		objs = append(objs, list.Items...)
	}
	if err := sorted(objs, o); err != nil {
		return err
	}
	if len(objs) == 0 && out.format != formatJSON && out.format != formatYAML && out.format != formatJSONPath {
		fmt.Fprintln(a.Err, "No resources found"+conn.whereText(kinds, o.all)+".")
		return nil
	}
	return out.objects(conn.kinds, objs, false, time.Now())
}

// sorted sorts when that is wanted.
func sorted(objs []resource.Object, o getOptions) error {
	if o.sortBy == "" {
		return nil
	}
	return sortBy(objs, o.sortBy)
}

// scope is the namespace to list a kind in, "" for all.
func (c *connection) scope(k *kind, all bool) string {
	if !k.Namespaced || all {
		return ""
	}
	return c.namespace
}

func (c *connection) whereText(kinds []*kind, all bool) string {
	for _, k := range kinds {
		if k.Namespaced && !all {
			return " in namespace " + c.namespace
		}
	}
	return ""
}
