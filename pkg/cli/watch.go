package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// watch shows a kind, or one object, and then every change, until it is interrupted. It
// survives a restart of the daemon.
func (a *app) watch(ctx context.Context, conn *connection, args []string, o getOptions, out *printer) error {
	if o.sortBy != "" {
		return usagef("-w and --sort-by contradict each other: changes come in the order in which they happen")
	}
	k, opts, err := watchScope(conn, args, o)
	if err != nil {
		return err
	}
	if opts.Name != "" { // watching a name that does not exist would show nothing for ever
		key := resource.Key{Kind: k.Name, Namespace: opts.Namespace, Name: opts.Name}
		if _, err := conn.Get(ctx, key); errors.Is(err, client.ErrNotFound) {
			return missing(key)
		} else if err != nil {
			return err
		}
	}
	opts.Interrupted = func(err error) { fmt.Fprintf(a.Err, "connection lost (%v); trying again\n", err) }
	w := &watchPrinter{printer: out, layout: out.layout(k, false), skip: o.watchOnly}
	err = conn.Follow(ctx, opts, w.event)
	if errors.Is(err, errInterrupted) {
		return nil // the only way to end a watch
	}
	return err
}

func watchScope(conn *connection, args []string, o getOptions) (*kind, client.WatchOptions, error) {
	opts := client.WatchOptions{LabelSelector: o.selector, FieldSelector: o.fields}
	if strings.Contains(args[0], "/") || len(args) > 1 {
		keys, err := conn.refs(args)
		if err != nil {
			return nil, opts, err
		}
		if len(keys) != 1 {
			return nil, opts, usagef("-w shows one object, or all of one kind")
		}
		opts.Kind, opts.Namespace, opts.Name = keys[0].Kind, keys[0].Namespace, keys[0].Name
		return conn.kinds.byName(opts.Kind), opts, nil
	}
	kinds, err := conn.kindList(args[0])
	if err != nil {
		return nil, opts, err
	}
	if len(kinds) != 1 {
		return nil, opts, usagef("-w shows one kind at a time, %q means %d", args[0], len(kinds))
	}
	opts.Kind, opts.Namespace = kinds[0].Name, conn.scope(kinds[0], o.all)
	return kinds[0], opts, nil
}

// watchPrinter writes events. The rows of the snapshot are collected, so that the columns
// of the table are as wide as its content; later rows use the same widths.
type watchPrinter struct {
	*printer
	layout   layout
	skip     bool // the snapshot is not shown
	live     bool // the snapshot is complete
	snapshot [][]string
	wide     []int
}

func (w *watchPrinter) event(ev client.Event) error {
	switch {
	case ev.Type == client.Bookmark:
		if w.live {
			return nil
		}
		w.live = true
		return w.startTable()
	case ev.Object == nil || w.skip && !w.live:
		return nil
	}
	switch w.format {
	case formatJSON:
		return w.jsonLine(ev.Type, ev.Object)
	case formatName:
		_, err := fmt.Fprintln(w.w, resource.KeyOf(ev.Object).Short())
		return err
	case formatYAML:
		if _, err := fmt.Fprintln(w.w, "---"); err != nil {
			return err
		}
		return w.yaml([]resource.Object{ev.Object}, true)
	case formatJSONPath:
		return w.jsonPathOnce(ev.Object)
	}
	return w.row(ev)
}

// jsonPathOnce executes the template on one object; it has to be parsed for each, as one
// with a range can be executed once only.
func (w *watchPrinter) jsonPathOnce(obj resource.Object) error {
	_, text, _ := strings.Cut(w.opts.output, "=")
	var err error
	if w.template, err = newTemplate("-o jsonpath", text); err != nil {
		return err
	}
	return w.jsonPath([]resource.Object{obj}, true)
}

// row writes a line of a table.
func (w *watchPrinter) row(ev client.Event) error {
	var row []string
	if w.format == formatColumns {
		var err error
		if row, err = w.customRow(ev.Object); err != nil {
			return err
		}
	} else {
		row = w.layout.row(ev.Object, time.Now())
		if ev.Type == client.Deleted {
			row[w.layout.ageColumn()] = "deleted"
		}
	}
	if !w.live {
		w.snapshot = append(w.snapshot, row)
		return nil
	}
	return writeRows(w.w, nil, [][]string{row}, w.wide)
}

func (w *watchPrinter) startTable() error {
	var headings []string
	switch w.format {
	case formatTable, formatWide:
		headings = w.layout.headings()
	case formatColumns:
		headings = w.customHeadings()
	default:
		return nil
	}
	w.wide = widths(headings, w.snapshot)
	if w.opts.noHeaders {
		headings = nil
	}
	return writeRows(w.w, headings, w.snapshot, w.wide)
}
