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
	switch out.format {
	case formatYAML, formatJSONPath, formatColumns:
		return usagef("-w with -o %s: allowed are tables, json and name", out.format)
	}
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
	w := &watchPrinter{printer: out, layout: out.layout(k, false)}
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
	snapshot [][]string
	wide     []int // nil: the snapshot is not complete
}

func (w *watchPrinter) event(ev client.Event) error {
	switch {
	case ev.Type == client.Bookmark:
		return w.startTable()
	case ev.Object == nil:
		return nil
	case w.format == formatJSON:
		return w.jsonLine(ev.Type, ev.Object)
	case w.format == formatName:
		_, err := fmt.Fprintln(w.w, resource.KeyOf(ev.Object).Short())
		return err
	}
	row := w.layout.row(ev.Object, time.Now())
	if ev.Type == client.Deleted {
		row[w.layout.ageColumn()] = "deleted"
	}
	if w.wide == nil {
		w.snapshot = append(w.snapshot, row)
		return nil
	}
	return writeRows(w.w, nil, [][]string{row}, w.wide)
}

func (w *watchPrinter) startTable() error {
	if w.wide != nil || w.format == formatJSON || w.format == formatName {
		return nil
	}
	headings := w.layout.headings()
	w.wide = widths(headings, w.snapshot)
	if w.opts.noHeaders {
		headings = nil
	}
	return writeRows(w.w, headings, w.snapshot, w.wide)
}
